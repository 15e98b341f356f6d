"""Reads the frames of a video, one after another, by OpenCV's decoder."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from segpipe.errors import PredictionError

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"})

# Their headers hold the number of frames; in others it is estimated from the duration.
COUNTED_SUFFIXES = frozenset({".avi", ".m4v", ".mov", ".mp4"})
WHOLE_SHARE = 0.9  # of these frames: some writers count a few that no decoder gives


class VideoError(PredictionError):
    """A file that cannot be read as a video; the message continues a sentence that begins with its name."""


@dataclass(frozen=True)
class Frame:
    """A picture of a video.

    Attributes:
        number: in the video, from 0.
        pixels: (height, width, 3) uint8 RGB, upright.
    """

    number: int
    pixels: npt.NDArray[np.uint8]


def is_video_name(name: str) -> bool:
    """Whether a file with this name is read as a video."""
    return Path(name).suffix.lower() in VIDEO_SUFFIXES


def count_frames(path: Path, every: int) -> int:
    """Gives how many frames `read_frames` will about give, by the file's header; 0 if it is not known."""
    capture = cv2.VideoCapture(str(path))
    try:
        return -(-max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))) // every)
    finally:
        capture.release()


def read_frames(path: Path, every: int, is_wanted: Callable[[int], bool] = lambda number: True) -> Iterator[Frame]:
    """Reads the frames 0, `every`, 2 * `every`, ...; the others are not decoded to pixels.

    Args:
        path: of the file.
        every: at least 1.
        is_wanted: whether a frame with this number is to be given.

    Raises:
        VideoError: it holds no frame that can be read, or ends long before the end that its header names; then the
            frames before were given.
    """
    capture = cv2.VideoCapture(str(path))
    try:
        number = 0
        num_named = capture.get(cv2.CAP_PROP_FRAME_COUNT) if path.suffix.lower() in COUNTED_SUFFIXES else 0
        while capture.grab():
            if number % every == 0 and is_wanted(number):
                is_read, pixels = capture.retrieve()
                if is_read:
                    yield Frame(number, np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8))
            number += 1
    finally:
        capture.release()
    if number == 0:
        raise VideoError("is not a video that can be read. Convert it: `ffmpeg -i FILE -c:v libx264 NEW.mp4`")
    if number < WHOLE_SHARE * num_named:
        what = f"ends after {number} of the {num_named:.0f} frames that its header names, as a cut or damaged file does"
        raise VideoError(f"{what}. The frames before are predicted; replace it by an intact copy")
