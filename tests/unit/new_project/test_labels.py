"""What a folder of labelled images is: its format, its class table."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from facts import missing
from PIL import Image

from segpipe.data.masks.mask_coding import MaskCoding
from segpipe.errors import ConfigError, SourceError
from segpipe.new_project.labels import find_formats, name_classes, survey_folder


@pytest.mark.parametrize(
    ("name", "format_name"),
    [("berries", "folder"), ("fields", "folder"), ("cvat", "cvat"), ("coco", "coco"), ("microscopy", "folder")],
)
def test_the_format_is_found(own: Path, name: str, format_name: str) -> None:
    assert find_formats(own / name) == [format_name]


def test_a_layout_without_images_is_found_so_that_they_are_asked_for(own: Path, tmp_path: Path) -> None:
    shutil.copytree(own / "cvat", tmp_path / "cvat", ignore=shutil.ignore_patterns("JPEGImages"))
    assert find_formats(tmp_path / "cvat") == ["cvat"]


def test_a_folder_of_pictures_alone_has_no_format(own: Path) -> None:
    assert find_formats(own / "berries/images") == []


def test_masks_that_were_compressed_with_loss_have_no_class_table(own: Path, tmp_path: Path) -> None:
    shutil.copytree(own / "fields/images", tmp_path / "images")
    (tmp_path / "masks").mkdir()
    for path in (own / "fields/masks").iterdir():
        with Image.open(path) as mask:
            mask.save(tmp_path / f"masks/{path.stem}.jpg", quality=50)
    survey = survey_folder(tmp_path, "folder", {})
    assert survey is not None
    with pytest.raises(SourceError, match="JPEG"):
        name_classes(survey, (), "photos")


def _folder(root: Path, masks: list[Image.Image], suffix: str = "png") -> Path:
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for number, mask in enumerate(masks):
        mask.save(root / f"masks/{number}.{suffix}")
        Image.new("RGB", mask.size).save(root / f"images/{number}.png")
    return root


def _coding(root: Path, *classes: str) -> MaskCoding:
    survey = survey_folder(root, "folder", {})
    assert survey is not None
    return name_classes(survey, classes, "photos")


def test_a_label_map_names_the_colours_of_a_palette_not_the_order_of_the_values(tmp_path: Path) -> None:
    mask = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
    mask.putpalette([10, 10, 10, 0, 200, 0, 0, 0, 200])  # soil, weed, crop
    label_map = tmp_path / "map.txt"
    label_map.write_text("10 10 10 soil\n0 0 200 crop\n0 200 0 weed\n")
    coding = _coding(_folder(tmp_path / "set", [mask]), str(label_map))
    assert coding.masks_are == "colors"


def test_a_label_map_of_greys_names_the_values(tmp_path: Path) -> None:
    mask = Image.fromarray(np.array([[0, 255]], np.uint8))
    label_map = tmp_path / "map.txt"
    label_map.write_text("255 255 255 berry\n0 0 0 ground\n")
    coding = _coding(_folder(tmp_path / "set", [mask]), str(label_map))
    assert [(entry.name, entry.value) for entry in coding.entries] == [("berry", 255), ("ground", 0)]


def test_grey_masks_that_were_compressed_with_loss_have_no_class_table(tmp_path: Path) -> None:
    mask = Image.fromarray(np.kron([[0, 255], [255, 0]], np.ones((9, 9))).astype(np.uint8))
    with pytest.raises(SourceError, match="JPEG"):
        _coding(_folder(tmp_path / "set", [mask], "jpg"))


@pytest.mark.parametrize(
    ("masks", "facts"),
    [
        ([Image.fromarray(np.zeros((2, 2, 4), np.uint8))] * 2, ["0.png", "4 px", "opaque"]),
        ([Image.new("L", (2, 2), 7)] * 2, ["2 masks", "one value"]),
        ([], ["no mask"]),
    ],
)
def test_masks_that_say_nothing_are_refused_with_the_reason(
    tmp_path: Path, masks: list[Image.Image], facts: list[str]
) -> None:
    folder = _folder(tmp_path, masks)
    (folder / "masks/notes.txt").touch()
    with pytest.raises(SourceError) as caught:
        _coding(folder)
    assert not missing(str(caught.value), *facts)


def test_many_values_get_no_invented_names(tmp_path: Path) -> None:
    mask = Image.fromarray(np.arange(30, dtype=np.uint8)[None])
    with pytest.raises(ConfigError, match="--classes"):
        _coding(_folder(tmp_path / "set", [mask]))
