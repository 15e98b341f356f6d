"""The model that MLflow loads, behind the signature that publishing gives it."""

from __future__ import annotations

import base64
import io
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.models import Model as MlflowModel
from mlflow.models import ModelSignature
from mlflow.types.schema import Schema, TensorSpec
from PIL import Image

from segpipe.documents import DECIDES_NOTHING

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # MLflow warns of its own types
    from mlflow.pyfunc import PyFuncModel
    from mlflow.pyfunc.scoring_server import infer_and_parse_data

    from segpipe.serving.served_model import SegmentationModel

SIGNATURE = ModelSignature(inputs=Schema([TensorSpec(np.dtype(object), (-1,))]))


class Reddest:
    """Predicts the channel of the highest value."""

    image_mapping = DECIDES_NOTHING

    def predict(self, images_NHWC: np.ndarray) -> np.ndarray:
        assert images_NHWC.dtype == np.uint8
        return images_NHWC.argmax(axis=3).astype(np.uint8)


class Implementation:
    """What MLflow wraps around a model's `predict(context, ...)`."""

    def __init__(self) -> None:
        self.model = SegmentationModel()
        self.model.network = Reddest()

    def predict(self, data: Any, params: Any = None) -> Any:
        return self.model.predict(SimpleNamespace(), data, params)


@pytest.fixture
def loaded() -> PyFuncModel:
    return PyFuncModel(
        MlflowModel(flavors={"python_function": {"loader_module": ""}}, signature=SIGNATURE), Implementation()
    )


@pytest.fixture
def images() -> list[np.ndarray]:
    """Two images of different sizes."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, shape, np.uint8) for shape in ((9, 7, 3), (4, 6, 3))]


def encode(image: np.ndarray, name: str = "PNG") -> bytes:
    content = io.BytesIO()
    Image.fromarray(image).save(content, name)
    return content.getvalue()


def read_mask(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as picture:
        assert (picture.format, picture.mode) == ("PNG", "L")
        return np.asarray(picture)


def in_objects(values: list[Any]) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


@pytest.mark.parametrize("is_text", [False, True], ids=["bytes", "base64"])
@pytest.mark.parametrize("form", ["frame", "series", "array"])
def test_a_column_of_encoded_images_gives_their_masks(
    loaded: PyFuncModel, images: list[np.ndarray], form: str, is_text: bool
) -> None:
    contents: list[Any] = [encode(image) for image in images]
    if is_text:
        contents = [base64.b64encode(content).decode() for content in contents]
    given = {"frame": pd.DataFrame({"image": contents}), "series": pd.Series(contents), "array": in_objects(contents)}
    masks = loaded.predict(given[form])
    assert {type(mask) for mask in masks} == {str if is_text else bytes}
    for mask, image in zip(masks, images, strict=True):
        content = base64.b64decode(mask, validate=True) if is_text else mask
        np.testing.assert_array_equal(read_mask(content), image.argmax(axis=2))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda texts: {"dataframe_split": {"columns": ["image"], "data": [[text] for text in texts]}},
        lambda texts: {"dataframe_records": [{"image": text} for text in texts]},
        lambda texts: {"inputs": texts},
        lambda texts: {"instances": texts},
    ],
    ids=["split", "records", "inputs", "instances"],
)
def test_each_form_of_mlflows_requests_carries_base64(loaded: PyFuncModel, images: list[np.ndarray], wrap: Any) -> None:
    texts = [f"data:image/png;base64,{base64.b64encode(encode(image)).decode()}" for image in images]
    masks = loaded.predict(infer_and_parse_data(wrap(texts), SIGNATURE.inputs))
    for mask, image in zip(masks, images, strict=True):
        np.testing.assert_array_equal(read_mask(base64.b64decode(mask)), image.argmax(axis=2))


def test_pixels_give_index_masks_as_before(loaded: PyFuncModel, images: list[np.ndarray]) -> None:
    batch = np.stack([images[0], 255 - images[0]])
    for given in (batch, infer_and_parse_data({"inputs": batch.tolist()}, SIGNATURE.inputs), batch[..., ::-1]):
        masks = loaded.predict(given)
        assert masks.dtype == np.uint8
        np.testing.assert_array_equal(masks, given.argmax(axis=3))


@pytest.mark.parametrize(
    ("given", "facts"),
    [
        (np.zeros((1, 4, 5, 3)), ["float64", "uint8"]),
        (np.zeros((4, 5, 3), np.uint8), ["(4, 5, 3)"]),
        (np.zeros((1, 4, 5, 4), np.uint8), ["(1, 4, 5, 4)"]),
        (np.full((1, 1, 1, 3), 256).astype(object), ["0..255"]),
        (np.full((1, 1, 1, 3), -1).astype(object), ["0..255"]),
        (np.full((1, 1, 1, 3), 0.5).astype(object), ["0..255"]),
        (np.full((1, 1, 1, 3), "a").astype(object), ["0..255"]),
        (in_objects([]), ["(0,)"]),
        (in_objects([7]), ["image 0", "int"]),
        (pd.DataFrame({"image": [b"no image"]}), ["image 0", "not an image"]),
        (pd.DataFrame({"image": ["%%%"]}), ["image 0"]),
        (pd.DataFrame({"image": ["é"]}), ["image 0", "base64"]),
    ],
)
def test_what_cannot_be_predicted_is_refused_with_400(loaded: PyFuncModel, given: Any, facts: list[str]) -> None:
    with pytest.raises(MlflowException) as caught:
        loaded.predict(given)
    assert caught.value.get_http_status_code() == 400
    assert not [fact for fact in facts if fact not in str(caught.value)], str(caught.value)


def test_an_older_signature_still_takes_pixels(images: list[np.ndarray]) -> None:
    signature = ModelSignature(inputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1, 3))]))
    old = PyFuncModel(
        MlflowModel(flavors={"python_function": {"loader_module": ""}}, signature=signature), Implementation()
    )
    np.testing.assert_array_equal(old.predict(images[0][None]), images[0][None].argmax(axis=3))
