"""Cityscapes' fine labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from unit.data.readers.layouts import HEIGHT, WIDTH, fill, write_cityscapes, write_image, write_indices

from segpipe.data.readers.cityscapes import CLASSES, read_source
from segpipe.errors import SourceError

SIZE = (HEIGHT, WIDTH)
AACHEN = "gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_cityscapes(tmp_path)
    return tmp_path


def test_frames_splits_and_sequences(root: Path) -> None:
    source = read_source(root=root)
    assert source.problems == ()
    assert [(sample.sample_id, sample.official_split, sample.group) for sample in source.samples] == [
        ("aachen_000000_000019", "train", "aachen_000000"),
        ("aachen_000001_000019", "train", "aachen_000001"),
        ("frankfurt_000000_000294", "val", "frankfurt_000000"),
    ]
    assert source.samples[0].image == root / "leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png"


def test_label_ids_become_train_ids(root: Path) -> None:
    source = read_source(root=root)
    # unlabeled, out of roi, road, bicycle, parking, car
    np.testing.assert_array_equal(source.samples[0].label.read(SIZE).pixels, fill([255, 255, 0, 18, 255, 13]))
    assert source.classes.num_classes == 19
    assert source.classes.names[13] == "car"
    assert source.classes.colors[13] == (0, 0, 142)
    assert [label_id for _, label_id, _ in CLASSES] == sorted(label_id for _, label_id, _ in CLASSES)


def test_train_ids_serve_where_label_ids_are_missing(root: Path) -> None:
    (root / AACHEN).unlink()
    write_indices(root / AACHEN.replace("labelIds", "labelTrainIds"), 0, 18, 255)
    source = read_source(root=root)
    assert source.problems == ()
    np.testing.assert_array_equal(source.samples[0].label.read(SIZE).pixels, fill([0, 18, 255]))


def test_each_archive_may_have_a_folder_of_its_own(root: Path) -> None:
    for kind in ("leftImg8bit", "gtFine"):
        (root / kind).rename(root / "moved")
        (root / f"{kind}_trainvaltest").mkdir()
        (root / "moved").rename(root / f"{kind}_trainvaltest" / kind)
    assert len(read_source(root=root).samples) == 3


def test_an_unpaired_file_is_a_problem(root: Path) -> None:
    (root / AACHEN).unlink()
    (root / "leftImg8bit/val/frankfurt/frankfurt_000000_000294_leftImg8bit.png").unlink()
    write_image(root / "leftImg8bit/train/aachen/._aachen_000002_000019_leftImg8bit.png")
    source = read_source(root=root)
    first, second = source.problems
    assert (first.kind, first.what) == ("mask-missing", f"no {AACHEN}")
    assert second.kind == "image-missing"
    assert second.where == "gtFine/val/frankfurt/frankfurt_000000_000294_gtFine_labelIds.png"
    assert len(source.samples) == 1


def test_a_missing_split_is_a_problem(root: Path) -> None:
    (root / "gtFine/val").rename(root / "elsewhere")
    (problem,) = read_source(root=root).problems
    assert (problem.kind, problem.where) == ("folder-missing", "gtFine/val")


@pytest.mark.parametrize(
    ("kind", "archive"), [("leftImg8bit", "leftImg8bit_trainvaltest.zip"), ("gtFine", "gtFine_trainvaltest.zip")]
)
def test_a_missing_archive_is_named_with_where_to_get_it(root: Path, kind: str, archive: str) -> None:
    (root / kind).rename(root / "elsewhere")
    with pytest.raises(SourceError, match=rf"holds no {kind}/train; unpack {archive} .*cityscapes-dataset\.com"):
        read_source(root=root)
