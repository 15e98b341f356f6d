"""What the pixels of masks mean, as a team writes it down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from facts import facts_of, missing

from segpipe.classes import ClassTable
from segpipe.data.masks.labels import ColorMask, IndexMask
from segpipe.data.masks.mask_coding import ClassEntry, MaskCoding, read_class_file
from segpipe.errors import SourceError

ROAD, CAR = {"name": "road", "color": (1, 2, 3)}, {"name": "car", "color": (4, 5, 6)}


def _coding(
    *entries: dict[str, Any], masks_are: Any = "indices", void: Any = None, void_colors: Any = None
) -> MaskCoding:
    return MaskCoding([ClassEntry(**entry) for entry in entries], masks_are, void, void_colors)


def test_indices_are_places_and_255_is_void() -> None:
    coding = _coding(ROAD, CAR)
    assert coding.find_contradictions() == []
    assert coding.classes == ClassTable(("road", "car"), ((1, 2, 3), (4, 5, 6)))
    assert coding.label_type()(Path("a")) == IndexMask(Path("a"), {0: 0, 1: 1, 255: 255})


@pytest.mark.parametrize(
    ("void", "values", "indices"),
    [
        ([7], (0, 1), {0: 0, 1: 1, 7: 255}),
        ([], (0, 1), {0: 0, 1: 1}),
        (None, (10, 20), {10: 0, 20: 1, 255: 255}),
        (None, (0, 255), {0: 0, 255: 1}),
    ],
)
def test_values_and_void_may_be_others(void: Any, values: tuple[int, int], indices: dict[int, int]) -> None:
    coding = _coding(ROAD | {"value": values[0]}, CAR | {"value": values[1]}, void=void)
    assert coding.find_contradictions() == []
    assert coding.label_type()(Path("a")) == IndexMask(Path("a"), indices)


def test_colours() -> None:
    coding = _coding(ROAD, CAR, masks_are="colors", void_colors=[(0, 0, 0)])
    assert coding.find_contradictions() == []
    assert coding.label_type()(Path("a")) == ColorMask(Path("a"), {(1, 2, 3): 0, (4, 5, 6): 1, (0, 0, 0): 255})


def test_colours_that_are_only_shown_may_be_equal() -> None:
    assert _coding(ROAD, CAR | {"color": (1, 2, 3)}).find_contradictions() == []


@pytest.mark.parametrize(
    ("coding", "message"),
    [
        (_coding(ROAD, CAR | {"name": "road"}), "classes: named twice: road"),
        (_coding(ROAD, CAR | {"value": 3}), "classes: some have a value and some have none; give it to all or to none"),
        (_coding(ROAD | {"value": 3}, CAR | {"value": 3}), "classes: value: named twice: 3"),
        (_coding(ROAD, CAR, void=[0, 9]), "void: [0] are values of classes"),
        (
            _coding(ROAD, CAR, void_colors=[(0, 0, 0)]),
            "void_colors: is only for masks of colors; give void",
        ),
        (_coding(ROAD, CAR | {"color": (1, 2, 3)}, masks_are="colors"), "classes: color: named twice: (1, 2, 3)"),
        (
            _coding(ROAD, CAR, masks_are="colors", void_colors=[(4, 5, 6)]),
            "void_colors: [[4, 5, 6]] are colours of classes",
        ),
        (
            _coding(ROAD, CAR, masks_are="colors", void=[9]),
            "void: is only for masks of indices; give void_colors",
        ),
    ],
)
def test_contradictions_are_named(coding: MaskCoding, message: str) -> None:
    assert coding.find_contradictions() == [message]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("class_dict.csv", "name,r,g,b\nroad,1,2,3\nlight truck,4,5,6\n"),
        ("class_dict.csv", "\ufeffName, R, G, B\r\nroad, 1, 2, 3\r\nlight truck, 4, 5, 6\r\n\r\n"),
        ("label_colors.txt", "1 2 3\troad\n4 5 6\t\tlight truck\n\n"),
    ],
)
def test_class_files(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    entries = read_class_file(tmp_path / name, tmp_path)
    assert [(entry.name, entry.color, entry.value) for entry in entries] == [
        ("road", (1, 2, 3), None),
        ("light truck", (4, 5, 6), None),
    ]


def test_a_class_file_may_give_values(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("name,r,g,b,value\nroad,1,2,3,10\ncar,4,5,6,20\n")
    assert [entry.value for entry in read_class_file(tmp_path / "c.csv", tmp_path)] == [10, 20]


@pytest.mark.parametrize(
    ("name", "text", "messages"),
    [
        ("c.csv", "name,red,g,b\n", ["c.csv: has no column r; the first line must be name,r,g,b"]),
        ("c.csv", "name,r,g,b\nroad,1,2,300\ncar,4,x,6\n", ["c.csv:2: color.2: must be less", "c.csv:3: color.1: "]),
        ("c.csv", "name,r,g,b\nroad,1,2\n", ["c.csv:2: color.2: "]),
        ("c.txt", "road 1 2 3\n4 5 6\n", ["c.txt:1: color.0: ", "c.txt:2: name: "]),
        ("c.txt", "1 2 3 road\n", ["c.txt: holds 1 classes; it must be 2 to 255"]),
    ],
)
def test_all_wrong_lines_of_a_class_file_are_named(tmp_path: Path, name: str, text: str, messages: list[str]) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SourceError) as caught:
        read_class_file(tmp_path / name, tmp_path)
    for message in messages:
        assert not missing(str(caught.value), *facts_of(message))


def test_a_class_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_bytes(b"1 2 3 \xff\n")
    for name in ("c.txt", "none.txt"):
        with pytest.raises(SourceError, match=f"{name}: cannot be read: .*; it must hold the class table"):
            read_class_file(tmp_path / name, tmp_path)
