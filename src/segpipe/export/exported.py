"""Predicts by an export, with ONNX Runtime or OpenVINO and without torch."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from segpipe.classes import ClassTable
from segpipe.documents import ImageMapping
from segpipe.errors import ExportError, StoreError
from segpipe.export.document import (
    CONFIDENCES,
    FILES,
    INPUT,
    MASKS,
    OPENVINO_FILE,
    TRITON_CONFIG,
    ExportDescription,
)
from segpipe.files import sha256_of_file
from segpipe.places import EXPORT_FILE

if TYPE_CHECKING:
    import onnxruntime

Backend = Literal["onnxruntime", "openvino"]
# Of each format.
BACKENDS: dict[str, Backend] = {"onnx": "onnxruntime", "openvino": "openvino", "triton": "onnxruntime"}
INSTALL = "needs onnxruntime: `pip install 'segpipe[export]'`"


@dataclass(frozen=True)
class Prediction:
    """The prediction of a batch of images.

    Attributes:
        masks_NHW: (N, H, W) uint8 class indices.
        confidences_NHW: (N, H, W) float32, the probability of the mask's class, 0..1.
    """

    masks_NHW: npt.NDArray[np.uint8]
    confidences_NHW: npt.NDArray[np.float32]


@dataclass(frozen=True)
class ExportedModel:
    """An export, ready to predict; several threads may use it at once.

    Attributes:
        run: predicts masks and confidences of (N, H, W, 3) uint8 RGB images.
        description: the content of `export.json`.
    """

    run: Callable[[npt.NDArray[np.uint8]], Prediction] = field(repr=False)
    description: ExportDescription

    @staticmethod
    def load(
        folder: Path, num_threads: int | None = None, backend: Backend | None = None, sleeps: bool = False
    ) -> "ExportedModel":
        """Loads the model's file and `export.json`.

        Args:
            folder: what `segpipe export` wrote, by `--format onnx`, `openvino` or `triton`.
            num_threads: of one prediction; None lets the backend choose: one a core.
            backend: what computes; None takes ONNX Runtime for `model.onnx`, OpenVINO for `model.xml`. OpenVINO
                computes `model.onnx` too.
            sleeps: whether ONNX Runtime's threads sleep while they have no work. Otherwise they ask for it in a loop,
                which takes processor time from others.

        Raises:
            StoreError: a file is missing or damaged, or does not fit the other, or is not for the backend.
            ExportError: the backend is not installed.
        """
        fix = "export the model again (`segpipe export`)"
        description = ExportDescription.read(folder / EXPORT_FILE, fix)
        if description.format == "torch":
            raise StoreError(f"{folder}: holds a torch program; load it by torch.export.load, or export --format onnx")
        # A user may tune the configuration for a Triton server; it decides no prediction.
        for name in [name for name in FILES[description.format] if name != TRITON_CONFIG]:
            _check_file(folder, name, description, fix)
        path = folder / FILES[description.format][0]
        backend = backend or BACKENDS[description.format]
        return ExportedModel(open_export(path, backend, num_threads, description.bf16, sleeps), description)

    @property
    def classes(self) -> ClassTable:
        """The classes of the masks."""
        return self.description.classes

    @property
    def image_mapping(self) -> ImageMapping:
        """How the files of images are to be read."""
        return self.description.image_mapping

    @property
    def weights_sha256(self) -> str:
        """The sha256 of the file with the weights that were exported."""
        return self.description.lineage.weights_sha256

    def predict(self, images_NHWC: npt.NDArray[np.uint8]) -> Prediction:
        """Predicts masks and confidences.

        Args:
            images_NHWC: (N, H, W, 3) uint8 RGB, any N, H and W.
        """
        return self.run(images_NHWC)


def _check_file(folder: Path, name: str, description: ExportDescription, fix: str) -> None:
    path = folder / name
    try:
        is_as_written = sha256_of_file(path) == description.files.get(name)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror or error}; {fix}") from error
    if not is_as_written:
        raise StoreError(f"{path}: its sha256 is not the one in {EXPORT_FILE}; {fix}")


def open_export(
    path: Path, backend: Backend, num_threads: int | None = None, bf16: bool = False, sleeps: bool = False
) -> Callable[[npt.NDArray[np.uint8]], Prediction]:
    """Gives the function that predicts by a file.

    Args:
        path: of an ONNX file, or of one of OpenVINO.
        backend: what computes.
        num_threads: as for `ExportedModel.load`.
        bf16: whether OpenVINO computes with bfloat16.
        sleeps: as for `ExportedModel.load`.

    Raises:
        StoreError: the file cannot be used, or is not for the backend.
        ExportError: the backend is not installed.
    """
    if backend == "openvino":
        from segpipe.export.openvino_file import open_openvino

        return open_openvino(path, num_threads, bf16)
    if path.name == OPENVINO_FILE:
        raise StoreError(f"{path}: ONNX Runtime cannot load it; take the backend openvino, or export --format onnx")
    session = open_session(path, num_threads, sleeps)
    return lambda images_NHWC: run_session(session, images_NHWC)


def open_session(path: Path, num_threads: int | None = None, sleeps: bool = False) -> "onnxruntime.InferenceSession":
    """Opens an ONNX file on the CPU.

    Args:
        path: of the file.
        num_threads: as for `ExportedModel.load`.
        sleeps: as for `ExportedModel.load`.

    Raises:
        StoreError: the file cannot be used.
        ExportError: ONNX Runtime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ExportError(f"{path}: to predict by it {INSTALL}") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    if num_threads is not None:
        options.intra_op_num_threads = num_threads
    if sleeps:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no class of their own that is public
        raise StoreError(f"{path}: ONNX Runtime cannot load it: {error}") from error


def run_session(session: "onnxruntime.InferenceSession", images_NHWC: npt.NDArray[np.uint8]) -> Prediction:
    """Gives what a session computes for images, (N, H, W, 3) uint8 RGB."""
    outputs: list[Any] = session.run([MASKS, CONFIDENCES], {INPUT: images_NHWC})
    return Prediction(*outputs)
