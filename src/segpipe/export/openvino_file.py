"""Writes an ONNX file in OpenVINO's form, and predicts by OpenVINO on a CPU."""

import functools
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segpipe.errors import ExportError, StoreError
from segpipe.export.document import CONFIDENCES, INPUT, MASKS
from segpipe.export.exported import Prediction

DEVICE = "CPU"
METADATA = "segpipe"  # the section of OpenVINO's runtime information


def import_openvino(what: str) -> Any:
    """Imports the package.

    Raises:
        ExportError: it is not installed.
    """
    try:
        import openvino
    except ImportError as error:
        raise ExportError(f"{what} needs openvino: `pip install 'segpipe[openvino]'`") from error
    return openvino


@functools.cache
def _make_core() -> Any:
    """Makes OpenVINO's core: one for the process, kept until its end.

    Each core gives its thread another stack for the handlers of signals. If the first of two is destroyed before the
    second, that one puts back the first one's, which is no longer in memory (seen with 2026.4): the next signal that
    has a handler, for example the SIGTERM that stops a service, would end the process by SIGSEGV.
    """
    import openvino

    return openvino.Core()


def check_bf16() -> None:
    """Checks that this machine computes with bfloat16, so that an export with it can be compared.

    Raises:
        ExportError: it does not, or OpenVINO is not installed.
    """
    import_openvino("--bf16")
    if not _has_bf16():
        raise ExportError(
            "--bf16: this machine's CPU does not compute with bfloat16 (avx512_bf16 or amx_bf16 in /proc/cpuinfo), so "
            "what it loses cannot be measured here; export on one that does, or without --bf16"
        )


def _has_bf16() -> bool:
    return "BF16" in _make_core().get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")


def write_openvino(source: Path, metadata: Mapping[str, str], path: Path) -> None:
    """Writes `*.xml` and, beside it, `*.bin`.

    Args:
        source: an ONNX file.
        metadata: becomes the section `segpipe` of the runtime information.
        path: of the file to write, `*.xml`.

    Raises:
        ExportError: an operation has no form in OpenVINO, or it is not installed.
    """
    openvino = import_openvino(f"{path}: an export to OpenVINO")
    try:
        model = _make_core().read_model(source)
        for key, value in metadata.items():
            model.set_rt_info(value, [METADATA, key])
        openvino.save_model(model, path, compress_to_fp16=False)
    except Exception as error:  # its errors have no class of their own that is public
        raise ExportError(f"OpenVINO cannot write the network: {str(error).strip().splitlines()[-1]}") from error


def open_openvino(
    path: Path, num_threads: int | None = None, bf16: bool = False
) -> Callable[[npt.NDArray[np.uint8]], Prediction]:
    """Gives the function that predicts by a file of OpenVINO or ONNX; several threads may call it at once.

    Args:
        path: of the file.
        num_threads: as for `ExportedModel.load`.
        bf16: computes sums of products with bfloat16 where the CPU does.

    Raises:
        StoreError: the file cannot be used.
        ExportError: OpenVINO is not installed.
    """
    import_openvino(f"{path}: to predict by it")
    # Always told: left alone, it takes bfloat16 where the CPU has it, and predicts otherwise than was compared.
    hints: dict[str, str | int] = {
        "INFERENCE_PRECISION_HINT": "bf16" if bf16 and _has_bf16() else "f32",
        "PERFORMANCE_HINT": "LATENCY",
        # Otherwise it keeps what it has compiled for thousands of image sizes: 700 MB after a thousand. Without it,
        # a new size takes 5% longer, and one that was there before as long.
        "CPU_RUNTIME_CACHE_CAPACITY": 0,
    }
    if num_threads is not None:
        hints["INFERENCE_NUM_THREADS"] = num_threads
    try:
        compiled = _make_core().compile_model(path, DEVICE, hints)
    except Exception as error:  # its errors have no class of their own that is public
        raise StoreError(f"{path}: OpenVINO cannot load it: {str(error).strip().splitlines()[-1]}") from error
    of_thread = threading.local()

    def predict(images_NHWC: npt.NDArray[np.uint8]) -> Prediction:
        if not hasattr(of_thread, "request"):  # a request holds one prediction at a time
            of_thread.request = compiled.create_infer_request()
        found = of_thread.request.infer({INPUT: np.ascontiguousarray(images_NHWC)}, share_inputs=True)
        return Prediction(found[MASKS].copy(), found[CONFIDENCES].copy())

    return predict
