"""The networks that answer: ONNX Runtime or OpenVINO on an export, torch on the trained network, with one face."""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from segpipe.classes import ClassTable
from segpipe.documents import ImageMapping, NetworkDescription
from segpipe.errors import CommandError, ServingError
from segpipe.export.document import ExportDescription
from segpipe.export.exported import Backend, ExportedModel, Prediction
from segpipe.places import EXPORT_FILE, MODEL_FILE
from segpipe.process import run_module
from segpipe.serving.roles import CHAMPION, Role
from segpipe.serving.samples import Expected, check_prediction, make_samples

if TYPE_CHECKING:
    from segpipe.inference.network import Network

TORCH = "torch"
RUNTIMES: dict[str, Backend] = {"onnx": "onnxruntime", "openvino": "openvino"}
EXPORT_SECONDS = 900.0


class Model(Protocol):
    """A network that predicts."""

    @property
    def classes(self) -> ClassTable:
        """The classes of its masks."""
        ...

    @property
    def image_mapping(self) -> ImageMapping:
        """How the files of its images are to be read."""
        ...

    @property
    def weights_sha256(self) -> str:
        """Identifies its weights."""
        ...

    def predict(self, images_NHWC: npt.NDArray[np.uint8]) -> Prediction:
        """Predicts masks and confidences of (N, H, W, 3) uint8 RGB images."""
        ...


@dataclass(frozen=True)
class TorchModel:
    """A trained network by torch; it predicts as it was measured, large images by windows.

    Attributes:
        network: on its device.
    """

    network: "Network"

    @property
    def classes(self) -> ClassTable:
        """The classes of its masks."""
        return self.network.classes

    @property
    def image_mapping(self) -> ImageMapping:
        """How the files of its images are to be read."""
        return self.network.image_mapping

    @property
    def weights_sha256(self) -> str:
        """Identifies its weights."""
        return self.network.weights_sha256

    def predict(self, images_NHWC: npt.NDArray[np.uint8]) -> Prediction:
        """Predicts masks and confidences of (N, H, W, 3) uint8 RGB images."""
        from segpipe.export.in_torch import predict_in_torch

        return predict_in_torch(self.network.predictor, images_NHWC)


@dataclass(frozen=True, eq=False)
class Served:
    """A model in service.

    Attributes:
        model: predicts.
        backend: by what.
        name: of the registered model, or the folder.
        version: its number in the registry; None of a folder.
        role: in the service.
    """

    model: Model
    backend: str
    name: str
    version: str | None = None
    role: Role = CHAMPION

    @property
    def label(self) -> str:
        """The version for headers and logs; of a folder the first digits of the weights' sha256."""
        return self.version or self.model.weights_sha256[:12]


def choose_folder(files: Path, exports: Mapping[str, Path], backend: str) -> Path:
    """Gives what a registered version is loaded from: the export that it holds for a backend, or else its network.

    Args:
        files: the folder of its network.
        exports: the folders of the exports that it holds, by their format.
        backend: as for `load_served`. OpenVINO reads ONNX files too.

    Raises:
        StoreError: a description cannot be read.
        ServingError: the export is not one of this network.
    """
    ready = None if backend == TORCH else exports.get(backend, exports.get("onnx"))
    if ready is None:
        return files
    fix = "serve it by `--backend torch`"
    export = ExportDescription.read(ready / EXPORT_FILE, fix)
    network = NetworkDescription.read(files / MODEL_FILE, fix)
    if export.lineage.weights_sha256 != network.weights_sha256:
        raise ServingError(f"{ready}: is an export of other weights than those of its version; {fix}")
    return ready


def load_served(
    folder: Path,
    backend: str,
    workspace: Path,
    name: str,
    version: str | None = None,
    num_threads: int | None = None,
    role: Role = CHAMPION,
) -> Served:
    """Loads a model, and tries it on the samples before anyone gets an answer of it.

    A network without an export is exported first, by a process of its own: the service itself needs no torch then.

    Args:
        folder: of a trained network, or of an export.
        backend: one of `RUNTIMES`, or `TORCH`.
        workspace: a folder for the time of loading.
        name: of the registered model, or the folder.
        version: its number in the registry.
        num_threads: of ONNX Runtime or OpenVINO; None for all cores.
        role: in the service.

    Raises:
        SegpipeError: the folder holds no usable model, it cannot be exported, or its masks cannot be right.
    """
    with tempfile.TemporaryDirectory(dir=workspace) as place:
        model, expected = _load(folder, backend, Path(place) / "export", num_threads)
    served = Served(model, backend, name, version, role)
    _try(served, expected)
    return served


def _load(folder: Path, backend: str, output: Path, num_threads: int | None) -> tuple[Model, Expected | None]:
    if not folder.is_dir():
        raise ServingError(f"{folder}: no such folder; name one by --model FOLDER, or --model champion")
    is_export = (folder / EXPORT_FILE).exists()
    if backend == TORCH:
        if is_export:
            raise ServingError(f"{folder}: is an export, which torch does not load; serve it by `--backend onnx`")
        from segpipe.inference.device import choose_device
        from segpipe.inference.network import Network

        return TorchModel(Network.load(folder, choose_device("auto"))), None
    if not is_export:
        _export(folder, output)
        folder = output
    # A service shares its machine: threads that wait in a loop would take it from the decoding of pictures.
    return ExportedModel.load(folder, num_threads, RUNTIMES[backend], sleeps=True), Expected.read(folder)


def _export(folder: Path, output: Path) -> None:
    """Exports a network by another process, whose temporary files lie beside the output.

    Raises:
        ServingError: it cannot be exported; says why.
    """
    try:
        run_module(
            "segpipe.serving.preparing",
            [str(folder.resolve()), str(output)],
            cwd=output.parent,
            env={**os.environ, "TMPDIR": str(output.parent.resolve())},  # goes with it, also if the export is killed
            what="the export",
            timeout_seconds=EXPORT_SECONDS,
        )
    except CommandError as error:
        fix = "serve it by `--backend torch`"
        raise ServingError(f"{folder}: cannot be exported to ONNX; {fix}:\n{error}") from error


def _try(served: Served, expected: Expected | None) -> None:
    """Predicts the samples, which also makes the first request as fast as the others."""
    what = f"{served.name} version {served.label} by {served.backend}"
    masks = []
    for sample in make_samples():
        prediction = served.model.predict(sample)
        check_prediction(what, prediction, (sample.shape[1], sample.shape[2]), served.model.classes.num_classes)
        masks.append(prediction.masks_NHW)
    if expected is not None:
        expected.check(what, masks)
