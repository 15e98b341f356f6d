"""Text files of annotation tools, and the images that they mean by their names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from facts import facts_of, missing

from segpipe.data.sources.annotation_files import (
    AnnotationFileError,
    ImageTree,
    plain_parts,
    read_json,
    read_text,
    split_of,
)


def _tree(root: Path, *names: str) -> ImageTree:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return ImageTree.of_folder(root)


def test_a_byte_order_mark_is_not_read_as_text(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(tmp_path / "a.json") == {"a": 1}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"a": 1,\n "b" 2}', "a.json:2: is not JSON: Expecting ':' delimiter (column 6)"),
        (b"", "a.json:1: is not JSON: "),
        (b'{"a":\n"\xe4"}', "a.json:2: is not UTF-8 text; save it as UTF-8"),
        (b"[" * 100_000, "a.json: is no annotation file: nested too deeply"),
        (b'{"id": ' + b"9" * 5000 + b"}", "a.json: is no annotation file: Exceeds the limit (4300 digits)"),
    ],
)
def test_what_is_not_json_is_named_with_its_line(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(AnnotationFileError) as caught:
        read_json(tmp_path / "a.json")
    assert not missing(str(caught.value), *facts_of(message))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AnnotationFileError, match=r"labels\.txt: no such file"):
        read_text(tmp_path / "labels.txt")


@pytest.mark.parametrize(
    ("names", "split"),
    [
        (("instances_train2017", "annotations"), "train"),
        (("_annotations.coco", "valid"), "val"),
        (("Testing",), "test"),
        (("instances_default", "annotations"), None),
        (("trainer",), None),
        (("val", "train"), "val"),
    ],
)
def test_splits_are_words_of_names(names: tuple[str, ...], split: str | None) -> None:
    assert split_of(*names) == split


@pytest.mark.parametrize(
    ("listed", "parts"),
    [
        ("train/a b.jpg", ("train", "a b.jpg")),
        ("..\\..\\media\\upload\\4\\cb0618f6-a.png", ("media", "upload", "4", "cb0618f6-a.png")),
        ("C:\\set\\a.jpg", ("set", "a.jpg")),
        ("/data/local-files/?d=set/a%20b.jpg", ("set", "a b.jpg")),
        ("https://host/set/a%20b.jpg?X-Sig=1", ("set", "a b.jpg")),
        ("s3://bucket/set/a.jpg", ("set", "a.jpg")),
        ("../../etc/a.jpg", ("etc", "a.jpg")),
        ("100%.jpg", ("100%.jpg",)),
        ("http://[bad/a.jpg", ("[bad", "a.jpg")),
        ("", ()),
    ],
)
def test_names_of_other_machines_are_taken_apart(listed: str, parts: tuple[str, ...]) -> None:
    assert plain_parts(listed) == parts


@pytest.mark.parametrize(
    ("listed", "folders", "within", "found"),
    [
        ("a.jpg", ["train"], "", "train/a.jpg"),
        ("images/u.jpg", [""], "", "images/u.jpg"),
        ("media/upload/4/u.jpg", [""], "", "images/u.jpg"),
        ("images/0123abcd-u.jpg", [""], "", "images/u.jpg"),
        ("set/train/a.jpg", [""], "", "train/a.jpg"),
        ("../../outside/u.jpg", [""], "", "images/u.jpg"),
    ],
)
def test_images_are_found(tmp_path: Path, listed: str, folders: list[str], within: str, found: str) -> None:
    tree = _tree(tmp_path, "train/a.jpg", "valid/a.jpg", "images/u.jpg")
    assert tree.find(listed, folders, within) == tmp_path / found


@pytest.mark.parametrize(
    ("listed", "within", "message"),
    [
        ("a.jpg", "", "names a.jpg, which may be any of train/a.jpg, valid/a.jpg"),
        ("u.jpg", "train", "names u.jpg, no such image"),
        ("no.jpg", "", "names no.jpg, no such image"),
        ("..", "", "names no image: '..'"),
    ],
)
def test_a_missing_image_is_named(tmp_path: Path, listed: str, within: str, message: str) -> None:
    tree = _tree(tmp_path, "train/a.jpg", "valid/a.jpg", "images/u.jpg")
    assert tree.find(listed, [""], within) == message


def test_an_image_from_a_mac_is_found_by_the_name_in_a_file(tmp_path: Path) -> None:
    tree = _tree(tmp_path, "day_1/a\u0308.jpg", "day_2/a\u0308.jpg")
    assert tree.find("day_2/\u00e4.jpg") == tmp_path / "day_2/a\u0308.jpg"


def test_hidden_files_and_other_files_are_no_images(tmp_path: Path) -> None:
    tree = _tree(tmp_path, "a.JPG", "._a.jpg", ".cache/b.jpg", "__MACOSX/c.jpg", "notes.txt")
    assert tree.paths == {"a.JPG"}


def test_nothing_outside_the_folder_is_given(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").touch()
    tree = _tree(tmp_path / "set", "a.jpg")
    for listed in ("../secret.jpg", str(tmp_path / "secret.jpg"), "..\\secret.jpg"):
        assert isinstance(tree.find(listed), str)


def test_objects_are_made_smaller_while_reading(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"x": 1}, {"x": 2}]')

    def shorten(entry: dict[str, Any]) -> Any:
        return entry["x"]

    assert read_json(tmp_path / "a.json", shorten) == [1, 2]
