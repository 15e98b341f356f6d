"""Folders by patterns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from facts import facts_of, missing
from unit.data.readers.layouts import HEIGHT, WIDTH, fill, write_colors, write_image, write_indices, write_lines

from segpipe.choices import READERS
from segpipe.data.sources.source import Source
from segpipe.errors import ConfigError

SIZE = (HEIGHT, WIDTH)
CLASSES = [{"name": "a", "color": [1, 2, 3]}, {"name": "b", "color": [4, 5, 6]}]


def _read(root: Path, **options: Any) -> Source:
    return READERS.call("patterns", {"classes": CLASSES} | options, root=root)


def _ids(source: Source) -> list[str]:
    return [sample.sample_id for sample in source.samples]


def test_images_and_masks_in_two_folders(tmp_path: Path) -> None:
    for name in ("a.v2", "b"):
        write_image(tmp_path / f"frames/{name}.jpg")
        write_indices(tmp_path / f"gt/{name}_mask.png", 0, 1, 255)
    write_lines(tmp_path / "frames/notes.txt", "x")
    source = _read(tmp_path, images="frames/{id}.jpg", masks="gt/{id}_mask.png", licence="CC0")
    assert source.problems == ()
    assert _ids(source) == ["a.v2", "b"]
    assert source.licence == "CC0"
    np.testing.assert_array_equal(source.samples[0].label.read(SIZE).pixels, fill([0, 1, 255]))
    assert (source.samples[0].official_split, source.samples[0].group) == (None, None)


def test_split_and_group_stand_in_the_path(tmp_path: Path) -> None:
    for split, group, name in (("training", "s1", "01"), ("training", "s2", "01"), ("VALID", "s3", "01")):
        write_image(tmp_path / f"{split}/{group}/rgb/{name}.png")
        write_indices(tmp_path / f"{split}/{group}/label/{name}.png", 0)
    source = _read(tmp_path, images="{split}/{group}/rgb/{id}.*", masks="{split}/{group}/label/{id}.png")
    assert source.problems == ()
    found = [(sample.sample_id, sample.official_split, sample.group) for sample in source.samples]
    assert found == [
        ("VALID/s3/01", "val", "s3"),
        ("training/s1/01", "train", "s1"),
        ("training/s2/01", "train", "s2"),
    ]


def test_placeholders_of_the_mask_alone_count_too(tmp_path: Path) -> None:
    for split, name in (("train", "a"), ("test", "b")):
        write_image(tmp_path / f"img/{name}.png")
        write_indices(tmp_path / f"gt-{split}/{name}.png", 0)
    source = _read(tmp_path, images="img/{id}.png", masks="gt-{split}/{id}.png")
    assert [(sample.sample_id, sample.official_split) for sample in source.samples] == [("a", "train"), ("b", "test")]


def test_image_and_mask_side_by_side(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    write_indices(tmp_path / "a_mask.png", 0)
    source = _read(tmp_path, images="{id}.png", masks="{id}_mask.png")
    assert source.problems == ()
    assert _ids(source) == ["a"]


def test_a_repeated_placeholder_is_the_same_text(tmp_path: Path) -> None:
    for group, name in (("s1", "s1_1"), ("s1", "s2_1")):
        write_image(tmp_path / f"{group}/{name}.jpg")
        write_indices(tmp_path / f"{group}/{name}.png", 0)
    source = _read(tmp_path, images="{group}/{group}_{id}.jpg", masks="{group}/{group}_{id}.png")
    assert _ids(source) == ["s1/1"]


def test_a_star_is_any_text_of_one_part(tmp_path: Path) -> None:
    write_image(tmp_path / "cam0/day1/a.jpg")
    write_image(tmp_path / "cam0/day1/deeper/c.jpg")
    write_indices(tmp_path / "gt/a-v3.png", 0)
    source = _read(tmp_path, images="cam*/*/{id}.jpg", masks="gt/{id}-*.png")
    assert source.problems == ()
    assert _ids(source) == ["a"]


@pytest.mark.parametrize("name", ["a+b(1)[x]", "a.b", "a|b$^"])
def test_all_else_is_literal(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / f"{name}/1.jpg")
    write_image(tmp_path / "aab1x/1.jpg")
    write_indices(tmp_path / "gt/1.png", 0)
    source = _read(tmp_path, images=f"{name}/{{id}}.jpg", masks="gt/{id}.png")
    assert [sample.image.parent.name for sample in source.samples] == [name]


def test_one_folder_around_all_is_seen_through(tmp_path: Path) -> None:
    write_image(tmp_path / "export-7/frames/a.jpg")
    write_indices(tmp_path / "export-7/gt/a.png", 0)
    source = _read(tmp_path, images="frames/{id}.jpg", masks="gt/{id}.png")
    assert source.problems == ()
    assert source.samples[0].image == tmp_path / "export-7/frames/a.jpg"


def test_masks_of_colours_and_classes_of_a_file(tmp_path: Path) -> None:
    write_image(tmp_path / "images/a.jpg")
    write_colors(tmp_path / "masks/a.png", (4, 5, 6), (0, 0, 0), (1, 2, 3))
    write_lines(tmp_path / "class_dict.csv", "name,r,g,b", "a,1,2,3", "b,4,5,6")
    options = {"classes": None, "class_file": "class_dict.csv", "masks_are": "colors", "void_colors": [[0, 0, 0]]}
    source = _read(tmp_path, **options)
    assert source.classes.names == ("a", "b")
    np.testing.assert_array_equal(source.samples[0].label.read(SIZE).pixels, fill([1, 255, 0]))


def test_an_unpaired_file_is_a_problem_that_names_the_place(tmp_path: Path) -> None:
    write_image(tmp_path / "train/1.jpg")
    write_indices(tmp_path / "train/gt/2.png", 0)
    source = _read(tmp_path, images="{split}/{id}.jpg", masks="{split}/gt/{id}.png")
    assert [(problem.kind, problem.where, problem.what) for problem in source.problems] == [
        ("mask-missing", "train/1.jpg", "no train/gt/1.png"),
        ("image-missing", "train/gt/2.png", "no image train/2.jpg"),
    ]


def test_two_files_of_one_key_are_a_problem(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_image(tmp_path / f"{split}/1.jpg")
    write_indices(tmp_path / "gt/1.png", 0)
    (problem,) = _read(tmp_path, images="{split}/{id}.jpg", masks="gt/{id}.png").problems
    assert (problem.kind, problem.where) == ("name-twice", "val/1.jpg")
    assert "train/1.jpg" in problem.what


def test_a_folder_that_is_no_split_is_a_problem(tmp_path: Path) -> None:
    write_image(tmp_path / "trian/1.jpg")
    write_indices(tmp_path / "gt/1.png", 0)
    (problem,) = _read(tmp_path, images="{split}/{id}.jpg", masks="gt/{id}.png").problems
    assert (problem.kind, problem.where) == ("list-line", "trian/1")
    assert "did you mean 'train'" in problem.what


def test_without_a_match_some_files_are_named(tmp_path: Path) -> None:
    write_image(tmp_path / "frames/1.JPG")
    (problem,) = _read(tmp_path, images="frames/{id}.jpg", masks="gt/{id}.png").problems
    assert problem.kind == "empty"
    assert not missing(problem.what, "'frames/{id}.jpg'", "'gt/{id}.png'", "frames/1.JPG")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": "a/{name}.jpg"}, "option images: unknown {name}; known: {id}, {split}, {group} and *"),
        ({"images": "a/*.jpg"}, "option images: has no {id}"),
        ({"masks": "**/{id}.png"}, "option masks: ** is not known; * stands for any text within one folder's"),
        ({"masks": "../{id}.png"}, "option masks: must be a path below the source"),
        ({"masks": "/data/{id}.png"}, "option masks: must be a path below the source"),
        ({"images": "a\\{id}.jpg"}, "option images: must be a path below the source"),
        ({"images": "{id}.png", "masks": "{id}.png"}, "options images and masks: are the same"),
        ({"classes": None}, "give either the option classes or the option class_file"),
        ({"class_file": "c.txt"}, "give either the option classes or the option class_file"),
        ({"classes": None, "class_file": "none.txt"}, "option class_file: no none.txt in the source"),
        ({"classes": None, "class_file": "../c.txt"}, "option class_file: no ../c.txt in the source"),
        ({"classes": None, "class_file": "/etc/hostname"}, "option class_file: no /etc/hostname in the source"),
        ({"classes": [CLASSES[0], CLASSES[0]]}, "option classes: named twice: a"),
        ({"classes": CLASSES[:1]}, "option classes: "),
        ({"classes": [{"name": "a"}, CLASSES[1]]}, "option classes.0.color: is missing"),
        (
            {"classes": [CLASSES[0], {"name": "b", "colour": [4, 5, 6]}]},
            "option classes.1.colour: unknown key; did you mean 'color'? known: color, name, value",
        ),
        ({"void": [1]}, "option void: [1] are values of classes"),
        ({"void_colors": [[0, 0, 0]]}, "option void_colors: is only for masks of colors"),
        ({"masks_are": "colours"}, "option masks_are: must be 'indices' or 'colors'"),
        ({"image": "x"}, "option image: unknown; did you mean 'images'"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "c.txt").write_text("1 2 3 a\n4 5 6 b\n")
    with pytest.raises(ConfigError) as caught:
        _read(tmp_path / "source", **options)
    assert not missing(str(caught.value), "'patterns'", *facts_of(message))


def test_all_wrong_options_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        _read(tmp_path, images="a", masks="b", void=[0])
    assert len(str(caught.value).splitlines()) == 3
