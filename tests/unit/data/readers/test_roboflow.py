"""Roboflow's masks in the layout of its export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from facts import facts_of, missing
from PIL import Image

from segpipe.choices import READERS
from segpipe.classes import IGNORE_INDEX
from segpipe.data.readers.roboflow import read_source
from segpipe.errors import ConfigError, SourceError

CLASSES = "Pixel Value, Class\n0, background\n1, crack\n2, spalled concrete\n"
STEM = "wall_jpg.rf.79a28071be7ca7c93095c750f93f929d"


def _write(root: Path, classes: str = CLASSES, folders: tuple[str, ...] = ("train", "valid", "test")) -> None:
    for folder in folders:
        (root / folder).mkdir(parents=True)
        (root / folder / "_classes.csv").write_text(classes, encoding="utf-8")
        Image.new("RGB", (3, 1)).save(root / folder / f"{STEM}.jpg")
        Image.fromarray(np.array([[0, 1, 2]], np.uint8)).save(root / folder / f"{STEM}_mask.png")
    (root / "README.roboflow.txt").touch()


@pytest.mark.parametrize("wrapping", ["", "walls.v1i.png-mask-semantic"])
def test_the_exports_layout(tmp_path: Path, wrapping: str) -> None:
    _write(tmp_path / wrapping)
    source = read_source(root=tmp_path)
    assert source.problems == ()
    assert source.classes.names == ("background", "crack", "spalled concrete")
    assert [(sample.sample_id, sample.official_split) for sample in source.samples] == [
        (f"test/{STEM}", "test"),
        (f"train/{STEM}", "train"),
        (f"valid/{STEM}", "val"),
    ]
    pixels = source.samples[0].label.read((1, 3)).pixels
    assert pixels is not None and pixels.tolist() == [[0, 1, 2]]


def test_a_byte_order_mark_windows_lines_and_gaps(tmp_path: Path) -> None:
    _write(tmp_path, '\ufeffPixel Value, Class\r\n2, b\r\n\r\n0,a\r\n1, "c, d"\r\n', ("train",))
    assert read_source(root=tmp_path).classes.names == ("a", "c, d", "b")


def test_classes_may_be_void(tmp_path: Path) -> None:
    _write(tmp_path)
    source = READERS.call("roboflow", {"void": ["background"]}, root=tmp_path)
    assert source.classes.names == ("crack", "spalled concrete")
    assert source.samples[0].label.read((1, 3)).pixels.tolist() == [[IGNORE_INDEX, 0, 1]]
    with pytest.raises(ConfigError, match=r"option.*void.*'crac'.*'crack'"):
        read_source(root=tmp_path, void=["crac"])


def test_an_unpaired_file_is_named(tmp_path: Path) -> None:
    _write(tmp_path)
    (tmp_path / "train" / f"{STEM}.jpg").unlink()
    (tmp_path / "valid" / f"{STEM}_mask.png").unlink()
    source = read_source(root=tmp_path)
    assert [sample.official_split for sample in source.samples] == ["test"]
    assert [(problem.kind, problem.where) for problem in source.problems] == [
        ("image-missing", f"train/{STEM}_mask.png"),
        ("mask-missing", f"valid/{STEM}.jpg"),
    ]


def test_an_empty_export_is_named(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train/_classes.csv").write_text(CLASSES)
    assert [problem.kind for problem in read_source(root=tmp_path).problems] == ["empty"]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("", "_classes.csv: names no class"),
        (
            "Pixel Value, Class\n0 background\n",
            "_classes.csv:2: not a pixel value of 0..255 and a class: '0 background'",
        ),
        ("Pixel Value, Class\n256, a\n", "_classes.csv:2: not a pixel value of 0..255 and a class: '256, a'"),
        ("Pixel Value, Class\n0,\n", "_classes.csv:2: not a pixel value"),
        ("Pixel Value, Class\n0, a\n0, b\n", "_classes.csv:3: value 0 or class 'b' stands there twice"),
        ("Pixel Value, Class\n0, a\n1, a\n", "_classes.csv:3: value 1 or class 'a' stands there twice"),
    ],
)
def test_a_wrong_class_file_is_named(tmp_path: Path, classes: str, message: str) -> None:
    _write(tmp_path, classes)
    with pytest.raises(SourceError) as caught:
        read_source(root=tmp_path)
    assert not missing(str(caught.value), *facts_of(message))


def test_splits_must_have_one_table(tmp_path: Path) -> None:
    _write(tmp_path)
    (tmp_path / "valid/_classes.csv").write_text(CLASSES.replace("crack", "hole"))
    with pytest.raises(SourceError, match=r"valid/_classes\.csv.*classes"):
        read_source(root=tmp_path)


@pytest.mark.parametrize(("file", "fix"), [("_annotations.coco.json", "set format: coco"), ("a.jpg", "export")])
def test_another_layout_is_refused(tmp_path: Path, file: str, fix: Any) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / file).touch()
    with pytest.raises(SourceError, match=fix):
        read_source(root=tmp_path)
