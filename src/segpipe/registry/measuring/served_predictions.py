"""The child process of `measure`: loads one model as it is served, and answers image after image.

    served_predictions.py FILES SOURCES             `model.json` and weights, run by the package `segpipe` in SOURCES
    served_predictions.py EXPORT SOURCES export     an export, loaded by the package `segpipe` in SOURCES
    served_predictions.py MODEL                     an MLflow model, run by the code in its own folder

It runs as a script and imports nothing of today's segpipe, so that it loads the package that it was given: the network
as it was when the model was registered.

    standard input      for each image a line `height width`, then its (height, width, 3) uint8 RGB pixels
    standard output     for each image a line with the milliseconds of `predict`, then its (height, width) uint8 mask

It ends when its input ends, and says on standard error why it failed.
"""

import ctypes
import importlib
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import numpy as np

PR_SET_PDEATHSIG = 1
EXPORT = "export"  # the last argument, for an export


def end_with_parent() -> None:
    """Asks the kernel to kill this process when its parent ends; except on Linux, it ends at its next read of input."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def take_standard_output() -> BinaryIO:
    """Gives standard output for the answers alone: everything that the model's code prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


def load_by_sources(files: Path, sources: Path) -> Callable[[Any], Any]:
    """Loads a model with the package in a folder; no code of the model's own is imported."""
    sys.path.insert(0, str(sources))
    loader = next((sources / "segpipe").rglob("served_model.py"))
    spec = importlib.util.spec_from_file_location("served_model", loader)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model, context = module.SegmentationModel(), SimpleNamespace(artifacts={"model": str(files)})
    model.load_context(context)
    require_code_of(sources)
    return lambda images_NHWC: model.predict(context, images_NHWC)


def load_export(folder: Path, sources: Path) -> Callable[[Any], Any]:
    """Loads an export by ONNX Runtime or OpenVINO, on all cores, as `segpipe serve` does; it holds no Python code."""
    sys.path.insert(0, str(sources))
    model = importlib.import_module("segpipe.export.exported").ExportedModel.load(folder, sleeps=True)
    require_code_of(sources)
    return lambda images_NHWC: model.predict(images_NHWC).masks_NHW


def load_by_mlflow(folder: Path) -> Callable[[Any], Any]:
    """Loads a model as MLflow does, which runs the code in the model's folder."""
    import mlflow.pyfunc  # only now: this takes seconds, in which the parent may end

    model = mlflow.pyfunc.load_model(str(folder), suppress_warnings=True)
    require_code_of(folder / "code")
    return model.predict


def require_code_of(folder: Path) -> None:
    """Ends the process if the package was imported from elsewhere than this folder."""
    own = folder.resolve()
    for name, module in sys.modules.items():
        file = getattr(module, "__file__", None)
        if name.partition(".")[0] == "segpipe" and file and own not in Path(file).resolve().parents:
            sys.exit(f"it was registered without its code: {name} would be imported from {file}")


def load(model: str, sources: str = "", kind: str = "") -> Callable[[Any], Any]:
    """Loads what the arguments of this script name."""
    if not sources:
        return load_by_mlflow(Path(model))
    return (load_export if kind == EXPORT else load_by_sources)(Path(model), Path(sources))


def main() -> None:
    """Answers until the input ends."""
    end_with_parent()
    answers = take_standard_output()
    predict = load(*sys.argv[1:])
    while line := sys.stdin.buffer.readline():
        height, width = (int(number) for number in line.split())
        pixels = bytearray(sys.stdin.buffer.read(3 * height * width))  # writable, as torch needs it
        images_NHWC = np.frombuffer(pixels, np.uint8).reshape(1, height, width, 3)
        start = time.perf_counter()
        masks_NHW = np.asarray(predict(images_NHWC))
        milliseconds = 1000 * (time.perf_counter() - start)
        if masks_NHW.shape != (1, height, width) or masks_NHW.dtype != np.uint8:
            expected = f"(1, {height}, {width}) uint8"
            sys.exit(f"it gives {masks_NHW.shape} {masks_NHW.dtype} where a mask of {expected} is expected")
        answers.write(f"{milliseconds!r}\n".encode() + masks_NHW.tobytes())
        answers.flush()


if __name__ == "__main__":
    main()
