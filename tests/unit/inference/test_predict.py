"""Predicting folders of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from segpipe.classes import ClassTable
from segpipe.errors import PredictionError
from segpipe.inference import tiles
from segpipe.inference.network import Network
from segpipe.inference.predict import find_images, predict_images
from segpipe.reports.overlay import colorize, overlay


class _ReddestClass(nn.Module):
    """Says class 0, 1 or 2 where red, green or blue is the strongest."""

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        return images_NCHW


@pytest.fixture
def network(classes: ClassTable) -> Network:
    return Network(_ReddestClass().eval(), classes, "0" * 64)


def _write_image(path: Path, height: int = 4, width: int = 6) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    strongest = np.random.default_rng(height).integers(0, 3, (height, width))
    image = (np.eye(3)[strongest] * 255).astype(np.uint8)
    Image.fromarray(image).save(path)
    return image


def test_masks_colours_and_overlays_are_written(tmp_path: Path, network: Network, classes: ClassTable) -> None:
    images = {"a": _write_image(tmp_path / "in/a.png"), "sub/b.v1": _write_image(tmp_path / "in/sub/b.v1.png", 5, 7)}
    predictions = {p.name: p.mask for p in predict_images(network, tmp_path / "in", tmp_path / "out")}
    assert predictions.keys() == images.keys()
    for name, image in images.items():
        expected = image.argmax(axis=-1)
        np.testing.assert_array_equal(predictions[name], expected)
        for folder, picture in [
            ("masks", expected),
            ("colors", colorize(predictions[name], classes)),
            ("overlays", overlay(image, predictions[name], classes)),
        ]:
            with Image.open(tmp_path / "out" / folder / f"{name}.png") as written:
                np.testing.assert_array_equal(np.asarray(written), picture)
    assert len([path for path in (tmp_path / "out").rglob("*") if path.is_file()]) == 6


def test_one_image_is_predicted_too(tmp_path: Path, network: Network) -> None:
    _write_image(tmp_path / "a.png")
    assert [p.name for p in predict_images(network, tmp_path / "a.png", tmp_path / "out")] == ["a"]


def test_an_unreadable_image_does_not_keep_the_others_from_being_predicted(tmp_path: Path, network: Network) -> None:
    for name in ("a", "c"):
        _write_image(tmp_path / f"in/{name}.png")
    (tmp_path / "in/b.png").write_text("no image")
    names = []
    with pytest.raises(PredictionError, match=r"1 images could not be predicted:\n.*b\.png: is not an image"):
        names += [prediction.name for prediction in predict_images(network, tmp_path / "in", tmp_path / "out")]
    assert sorted(path.name for path in (tmp_path / "out/masks").iterdir()) == ["a.png", "c.png"]


def test_images_are_found_below_a_folder(tmp_path: Path) -> None:
    _write_image(tmp_path / "b.PNG")
    _write_image(tmp_path / "sub/a.jpg")
    (tmp_path / "notes.txt").touch()
    assert find_images(tmp_path) == {"b": tmp_path / "b.PNG", "sub/a": tmp_path / "sub/a.jpg"}


def test_what_cannot_be_found_is_said(tmp_path: Path) -> None:
    with pytest.raises(PredictionError, match="no such file or folder"):
        find_images(tmp_path / "nothing")
    with pytest.raises(PredictionError, match=r"holds no image \(\.avif, "):
        find_images(tmp_path)


def test_two_images_of_one_name_are_refused_before_any_is_predicted(tmp_path: Path, network: Network) -> None:
    for name in ("a.png", "a.jpg", "b.png"):
        _write_image(tmp_path / "in" / name)
    with pytest.raises(PredictionError, match=r"two images with the same name, .*a\.jpg and .*a\.png"):
        next(predict_images(network, tmp_path / "in", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_huge_image_is_predicted_in_tiles(tmp_path: Path, network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    image = _write_image(tmp_path / "a.png", 50, 70)
    for name, value in {"MAX_WHOLE_PX": 1, "WINDOW_PX": 16, "MARGIN_PX": 4, "ALIGNMENT_PX": 4}.items():
        monkeypatch.setattr(tiles, name, value)
    (prediction,) = predict_images(network, tmp_path / "a.png", tmp_path / "out")
    np.testing.assert_array_equal(prediction.mask, image.argmax(axis=-1))
