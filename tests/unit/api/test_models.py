"""Models from folders: which images they take, and what they give."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import segpipe
from segpipe.data.images import load_image
from segpipe.documents import ImageMapping
from segpipe.errors import ConfigError, PredictionError, StoreError
from segpipe.inference.network import Network
from segpipe.places import EVALUATION_FILE, METRICS_FILE

UPSIDE_DOWN = 3  # EXIF's orientation


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.fixture
def model(write_model: Callable[..., Path]) -> segpipe.Model:
    return segpipe.load_model(write_model(), device="cpu")


def masks_of(model: segpipe.Model, images_NHWC: np.ndarray) -> np.ndarray:
    return model.network.predict(images_NHWC)


def test_an_array_gives_mask_and_confidence(model: segpipe.Model) -> None:
    image = draw(33, 47, 3)
    prediction = model.predict(image)
    assert isinstance(prediction, segpipe.Prediction)
    np.testing.assert_array_equal(prediction.mask, masks_of(model, image[None])[0])
    assert prediction.mask.dtype == np.uint8
    (piece,) = model.network.predictor.predict(image[None])
    np.testing.assert_array_equal(prediction.confidence, piece.probabilities_NCHW.amax(dim=1)[0].numpy())
    assert prediction.confidence.dtype == np.float32
    assert prediction.classes is model.classes


def test_a_prediction_has_shares_and_colours(model: segpipe.Model) -> None:
    mask = np.array([[0, 0, 0], [2, 0, 2]], np.uint8)
    prediction = segpipe.Prediction(mask, np.ones((2, 3), np.float32), model.classes)
    assert prediction.shares == {"road": 4 / 6, "car": 0.0, "sky": 2 / 6}
    colors = np.asarray(prediction.colors())
    assert colors.shape == (2, 3, 3)
    assert colors[0, 0].tolist() == [128, 64, 128] and colors[1, 0].tolist() == [70, 130, 180]
    assert repr(prediction) == "Prediction(3x2 px: road 66.7%, sky 33.3%)"


def test_paths_pictures_and_arrays_of_one_image_give_the_same_mask(model: segpipe.Model, tmp_path: Path) -> None:
    pixels = draw(32, 48, 3)
    path = tmp_path / "image.png"
    Image.fromarray(pixels).save(path)
    with Image.open(path) as opened:
        given = [path, str(path), opened, Image.fromarray(pixels), pixels]
        masks = [model.predict(image).mask for image in given]
    for mask in masks[1:]:
        np.testing.assert_array_equal(mask, masks[0])


def test_a_list_keeps_its_order_over_all_sizes(model: segpipe.Model, tmp_path: Path) -> None:
    images = [draw(16, 24, 3), draw(40, 24, 3), 255 - draw(16, 24, 3), draw(24, 24, 3)] + [draw(16, 24, 3)] * 5
    Image.fromarray(images[3]).save(tmp_path / "image.png")
    predictions = model.predict([*images[:3], tmp_path / "image.png", *images[4:]])
    for image, prediction in zip(images, predictions, strict=True):
        np.testing.assert_array_equal(prediction.mask, masks_of(model, image[None])[0])


def test_a_batch_gives_a_list(model: segpipe.Model) -> None:
    batch = draw(3, 16, 24, 3)
    predictions = model.predict(batch)
    assert len(predictions) == 3
    np.testing.assert_array_equal(np.stack([one.mask for one in predictions]), masks_of(model, batch))
    assert model.predict(batch[:0]) == [] and model.predict([]) == []


def test_a_view_is_taken_as_what_it_shows(model: segpipe.Model) -> None:
    bgr = draw(2, 16, 24, 3)[..., ::-1]  # what OpenCV's users write
    expected = masks_of(model, bgr.copy())
    np.testing.assert_array_equal(np.stack([one.mask for one in model.predict(bgr)]), expected)
    np.testing.assert_array_equal(model.predict(bgr[0]).mask, expected[0])


@pytest.mark.parametrize("form", ["path", "picture"])
def test_a_turned_photo_is_predicted_upright_and_that_is_told(model: segpipe.Model, tmp_path: Path, form: str) -> None:
    pixels, path, exif = draw(16, 32, 3), tmp_path / "photo.png", Image.Exif()
    exif[0x0112] = UPSIDE_DOWN
    Image.fromarray(pixels).save(path, exif=exif)
    with Image.open(path) as picture:
        prediction = model.predict(path if form == "path" else picture)
    np.testing.assert_array_equal(prediction.mask, masks_of(model, pixels[None, ::-1, ::-1].copy())[0])
    assert prediction.notes == ("turned upright by EXIF",)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "F"])
def test_a_picture_is_read_as_its_file_is(write_model: Callable[..., Path], tmp_path: Path, mode: str) -> None:
    mapping = {"range": [0, 1000], "background": [255, 0, 255]}
    model = segpipe.load_model(write_model(image_mapping=mapping), device="cpu")
    if mode in {"I;16", "F"}:
        picture = Image.fromarray(draw(16, 24).astype(np.uint16 if mode == "I;16" else np.float32))
    else:
        colors = Image.fromarray(draw(16, 24, 4))
        picture = (colors if "A" in mode else colors.convert("RGB")).convert(mode)
    assert picture.mode == mode
    picture.save(tmp_path / "image.tif")
    expected = load_image(tmp_path / "image.tif", ImageMapping(range=(0, 1000), background=(255, 0, 255))).pixels
    np.testing.assert_array_equal(model.predict(picture).mask, masks_of(model, expected[None])[0])


@pytest.mark.parametrize(
    ("image", "facts"),
    [
        (np.zeros((4, 5, 3)), ["float64", "uint8", "255 * image"]),
        (np.zeros((4, 5), np.uint8), ["(4, 5)", "(H, W, 3)"]),
        (np.zeros((4, 5, 4), np.uint8), ["(4, 5, 4)"]),
        (np.zeros((2, 4, 5, 1), np.uint8), ["batch", "(2, 4, 5, 1)"]),
        (np.zeros((0, 5, 3), np.uint8), ["(0, 5, 3)"]),
        (torch.zeros(3, 4, 5), ["Tensor"]),
        (None, ["NoneType", "path"]),
        ([np.zeros((4, 5, 3), np.uint8), 7], ["image 1", "int"]),
        ("absent.png", ["absent.png", "No such file"]),
    ],
)
def test_what_is_no_image_is_refused(model: segpipe.Model, image: Any, facts: list[str]) -> None:
    with pytest.raises(PredictionError) as caught:
        model.predict(image)
    assert not [fact for fact in facts if fact not in str(caught.value)], str(caught.value)


def test_a_file_that_is_no_image_is_named(model: segpipe.Model, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("no image")
    with pytest.raises(segpipe.SegpipeError, match=r"notes\.png"):
        model.predict([tmp_path / "notes.png"])


def test_a_model_says_what_it_is(write_model: Callable[..., Path]) -> None:
    folder = write_model()
    summary = segpipe.load_model(folder, device="cpu").describe()
    assert (summary.name, summary.version, summary.network) == (str(folder), None, "unet")
    assert summary.classes == ("road", "car", "sky")
    assert summary.val_scores == {}
    assert summary.weights_sha256 == Network.load(folder, torch.device("cpu")).weights_sha256
    text = str(summary)
    assert str(folder) in text and "road, car, sky" in text and summary.weights_sha256 in text


def test_the_scores_of_the_evaluation_next_to_it_are_known_if_they_are_of_these_weights(
    write_model: Callable[..., Path],
) -> None:
    folder = write_model()
    sha256 = segpipe.load_model(folder, device="cpu").describe().weights_sha256
    evaluation = folder.parent / "evaluation"
    evaluation.mkdir()
    scores = {"mean_iou": 0.5, "iou": {"road": 0.5, "car": None, "sky": 0.5}, "loss": 1.0}
    (evaluation / METRICS_FILE).write_text(json.dumps({"val": scores}))
    for weights, expected in ((sha256, {"mean_iou": 0.5, "iou": scores["iou"]}), ("0" * 64, {})):
        document = {"weights_sha256": weights, "class_table": "", "evaluation_digest": "", "inference": None}
        (evaluation / EVALUATION_FILE).write_text(json.dumps(document))
        assert segpipe.load_model(folder, device="cpu").describe().val_scores == expected


def test_an_export_predicts_what_its_model_predicts(write_model: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from segpipe.export.make import export_model

    network = segpipe.load_model(write_model(), device="cpu")
    export_model(tmp_path / "model", tmp_path / "export")
    exported = segpipe.load_model(tmp_path / "export")
    images = [draw(40, 56, 3), draw(64, 48, 3)]
    for one, other in zip(exported.predict(images), network.predict(images), strict=True):
        assert (one.mask == other.mask).mean() > 0.999
        np.testing.assert_allclose(one.confidence, other.confidence, atol=1e-4)
    assert exported.classes == network.classes
    assert exported.describe().weights_sha256 == network.describe().weights_sha256
    assert "ONNX" in repr(exported) and "ONNX" in str(exported.describe())
    with pytest.raises(ConfigError, match="cuda"):
        segpipe.load_model(tmp_path / "export", device="cuda")


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=str(tmp_path)):
        segpipe.load_model(tmp_path)


@pytest.mark.parametrize("address", ["models:/streets", "models:/a/b/3", "models:/streets/newest"])
def test_an_address_of_another_form_is_refused(address: str) -> None:
    with pytest.raises(PredictionError, match="models:/NAME@ALIAS"):
        segpipe.load_model(address)


def test_an_unknown_device_is_refused(write_model: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match="tpu"):
        segpipe.load_model(write_model(), device="tpu")
