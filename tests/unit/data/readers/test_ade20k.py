"""ADE20K's 150 classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from unit.data.readers.layouts import HEIGHT, WIDTH, fill, write_ade20k, write_image

from segpipe.data.readers.ade20k import read_source
from segpipe.errors import SourceError

TOP = "ADEChallengeData2016"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_ade20k(tmp_path)
    return tmp_path


@pytest.mark.parametrize("top", ["", TOP])
def test_the_archive_is_read_from_either_folder(root: Path, top: str) -> None:
    source = read_source(root=root / top)
    assert source.problems == ()
    assert [(sample.sample_id, sample.official_split) for sample in source.samples] == [
        ("ADE_train_00000001", "train"),
        ("ADE_train_00000002", "train"),
        ("ADE_val_00000001", "val"),
    ]


def test_values_begin_at_one_and_zero_is_void(root: Path) -> None:
    source = read_source(root=root)
    np.testing.assert_array_equal(source.samples[0].label.read((HEIGHT, WIDTH)).pixels, fill([255, 0, 149, 12]))
    assert source.classes.num_classes == 150
    assert len(set(source.classes.names)) == 150
    assert [source.classes.names[index] for index in (0, 7, 12, 20, 149)] == ["wall", "bed", "person", "car", "flag"]
    assert source.classes.colors[20] == (0, 102, 200)
    assert source.classes.colors[149] == (92, 0, 255)


def test_what_is_missing_is_a_problem(root: Path) -> None:
    (root / TOP / "annotations/training/ADE_train_00000002.png").unlink()
    (root / TOP / "images/validation").rename(root / "elsewhere")
    write_image(root / TOP / "annotations/training/ADE_train_00000003.png")
    found = [(problem.kind, problem.where) for problem in read_source(root=root).problems]
    assert found == [
        ("mask-missing", f"{TOP}/images/training/ADE_train_00000002.jpg"),
        ("image-missing", f"{TOP}/annotations/training/ADE_train_00000003.png"),
        ("folder-missing", f"{TOP}/images/validation"),
        ("image-missing", f"{TOP}/annotations/validation/ADE_val_00000001.png"),
    ]


def test_another_layout_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ADE20K_2021_17_01/images/ADE/training").mkdir(parents=True)
    with pytest.raises(SourceError, match=r"ADEChallengeData2016.*annotations/training"):
        read_source(root=tmp_path)
