"""Trained models, from the registry or a folder."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
from PIL import Image

from segpipe.api.images import check_pixels, read_image
from segpipe.api.prediction import Prediction
from segpipe.api.summary import ModelSummary, summarize, summarize_export
from segpipe.classes import ClassTable
from segpipe.data.images import Picture
from segpipe.errors import ConfigError
from segpipe.export.exported import ExportedModel
from segpipe.export.exported import Prediction as BatchPrediction
from segpipe.export.in_torch import predict_in_torch
from segpipe.inference.device import choose_device, device_of
from segpipe.inference.network import Network
from segpipe.places import EXPORT_FILE, MODEL_FILE
from segpipe.registry.addresses import as_before, find_model

BATCH_SIZE, MAX_BATCH_PX = 4, 1 << 22  # of images of one size that are predicted at once


@dataclass(frozen=True, eq=False)
class Model:
    """A trained model on its device; `segpipe.load_model` gives one.

    Args:
        network: the trained network, and how it predicts; or an export of it.
        summary: what is known about it.
    """

    network: Network | ExportedModel = field(repr=False)
    summary: ModelSummary

    @property
    def classes(self) -> ClassTable:
        """Names and colours of the classes; `classes.names[i]` is index i of a mask."""
        return self.network.classes

    def describe(self) -> ModelSummary:
        """Says what is known about the model: name, version, classes, scores, inference, weights."""
        return self.summary

    @overload
    def predict(self, image: str | Path | Image.Image) -> Prediction: ...
    @overload
    def predict(self, image: list[Any] | tuple[Any, ...]) -> list[Prediction]: ...
    @overload
    def predict(self, image: npt.NDArray[np.uint8]) -> Any: ...

    def predict(self, image: Any) -> Prediction | list[Prediction]:
        """Predicts the mask of an image, or of several.

        The images are read, and predicted, as `segpipe predict` does. For folders of thousands of images, and for
        videos, use that command: it holds only some of them in memory.

        Args:
            image: a path; a picture of Pillow; (H, W, 3) uint8 RGB of any H and W; or several: a list of these, of any
                sizes, or (N, H, W, 3) uint8 RGB. An EXIF entry turns paths and pictures of Pillow, and their masks are
                upright; arrays are taken as they are.

        Returns:
            The prediction; for several images a list in their order.

        Raises:
            PredictionError: an image cannot be read, or has another form; says which.

        Examples:
            >>> import numpy as np, segpipe
            >>> model = segpipe.load_model("build/model")
            >>> prediction = model.predict(np.zeros((48, 64, 3), np.uint8))
            >>> prediction.mask.shape, prediction.mask.dtype, prediction.confidence.dtype
            ((48, 64), dtype('uint8'), dtype('float32'))
            >>> prediction.colors().size, round(sum(prediction.shares.values()), 6)
            ((64, 48), 1.0)
            >>> [one.mask.shape for one in model.predict(["data/images/a_000.png", np.zeros((40, 56, 3), np.uint8)])]
            [(48, 64), (40, 56)]
        """
        mapping = self.network.image_mapping
        if isinstance(image, np.ndarray) and image.ndim == 4:
            pictures = [Picture(pixels) for pixels in check_pixels(image, 4, "the batch")]
        elif isinstance(image, list | tuple):
            pictures = [read_image(one, mapping, f"image {place}") for place, one in enumerate(image)]
        else:
            return next(iter(self._predict([read_image(image, mapping, "the image")])))
        return self._predict(pictures)

    def _predict(self, pictures: Sequence[Picture]) -> list[Prediction]:
        predictions: list[Prediction | None] = [None] * len(pictures)
        for places in _batches([picture.pixels.shape[:2] for picture in pictures]):
            pixels = [pictures[place].pixels for place in places]
            batch = self._predict_batch(pixels[0][None] if len(pixels) == 1 else np.stack(pixels))
            for place, mask, confidence in zip(places, batch.masks_NHW, batch.confidences_NHW, strict=True):
                predictions[place] = Prediction(mask, confidence, self.classes, pictures[place].notes)
        return [prediction for prediction in predictions if prediction is not None]

    def _predict_batch(self, images_NHWC: npt.NDArray[np.uint8]) -> BatchPrediction:
        if isinstance(self.network, ExportedModel):
            return self.network.predict(images_NHWC)
        return predict_in_torch(self.network.predictor, images_NHWC)

    def __repr__(self) -> str:
        """The name and the device."""
        network = self.network
        place = "in ONNX Runtime" if isinstance(network, ExportedModel) else f"on {device_of(network.module)}"
        return f"<Model {self.summary.name!r}, {self.summary.network} {place}>"


def _batches(sizes: Sequence[tuple[int, ...]]) -> Iterator[list[int]]:
    """Gives the places of the images that are predicted at once: those of one size, fewer if they are large."""
    of_size: dict[tuple[int, ...], list[int]] = {}
    for place, size in enumerate(sizes):
        of_size.setdefault(size, []).append(place)
    for (height, width), places in of_size.items():
        step = max(1, min(BATCH_SIZE, MAX_BATCH_PX // (height * width)))
        yield from (places[start : start + step] for start in range(0, len(places), step))


def load_model(address: str | Path, registry: str | None = None, device: str = "auto") -> Model:
    """Loads a trained model.

    Args:
        address: `champion`; `models:/NAME@ALIAS`; `models:/NAME/VERSION`; or a folder: of a trained model, with
            `model.json` and `weights.safetensors`, such as `build/model`, or of an export to ONNX, with `export.json`
            and `model.onnx`, which runs in ONNX Runtime on the CPU. `champion` is that of `register.model_name` in
            `params.yaml`; in a folder without that file it is the registry's only champion.
        registry: address of MLflow; None takes `MLFLOW_TRACKING_URI`, or else the store `mlflow.db` of the project.
        device: `auto` takes the first GPU, or the CPU if there is none; or `cpu`, `cuda`, `cuda:N`, `mps`.

    Raises:
        PredictionError: the address has another form.
        TrackingError: the registry has no such model, or cannot be reached.
        StoreError: the files are missing or damaged, or today's code builds another network.
        ConfigError: there is no such device.
        ExportError: an export needs ONNX Runtime, which is not installed.

    Examples:
        >>> import segpipe
        >>> model = segpipe.load_model("build/model", device="cpu")
        >>> model.classes.names
        ('ground', 'sky', 'box')
        >>> model.predict("data/images/a_000.png").mask.shape
        (48, 64)
    """
    chosen = choose_device(device)
    with as_before(), find_model(address, registry) as files:
        if (files.folder / EXPORT_FILE).exists() and not (files.folder / MODEL_FILE).exists():
            return _load_export(files.folder, device)
        network = Network.load(files.folder, chosen)
        return Model(network, summarize(network, files))


def _load_export(folder: Path, device: str) -> Model:
    if device not in {"auto", "cpu"}:
        raise ConfigError(f"{folder}: is an export, which runs on the CPU; write device='cpu' instead of {device!r}")
    exported = ExportedModel.load(folder)
    return Model(exported, summarize_export(exported, folder))
