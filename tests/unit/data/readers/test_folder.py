"""The folder format: pairs by name, and a class table that is checked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from segpipe.classes import ClassTable
from segpipe.data.readers.folder import read_source
from segpipe.errors import SourceError

PIXELS = np.zeros((2, 2), np.uint8)
TABLE = "classes: [{name: a, color: [1, 2, 3]}, {name: b, color: [4, 5, 6]}]\n"


def test_pairs_are_found_by_name(make_folder_source: Callable[..., Path], classes: ClassTable) -> None:
    root = make_folder_source({"b_0": (PIXELS, PIXELS), "a_0": (PIXELS, PIXELS)})
    source = read_source(root=root)
    assert source.classes == classes
    assert source.problems == ()
    assert source.licence == "not stated"
    assert [sample.sample_id for sample in source.samples] == ["a_0", "b_0"]
    assert source.samples[0].image == root / "images" / "a_0.png"
    assert source.samples[0].mask == root / "masks" / "a_0.png"
    assert source.samples[0].official_split is None


def test_folders_below_are_part_of_the_name(make_folder_source: Callable[..., Path]) -> None:
    root = make_folder_source({"a_0": (PIXELS, PIXELS)})
    for folder in ("images", "masks"):
        (root / folder / "seq1").mkdir()
        (root / folder / "a_0.png").rename(root / folder / "seq1" / "0.png")
    assert [sample.sample_id for sample in read_source(root=root).samples] == ["seq1/0"]


def test_void_and_licence_may_be_given(make_folder_source: Callable[..., Path]) -> None:
    source = read_source(root=make_folder_source({}, TABLE + "void: [0x64, 255]\nlicence: CC0\n"))
    assert source.classes.void_values == (100, 255)
    assert source.licence == "CC0"


def test_what_has_no_partner_is_a_problem(make_folder_source: Callable[..., Path]) -> None:
    root = make_folder_source(dict.fromkeys(("a", "b", "c"), (PIXELS, PIXELS)))
    (root / "masks" / "a.png").unlink()
    (root / "images" / "b.png").unlink()
    source = read_source(root=root)
    assert [sample.sample_id for sample in source.samples] == ["c"]
    found = [(problem.kind, problem.where) for problem in source.problems]
    assert found == [("mask-missing", "images/a.png"), ("image-missing", "masks/b.png")]


def test_a_name_twice_is_a_problem(make_folder_source: Callable[..., Path]) -> None:
    root = make_folder_source({"a": (PIXELS, PIXELS)})
    (root / "images" / "a.jpg").write_bytes(b"x")
    (problem,) = read_source(root=root).problems
    assert (problem.kind, problem.where) == ("name-twice", "images/a.png")


def test_missing_folders_are_problems(tmp_path: Path) -> None:
    (tmp_path / "dataset.yaml").write_text(TABLE)
    assert [problem.where for problem in read_source(root=tmp_path).problems] == ["images", "masks"]


def test_no_images_is_a_problem(make_folder_source: Callable[..., Path]) -> None:
    assert [problem.kind for problem in read_source(root=make_folder_source({})).problems] == ["empty"]


def test_no_class_table(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"dataset\.yaml: no such file; it must hold the class table"):
        read_source(root=tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes: [", "dataset.yaml: is not YAML: "),
        ("", "dataset.yaml: "),
        ("void: [1]", "dataset.yaml: classes: is missing"),
        ("classes: []", "dataset.yaml: classes: "),
        (TABLE + "voidd: [7]", "dataset.yaml: voidd: unknown key; did you mean 'void'?"),
        (TABLE + "void: [1]", "dataset.yaml: void: [1] are indices of classes; 0..1 are taken"),
        (TABLE + "void: [256]", "dataset.yaml: void.0: must be less than or equal to 255 (got 256)"),
        (TABLE.replace("name: b", "name: a"), "dataset.yaml: classes: named twice: a"),
        (
            TABLE.replace("color: [1,", "colour: [1,"),
            "dataset.yaml: classes.0.colour: unknown key; did you mean 'color'?",
        ),
        (TABLE.replace("[1, 2, 3]", "[1, 2]"), "dataset.yaml: classes.0.color.2: is missing"),
        (
            TABLE.replace("[1, 2, 3]", "[1, 2, 300]"),
            "dataset.yaml: classes.0.color.2: must be less than or equal to 255",
        ),
    ],
)
def test_a_wrong_class_table_is_named(make_folder_source: Callable[..., Path], text: str, message: str) -> None:
    with pytest.raises(SourceError) as caught:
        read_source(root=make_folder_source({}, text))
    assert message in str(caught.value)


def test_more_classes_than_a_mask_can_hold(make_folder_source: Callable[..., Path]) -> None:
    rows = [f"  - {{name: c{i}, color: [0, 0, 0]}}\n" for i in range(256)]
    assert read_source(root=make_folder_source({}, "classes:\n" + "".join(rows[:255]))).classes.num_classes == 255
    with pytest.raises(SourceError, match=r"classes: .* at most 255"):
        read_source(root=make_folder_source({}, "classes:\n" + "".join(rows), name="other"))
