"""COCO-Stuff in the layout of its archives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segpipe.classes import IGNORE_INDEX
from segpipe.data.readers.coco_stuff import INDICES, NAMES, read_source
from segpipe.errors import SourceError


def _write(root: Path, masks: str = "stuffthingmaps", images: str = "images/") -> None:
    for folder, name, value in (("train2017", "000000000009", 0), ("val2017", "000000000139", 181)):
        image = root / f"{images}{folder}" / f"{name}.jpg"
        mask = root / masks / folder / f"{name}.png"
        for path in (image, mask):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (3, 2)).save(image)
        Image.fromarray(np.array([[value, 255, value]] * 2, np.uint8)).save(mask)


@pytest.mark.parametrize("masks", ["stuffthingmaps", "annotations"])
@pytest.mark.parametrize("images", ["images/", ""])
@pytest.mark.parametrize("wrapping", ["", "dataset"])
def test_the_archives_layouts(tmp_path: Path, masks: str, images: str, wrapping: str) -> None:
    _write(tmp_path / wrapping, masks, images)
    source = read_source(root=tmp_path)
    assert source.problems == ()
    assert [(sample.sample_id, sample.official_split) for sample in source.samples] == [
        ("train2017/000000000009", "train"),
        ("val2017/000000000139", "val"),
    ]
    pixels = [sample.label.read((2, 3)).pixels for sample in source.samples]
    assert [p.tolist()[0] for p in pixels if p is not None] == [[0, 255, 0], [170, 255, 170]]


def test_the_classes_are_the_official_ones() -> None:
    assert len(NAMES) == 171 == len(set(NAMES))
    # Ids of labels.txt minus one; the train ids that mmsegmentation's converter writes.
    for value, name, index in (
        (0, "person", 0),
        (10, "fire hydrant", 10),
        (12, "stop sign", 11),
        (26, "backpack", 24),
        (43, "bottle", 39),
        (66, "dining table", 60),
        (69, "toilet", 61),
        (83, "book", 73),
        (89, "toothbrush", 79),
        (91, "banner", 80),
        (111, "door-stuff", 100),
        (132, "mirror-stuff", 121),
        (156, "sky-other", 145),
        (181, "wood", 170),
    ):
        assert (INDICES[value], NAMES[index]) == (index, name)
    assert INDICES[255] == IGNORE_INDEX
    assert sorted(set(range(182)) - INDICES.keys()) == [11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90]


def test_an_abandoned_label_is_a_fault(tmp_path: Path) -> None:
    _write(tmp_path)
    mask = tmp_path / "stuffthingmaps/train2017/000000000009.png"
    Image.fromarray(np.full((2, 3), 11, np.uint8)).save(mask)
    (fault,) = read_source(root=tmp_path).samples[0].label.read((2, 3)).faults
    assert fault.kind == "mask-values"


def test_unpaired_files_are_named_and_converted_masks_ignored(tmp_path: Path) -> None:
    _write(tmp_path)
    folder = tmp_path / "stuffthingmaps"
    (folder / "train2017/000000000009_labelTrainIds.png").touch()
    (folder / "val2017/000000000139.png").rename(folder / "val2017/000000000285.png")
    source = read_source(root=tmp_path)
    assert [sample.sample_id for sample in source.samples] == ["train2017/000000000009"]
    assert [(problem.kind, problem.where) for problem in source.problems] == [
        ("mask-missing", "images/val2017/000000000139.jpg"),
        ("image-missing", "stuffthingmaps/val2017/000000000285.png"),
    ]


def test_a_split_may_be_left_out(tmp_path: Path) -> None:
    _write(tmp_path)
    (tmp_path / "stuffthingmaps/train2017").rename(tmp_path / "elsewhere")
    source = read_source(root=tmp_path)
    assert [sample.official_split for sample in source.samples] == ["val"]
    assert source.problems == ()


def test_missing_images_are_named(tmp_path: Path) -> None:
    _write(tmp_path)
    (tmp_path / "images/val2017").rename(tmp_path / "elsewhere")
    assert ("folder-missing", "images/val2017") in [(p.kind, p.where) for p in read_source(root=tmp_path).problems]


def test_another_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"COCO-Stuff.*stuffthingmaps/train2017"):
        read_source(root=tmp_path)
