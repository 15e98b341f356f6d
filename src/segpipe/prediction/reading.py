"""Reads pictures and frames ahead of the prediction, in threads."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from segpipe.data.images import ImageFileError, Picture, load_image, read_header
from segpipe.documents import ImageMapping
from segpipe.prediction.ahead import Task, run_ahead
from segpipe.prediction.inputs import Input, Skipped
from segpipe.prediction.videos import Frame, VideoError, read_frames

# Pictures that are read ahead: as many as this, and no more pixels than one large image has.
MAX_PICTURES, MAX_PX = 32, 1 << 25
FRAME_PX = 1920 * 1080  # of a video's frame, whose size is not known before it is read

# The state of a file: bytes and time of its last change, ns.
Stamp = tuple[int, int]


@dataclass(frozen=True)
class Scene:
    """A picture that was read.

    Attributes:
        name: of its outputs.
        path: of the file.
        stamp: of the file, before it was read.
        picture: its pixels, and what was done to them.
    """

    name: str
    path: Path
    stamp: Stamp
    picture: Picture

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width, pixels."""
        height, width = self.picture.pixels.shape[:2]
        return height, width

    @property
    def num_px(self) -> int:
        """How many pixels it has."""
        return self.size_hw[0] * self.size_hw[1]


Read = Scene | Skipped | None  # None: a video has ended


def stamp_of(path: Path) -> Stamp | None:
    """Gives the state of a file; None if it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def name_of_frame(video: str, number: int) -> str:
    """Gives the name of a frame's outputs."""
    return f"{video}/{number:06d}"


def read_all(
    inputs: Iterable[Input],
    mapping: ImageMapping,
    every: int,
    is_present: Callable[[str, Path, Stamp | None], bool],
    num_threads: int,
) -> Iterator[Scene | Skipped]:
    """Reads all pictures in order; those that cannot be read are given with the reason.

    Args:
        inputs: pictures and videos.
        mapping: how the values of files become RGB.
        every: of a video, each such frame.
        is_present: whether a frame is predicted already, by name, file and its state; it is not read then.
        num_threads: for pictures; a video is read by one thread.
    """
    with ThreadPoolExecutor(num_threads, "read") as pool, ThreadPoolExecutor(1, "video") as video_thread:

        def tasks() -> Iterator[Task[Read]]:
            for one in inputs:
                stamp = stamp_of(one.path)
                if one.is_video:
                    yield from _tasks_of_video(one, stamp or (0, 0), every, is_present, video_thread)
                else:
                    header = read_header(one.path)
                    yield pool, header.reading_px if header else 0, partial(_read, one, stamp, mapping)

        for read in run_ahead(tasks(), MAX_PICTURES, MAX_PX):
            if read is not None:
                yield read


def _read(one: Input, stamp: Stamp | None, mapping: ImageMapping) -> Scene | Skipped:
    try:
        return Scene(one.name, one.path, stamp or (0, 0), load_image(one.path, mapping))
    except ImageFileError as error:
        return Skipped(one.path, str(error))
    except OSError as error:
        return Skipped(one.path, f"cannot be read: {error.strerror or error}")


def _tasks_of_video(
    one: Input,
    stamp: Stamp,
    every: int,
    is_present: Callable[[str, Path, Stamp | None], bool],
    thread: ThreadPoolExecutor,
) -> Iterator[Task[Read]]:
    """Gives tasks that each read the next frame, until one has found the end."""
    is_over = False
    frames = read_frames(
        one.path, every, lambda number: not is_present(name_of_frame(one.name, number), one.path, stamp)
    )

    def read_next() -> Read:
        nonlocal is_over
        try:
            frame: Frame | None = next(frames, None)
        except VideoError as error:
            is_over = True
            return Skipped(one.path, str(error))
        is_over = frame is None
        if frame is None:
            return None
        return Scene(name_of_frame(one.name, frame.number), one.path, stamp, Picture(frame.pixels))

    while not is_over:
        yield thread, FRAME_PX, read_next
