"""Files by their names: folders found, names listed, pairs made, lists read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from segpipe.data.sources.source import (
    files_by_stem,
    find_folder,
    find_listed,
    is_plain_name,
    list_files,
    pair_files,
    read_lines,
)
from segpipe.errors import SourceError


def _touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_images_are_found_by_their_path_without_suffix(tmp_path: Path) -> None:
    _touch(tmp_path, "images/b.PNG", "images/sub/a.v2.jpeg", "images/notes.txt", "images/Thumbs.db", "images/v1.2/png")
    (tmp_path / "images/folder.png").mkdir()
    files, problems = files_by_stem(tmp_path / "images", tmp_path)
    assert files == {"b": tmp_path / "images/b.PNG", "sub/a.v2": tmp_path / "images/sub/a.v2.jpeg"}
    assert problems == []


def test_pictures_that_are_not_read_are_listed_so_that_they_are_named(tmp_path: Path) -> None:
    _touch(tmp_path, "images/a.dcm", "images/b.nii.gz", "images/c.psd", "images/c.png", "images/d.txt")
    files, problems = files_by_stem(tmp_path / "images", tmp_path)
    assert {stem: path.name for stem, path in files.items()} == {"a": "a.dcm", "b": "b.nii.gz", "c": "c.png"}
    assert problems == []


def test_one_name_for_two_files_is_a_problem(tmp_path: Path) -> None:
    _touch(tmp_path, "images/a.jpg", "images/a.png", "images/other/a.png")
    _, (problem,) = files_by_stem(tmp_path / "images", tmp_path)
    assert (problem.kind, problem.where) == ("name-twice", "images/a.png")


def test_a_missing_folder_is_a_problem(tmp_path: Path) -> None:
    files, (problem,) = files_by_stem(tmp_path / "masks", tmp_path)
    assert files == {}
    assert (problem.kind, problem.where) == ("folder-missing", "masks")


def test_hidden_files_and_folders_are_not_listed(tmp_path: Path) -> None:
    _touch(tmp_path, "b/x.png", "a.png", "b/._x.png", ".git/x.png", "__MACOSX/b/x.png", "b/.DS_Store")
    assert list_files(tmp_path) == ["a.png", "b/x.png"]
    assert list_files(tmp_path / "none") == []


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _touch(tmp_path, "a/x.png", "b/y.png")
    scandir = os.scandir

    def refuse_b(path: str) -> object:
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse_b)
    with pytest.raises(SourceError, match=r"b: .*Permission denied"):
        list_files(tmp_path)


def test_a_folder_is_found_at_most_two_below(tmp_path: Path) -> None:
    _touch(tmp_path, "z/list.txt", "a/b/list.txt", "a/b/c/other.txt", ".hidden/third.txt", "__MACOSX/third.txt")
    assert find_folder(tmp_path, "list.txt") == tmp_path / "z"
    assert find_folder(tmp_path / "a", "list.txt") == tmp_path / "a/b"
    assert find_folder(tmp_path / "z", "list.txt") == tmp_path / "z"
    assert find_folder(tmp_path, "other.txt") is None
    assert find_folder(tmp_path, "other.txt", "b/list.txt") == tmp_path / "a"
    assert find_folder(tmp_path, "third.txt") is None
    assert find_folder(tmp_path / "none", "list.txt") is None


def test_pairs_have_an_image_and_a_mask(tmp_path: Path) -> None:
    images = {name: tmp_path / f"i/{name}.jpg" for name in ("c", "b", "a")}
    masks = {name: tmp_path / f"m/{name}.png" for name in ("d", "c", "b")}
    names, problems = pair_files(images, masks, tmp_path, "i/{}.jpg".format, "m/{}.png".format)
    assert names == ["b", "c"]
    assert [(problem.kind, problem.where, problem.what) for problem in problems] == [
        ("mask-missing", "i/a.jpg", "no m/a.png"),
        ("image-missing", "m/d.png", "no image i/d.jpg"),
    ]


def test_names_that_differ_in_capitals_are_one_problem(tmp_path: Path) -> None:
    images, masks = {"IMG_1": tmp_path / "i/IMG_1.JPG"}, {"img_1": tmp_path / "m/img_1.png"}
    names, (problem,) = pair_files(images, masks, tmp_path, "i/{}.jpg".format, "m/{}.png".format)
    assert names == []
    assert (problem.kind, problem.where) == ("mask-missing", "i/IMG_1.JPG")
    assert "capitals" in problem.what


def test_letters_with_marks_have_one_form(tmp_path: Path) -> None:
    _touch(tmp_path, "images/Fla\u0308che.jpg", "masks/Fl\u00e4che.png")
    names = [files_by_stem(tmp_path / folder, tmp_path)[0].keys() for folder in ("images", "masks")]
    assert names == [{"Fl\u00e4che"}, {"Fl\u00e4che"}]


def test_lines_know_their_place(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/a.txt").write_bytes("\ufeffone\r\n\r\n  zw\u00f6lf \r\n".encode())
    assert read_lines(tmp_path / "lists/a.txt", tmp_path) == [("lists/a.txt:1", "one"), ("lists/a.txt:3", "zw\u00f6lf")]


def test_a_list_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(SourceError, match=r"a\.txt.*UTF-8"):
        read_lines(tmp_path / "a.txt", tmp_path)


def test_what_a_list_names_must_be_there(tmp_path: Path) -> None:
    _touch(tmp_path, "a.png")
    (problem,) = find_listed("list.txt:3", (tmp_path / "a.png", tmp_path / "b/c.png"), tmp_path)
    assert (problem.kind, problem.where, problem.what) == (
        "listed-missing",
        "list.txt:3",
        "names b/c.png, no such file",
    )


def test_plain_names() -> None:
    assert all(is_plain_name(name) for name in ("2007_000032", "a.b-c", "...x"))
    assert not any(is_plain_name(name) for name in ("a/b", "..", ".", "a\\b", "a b", "a\tb", "a\0"))
