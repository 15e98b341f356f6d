"""Masks of GeoTIFFs lie where their pictures lie. GDAL, by rasterio, writes the pictures and reads the masks."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from rasterio.control import GroundControlPoint
from rasterio.transform import Affine
from rasterio.warp import transform as to_other_system

from segpipe.classes import ClassTable
from segpipe.data.images import load_image
from segpipe.documents import ImageMapping
from segpipe.inference.network import Network
from segpipe.prediction.job import Options, predict_inputs
from segpipe.prediction.predicting import Wanted
from segpipe.reports.drawing.overlay import colorize, overlay

HEIGHT, WIDTH = 5, 7
STRONGEST = np.random.default_rng(0).integers(0, 3, (HEIGHT, WIDTH))
COLORS_HWC = (np.eye(3)[STRONGEST] * 255).astype(np.uint8)
NORTH_UP = Affine(0.5, 0, 600_000.25, 0, -0.25, 5_700_000.5)
ROTATED = NORTH_UP @ Affine.rotation(30)
POINTS = [GroundControlPoint(row, column, 10 + column, 50 - row) for row, column in [(0, 0), (0, 7), (5, 0), (5, 7)]]


def write(path: Path, pixels_HWC: np.ndarray = COLORS_HWC, **profile: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    height, width, count = pixels_HWC.shape
    shape = {"height": height, "width": width, "count": count, "dtype": pixels_HWC.dtype}
    with rasterio.open(path, "w", driver="GTiff", **shape, **profile) as file:
        file.write(pixels_HWC.transpose(2, 0, 1))
    return path


def predict(network: Network, folder: Path, **wanted: bool) -> None:
    done = predict_inputs(network, [str(folder / "in")], folder / "out", Options(Wanted(**wanted)))
    assert not done.skipped


@pytest.mark.parametrize("name", ["north up", "rotated", "points", "big", "degrees", "many bands", "own system"])
def test_all_pictures_of_a_prediction_lie_where_the_picture_lies(
    name: str, tmp_path: Path, network: Network, classes: ClassTable
) -> None:
    profile: dict[str, Any] = {
        "north up": {"crs": "EPSG:32633", "transform": NORTH_UP},
        "rotated": {"crs": "EPSG:32633", "transform": ROTATED},
        "points": {"crs": "EPSG:4326", "gcps": POINTS},
        "big": {"crs": "EPSG:32633", "transform": NORTH_UP, "BIGTIFF": "YES"},
        "degrees": {"crs": "EPSG:4326", "transform": Affine(1e-7, 0, 13.4, 0, -1e-7, 52.5)},
        "many bands": {"crs": "EPSG:3857", "transform": NORTH_UP, "photometric": "RGB", "compress": "deflate"},
        "own system": {"crs": "+proj=laea +lat_0=47.5 +lon_0=8.25 +ellps=GRS80", "transform": NORTH_UP},
    }[name]
    # The fourth band is near infrared; it is not used.
    pixels_HWC = np.dstack([COLORS_HWC, np.full((HEIGHT, WIDTH), 9, np.uint8)]) if name == "many bands" else COLORS_HWC
    path = write(tmp_path / "in/a.tif", pixels_HWC, **profile)
    predict(network, tmp_path, confidence=True)
    with rasterio.open(path) as file:
        crs, transform, points = file.crs, file.transform, file.gcps
    mask = STRONGEST.astype(np.uint8)
    expected = {"masks": mask, "colors": colorize(mask, classes), "overlays": overlay(COLORS_HWC, mask, classes)}
    for kind in ("masks", "colors", "overlays", "confidence"):
        with rasterio.open(tmp_path / f"out/{kind}/a.tif") as file:
            assert (file.crs, file.transform) == (crs, transform)
            assert [(p.row, p.col, p.x, p.y) for p in file.gcps[0]] == [(p.row, p.col, p.x, p.y) for p in points[0]]
            assert file.gcps[1] == points[1]
            bands = file.read()
        if kind in expected:
            np.testing.assert_array_equal(bands.transpose(1, 2, 0).squeeze(), expected[kind])
    assert not list((tmp_path / "out").rglob("*.png"))


def write_turned(path: Path, orientation: int, **profile: Any) -> Path:
    """Writes a GeoTIFF whose entry says that it is to be turned; GDAL does not look at that entry."""
    plain = write(path.with_name("plain.tif"), **profile)
    directory = ImageFileDirectory_v2()
    with Image.open(plain) as image:
        for tag in (33550, 33922, 34264, 34735, 34736, 34737):
            if tag in image.tag_v2:
                directory.tagtype[tag] = image.tag_v2.tagtype[tag]
                directory[tag] = image.tag_v2[tag]
        directory[274] = orientation
        image.save(path, tiffinfo=directory)
    plain.unlink()
    return path


@pytest.mark.parametrize("kind", ["corners", "centres", "matrix", "points"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_that_is_turned_upright_stays_in_its_place(
    orientation: int, kind: str, tmp_path: Path, network: Network
) -> None:
    profile: dict[str, Any] = {"crs": "EPSG:32633", "transform": NORTH_UP}
    if kind == "points":
        profile = {"crs": "EPSG:4326", "gcps": POINTS}
    elif kind == "matrix":
        profile["transform"] = ROTATED
    (tmp_path / "in").mkdir()
    path = write_turned(tmp_path / "in/a.tif", orientation, **profile)
    if kind == "centres":
        with rasterio.open(path, "r+") as file:
            file.update_tags(AREA_OR_POINT="Point")
    predict(network, tmp_path)
    with rasterio.open(path) as file:
        place = transform_of(file)
        expected = {
            tuple(np.round(place @ (c + 0.5, r + 0.5), 6)): STRONGEST[r, c] for r, c in np.ndindex(HEIGHT, WIDTH)
        }
    with rasterio.open(tmp_path / "out/masks/a.tif") as file:
        mask, place = file.read(1), transform_of(file)
    assert mask.shape == ((WIDTH, HEIGHT) if orientation >= 5 else (HEIGHT, WIDTH))
    found = {tuple(np.round(place @ (c + 0.5, r + 0.5), 6)): mask[r, c] for r, c in np.ndindex(mask.shape)}
    assert found == expected


def transform_of(file: rasterio.DatasetReader) -> Affine:
    points, _ = file.gcps
    return rasterio.transform.from_gcps(points) if points else file.transform


def test_a_mask_is_found_by_its_coordinates(tmp_path: Path, network: Network) -> None:
    """From degrees of a map to the class that lies there."""
    write(tmp_path / "in/a.tif", crs="EPSG:32633", transform=NORTH_UP)
    predict(network, tmp_path)
    east, north = NORTH_UP @ (4.5, 2.5)
    (longitude,), (latitude,) = to_other_system("EPSG:32633", "EPSG:4326", [east], [north])
    with rasterio.open(tmp_path / "out/masks/a.tif") as file:
        (x,), (y,) = to_other_system("EPSG:4326", file.crs, [longitude], [latitude])
        assert next(file.sample([(x, y)])).tolist() == [STRONGEST[2, 4]]


def test_a_file_that_gains_or_loses_its_place_has_one_mask(tmp_path: Path, network: Network) -> None:
    path = write(tmp_path / "in/a.tif", crs="EPSG:32633", transform=NORTH_UP)
    predict(network, tmp_path)
    assert predict_inputs(network, [str(tmp_path / "in")], tmp_path / "out", Options()).num_present == 1
    Image.fromarray(COLORS_HWC).save(path)
    for suffix in (".png", ".tif"):
        predict(network, tmp_path)
        assert [one.name for one in (tmp_path / "out/masks").iterdir()] == [f"a{suffix}"]
        write(path, crs="EPSG:32633", transform=NORTH_UP)


def test_a_damaged_georeference_is_named_and_the_picture_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", crs="EPSG:32633", transform=NORTH_UP)
    content = path.read_bytes()
    entry = struct.pack("<HHI", 33550, 12, 3)
    assert content.count(entry) == 1
    for damaged in (struct.pack("<HHI", 33550, 12, 2), struct.pack("<HHI", 33550, 4, 3)):
        path.write_bytes(content.replace(entry, damaged))
        picture = load_image(path, ImageMapping())
        assert picture.georeference is None and picture.notes == ("its georeference is damaged, so its mask has none",)
        np.testing.assert_array_equal(picture.pixels, COLORS_HWC)
    text = struct.pack("<HH", 34737, 2)
    assert content.count(text) == 1
    path.write_bytes(content.replace(text, struct.pack("<HH", 34737, 3)))
    assert load_image(path, ImageMapping()).georeference is None
    place = content.index(entry) + len(entry)
    path.write_bytes(content[:place] + b"\xff\xff\xff\xff" + content[place + 4 :])
    assert load_image(path, ImageMapping()).georeference is None


def test_a_plain_tiff_has_no_place(tmp_path: Path) -> None:
    encoded = io.BytesIO()
    Image.fromarray(COLORS_HWC).save(encoded, "TIFF")
    (tmp_path / "a.tif").write_bytes(encoded.getvalue())
    picture = load_image(tmp_path / "a.tif", ImageMapping())
    assert (picture.georeference, picture.notes) == (None, ())
