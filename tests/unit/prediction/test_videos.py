"""Frames of videos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from segpipe.prediction.videos import VideoError, count_frames, is_video_name, read_frames

WriteVideo = Callable[[Path, int], Path]


def test_each_nth_frame_is_read(tmp_path: Path, write_video: WriteVideo) -> None:
    path = write_video(tmp_path / "a.avi", 8)
    frames = list(read_frames(path, 3))
    assert [frame.number for frame in frames] == [0, 3, 6]
    assert count_frames(path, 3) == 3
    for frame in frames:
        assert frame.pixels.shape == (32, 48, 3)
        assert np.abs(frame.pixels.astype(int) - 20 * frame.number).max() <= 3  # JPEG
    assert [frame.number for frame in read_frames(path, 3, lambda number: number != 3)] == [0, 6]


def test_a_file_that_is_no_video(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(VideoError, match="is not a video"):
        list(read_frames(tmp_path / "a.mp4", 1))
    assert is_video_name("A.MP4")
    assert not is_video_name("a.png")


def test_a_cut_video_gives_its_frames_and_is_named(tmp_path: Path, write_video: WriteVideo) -> None:
    path = write_video(tmp_path / "a.avi", 12)
    header, *chunks = path.read_bytes().split(b"00dc")  # before each frame, and in the index at the end
    path.write_bytes(b"00dc".join([header, *chunks[:6]]))
    frames = read_frames(path, 1)
    assert [next(frames).number for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(VideoError, match=r"ends after \d of the 12 frames"):
        list(frames)
