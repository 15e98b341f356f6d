"""What a folder of labelled images is: its format, its class table."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from segpipe.errors import SourceError
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
