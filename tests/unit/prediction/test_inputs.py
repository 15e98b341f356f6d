"""Which files a command line names, and the names of their outputs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from segpipe.errors import PredictionError
from segpipe.prediction.inputs import find_inputs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures in two folders, and other files."""
    names = "in/b.PNG in/sub/a.jpg in/notes.txt in/photo.heif.psd in/clip.mp4 other/b.png other/c.v1.png"
    for name in names.split():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def _names(folder: Path, *arguments: str) -> dict[str, str]:
    inputs, _ = find_inputs([str(folder / argument) for argument in arguments], folder / "out")
    return {one.name: one.path.relative_to(folder).as_posix() for one in inputs}


def test_a_folder_is_searched_and_what_is_not_read_is_named(folder: Path) -> None:
    assert _names(folder, "in") == {"b": "in/b.PNG", "sub/a": "in/sub/a.jpg"}
    _, skipped = find_inputs([str(folder / "in")], folder / "out")
    assert [one.path.name for one in skipped] == ["clip.mp4", "photo.heif.psd"]
    assert "drawing program" in skipped[1].reason


def test_folders_give_their_names_to_their_pictures(folder: Path) -> None:
    assert set(_names(folder, "in", "other")) == {"in/b", "in/sub/a", "other/b", "other/c.v1"}


def test_files_are_named_from_the_folder_that_holds_all(folder: Path) -> None:
    assert _names(folder, "in/b.PNG") == {"b": "in/b.PNG"}
    assert _names(folder, "in/b.PNG", "other/b.png") == {"in/b": "in/b.PNG", "other/b": "other/b.png"}
    assert _names(folder, "*/*.png") == {"b": "other/b.png", "c.v1": "other/c.v1.png"}
    assert set(_names(folder, "in/**/*.jpg")) == {"a"}


def test_a_list_is_read_from_its_own_folder(folder: Path) -> None:
    (folder / "in/list.txt").write_text("# mine\nb.PNG\n\n../other/b.png\nmissing.png\nsub\n", encoding="utf-8")
    inputs, skipped = find_inputs([str(folder / "in/list.txt")], folder / "out")
    assert [one.name for one in inputs] == ["in/b", "other/b"]
    assert [one.path.name for one in skipped] == ["missing.png", "sub"]


def test_a_video_is_one_only_where_it_is_named(folder: Path) -> None:
    inputs, skipped = find_inputs([str(folder / "in/clip.mp4")], folder / "out")
    assert [(one.name, one.is_video) for one in inputs] == [("clip", True)]
    assert not skipped


def test_a_file_that_is_named_twice_is_predicted_once(folder: Path) -> None:
    assert set(_names(folder, "in", "in/b.PNG", "in/sub/../b.PNG")) == {"b", "sub/a"}


def test_files_that_differ_in_their_suffix_keep_it(folder: Path) -> None:
    (folder / "in/b.jpg").touch()
    assert set(_names(folder, "in")) == {"b.PNG", "b.jpg", "sub/a"}


def test_names_whose_outputs_would_replace_others_keep_the_suffix(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("x.jpg", "x.png", "x.jpg.png", "A.bmp", "a.gif", "y.jpg", "y.png/z.jpg", "v.mp4", "v/000000.png"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).touch()
    names = _names(tmp_path, "in", "in/v.mp4")
    assert {name: Path(path).relative_to("in").as_posix() for name, path in names.items()} == {
        "x.jpg": "x.jpg",
        "x.png": "x.png",
        "x.jpg.png": "x.jpg.png",  # x.jpg is another's
        "A.bmp": "A.bmp",  # some disks do not distinguish A and a
        "a.gif": "a.gif",
        "y.jpg": "y.jpg",  # the folder masks/y.png holds z
        "y.png/z": "y.png/z.jpg",
        "v.mp4": "v.mp4",  # the frame 0 would be v/000000
        "v/000000": "v/000000.png",
    }


def test_what_a_folder_only_links_to_is_named(folder: Path) -> None:
    (folder / "in/elsewhere").symlink_to(folder / "other")
    (folder / "in/twice").symlink_to(folder / "in/sub")  # is found where it lies
    (folder / "in/lost.png").symlink_to(folder / "nothing.png")
    os.mkfifo(folder / "in/pipe.jpg")
    inputs, skipped = find_inputs([str(folder / "in")], folder / "out")
    assert {one.name for one in inputs} == {"b", "sub/a"}
    assert {one.path.name for one in skipped} == {"clip.mp4", "photo.heif.psd", "elsewhere", "lost.png", "pipe.jpg"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_cannot_be_read_is_named(folder: Path) -> None:
    (folder / "in/sub").chmod(0)
    inputs, skipped = find_inputs([str(folder / "in")], folder / "out")
    (folder / "in/sub").chmod(0o755)
    assert {one.name for one in inputs} == {"b"}
    assert "sub" in {one.path.name for one in skipped}


def test_a_picture_under_another_name_is_named(folder: Path) -> None:
    for name, suffix in (("IMG_1", "JPEG"), ("a.png.1", "PNG"), ("b.tmp", "GIF")):
        Image.new("L", (4, 4)).save(folder / "in" / name, suffix)
    os.mkfifo(folder / "in/pipe")
    _, skipped = find_inputs([str(folder / "in")], folder / "out")
    named = {one.path.name: one.reason[-4:] for one in skipped if "Rename" in one.reason}
    assert named == {"IMG_1": ".jpg", "a.png.1": ".png", "b.tmp": ".gif"}


def test_both_suffixes_of_a_packed_file_are_no_part_of_the_name(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.nii.gz", "b.nii.gz", "b.nii"):
        (tmp_path / "in" / name).touch()
    assert set(_names(tmp_path, "in")) == {"a", "b.nii", "b.nii.gz"}
    assert set(_names(tmp_path, "in/a.nii.gz")) == {"a"}


def test_a_dicom_file_without_a_suffix_is_named(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/IM0001").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "in/a.png").touch()
    _, (skipped,) = find_inputs([str(tmp_path / "in")], tmp_path / "out")
    assert skipped.path.name == "IM0001" and "NAME.dcm" in skipped.reason


def test_what_is_named_by_itself_is_not_skipped_in_its_folder(folder: Path) -> None:
    (folder / "in/elsewhere").symlink_to(folder / "other")
    arguments = [str(folder / "in" / name) for name in ("", "clip.mp4", "elsewhere")]
    inputs, skipped = find_inputs(arguments, folder / "out")
    assert {"clip", "other/b", "in/b"} <= {one.name for one in inputs}
    assert [one.path.name for one in skipped] == ["photo.heif.psd"]


def test_a_name_in_another_encoding_is_named(folder: Path) -> None:
    (folder / "in" / os.fsdecode(b"stra\xdfe.png")).touch()  # Latin-1
    inputs, skipped = find_inputs([str(folder / "in")], folder / "out")
    assert {one.name for one in inputs} == {"b", "sub/a"}
    assert sum("UTF-8" in one.reason for one in skipped) == 1


def test_a_pattern_does_not_match_the_predictions(folder: Path) -> None:
    (folder / "out/masks").mkdir(parents=True)
    (folder / "out/masks/b.png").touch()
    assert set(_names(folder, "**/*.png")) == {"b", "c.v1"}


def test_equal_names_are_refused(folder: Path) -> None:
    (folder / "else/in").mkdir(parents=True)
    (folder / "else/in/b.PNG").touch()
    with pytest.raises(PredictionError, match=r"same name.*else/in/b\.PNG"):
        find_inputs([str(folder / "in"), str(folder / "else/in")], folder / "out")


def test_all_wrong_arguments_are_named_at_once(folder: Path) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(PredictionError) as caught:
        find_inputs([str(folder / name) for name in ("empty", "nothing", "*.gif")], folder / "out")
    assert [line.partition(": ")[2][:13] for line in str(caught.value).splitlines()] == [
        "holds no imag",
        "no such file ",
        "holds no imag",
    ]
    with pytest.raises(PredictionError, match="lies in"):
        find_inputs([str(folder / "in")], folder / "in/out")
