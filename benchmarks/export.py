"""How fast the exports predict one image, from uint8 image to uint8 mask, against eager PyTorch in the same run.

`eager` is what a short script does: the network in NCHW, normalisation, arg-max. `network` is what MLflow's pyfunc and
`segpipe predict` compute with. All ways predict the same image in turn, in one process; each round gives one time of
each. Printed are the medians and their ratios to eager, in CPU seconds of all threads and by the clock. Idle threads
sleep, as in the stages and the service; else those of one way would take the cores of the next. The networks are
untrained, the ranges of int8 are those of made-up images: speed does not depend on the values.

    python benchmarks/export.py [--models compact_fpn unet_with_encoder] [--threads 1 2] [--rounds 15]
"""

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

import segpipe.stages  # noqa: F401  # isort: skip  # sets OpenMP's variables before torch is loaded
import torch
from torch import nn

from segpipe.classes import ClassTable
from segpipe.config.evaluate import Inference
from segpipe.export.exported import open_session, run_session
from segpipe.export.graph import ExportGraph
from segpipe.export.onnx_file import write_onnx
from segpipe.export.openvino_file import open_openvino
from segpipe.export.parity import make_up_batches
from segpipe.export.program import capture
from segpipe.export.quantize import Calibration, Quantizer
from segpipe.inference.logits import MEAN_RGB, STD_RGB
from segpipe.inference.network import Network, build_network
from segpipe.inference.predictor import AS_TRAINED

NUM_CLASSES = 11
HEIGHT, WIDTH = 360, 480
OPTIONS = {"compact_fpn": {}, "unet_with_encoder": {"encoder": "resnet18"}}

Predict = Callable[[npt.NDArray[np.uint8]], object]


@torch.no_grad()
def make_network(name: str) -> nn.Module:
    """Gives an untrained network with running statistics as of a training."""
    torch.manual_seed(0)
    module = build_network(name, OPTIONS[name], NUM_CLASSES)
    module.train()(torch.randn(4, 3, 128, 128))
    return module.eval()


def write_files(module: nn.Module, folder: Path) -> tuple[Path, Path]:
    """Writes the network as ONNX, in float and with 8 bits."""
    graph = ExportGraph(module, AS_TRAINED)
    plain, int8 = folder / "model.onnx", folder / "int8.onnx"
    write_onnx(capture(graph), graph.output_names, {}, plain)
    images = [batch.images_NHWC[0] for batch in make_up_batches()]
    quantizer = Quantizer.make(plain, Calibration(images, ""))
    quantizer.write(int8, quantizer.layers)
    return plain, int8


def list_ways(module: nn.Module, plain: Path, int8: Path, num_threads: int) -> dict[str, Predict]:
    """Gives the ways to predict; the first is the reference."""
    names = tuple(str(index) for index in range(NUM_CLASSES))
    network = Network(module, ClassTable(names, tuple((index, 0, 0) for index in range(NUM_CLASSES))), "")
    network_bf16 = replace(network, inference=Inference(precision="bf16"))
    ways: dict[str, Predict] = {
        "eager": predict_eagerly(module),
        "network (pyfunc)": network.predict,
        "network in bf16": network_bf16.predict,
    }
    for label, path in (("fp32", plain), ("int8", int8)):
        session = open_session(path, num_threads, sleeps=True)
        ways[f"ONNX Runtime {label}"] = lambda images, session=session: run_session(session, images)  # type: ignore[misc]
    for label, path, bf16 in (
        ("fp32", plain, False),
        ("bf16", plain, True),
        ("int8", int8, False),
        ("int8 and bf16", int8, True),
    ):
        ways[f"OpenVINO {label}"] = open_openvino(path, num_threads, bf16)
    return ways


def predict_eagerly(module: nn.Module) -> Predict:
    """Gives the reference, as a short script does it."""
    in_nchw = copy.deepcopy(module).to(memory_format=torch.contiguous_format)
    mean_1C11, std_1C11 = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN_RGB, STD_RGB))

    @torch.inference_mode()
    def predict(images_NHWC: npt.NDArray[np.uint8]) -> object:
        images_NCHW = torch.from_numpy(images_NHWC).permute(0, 3, 1, 2).contiguous().float()
        return in_nchw((images_NCHW - mean_1C11) / std_1C11).argmax(dim=1).to(torch.uint8).numpy()

    return predict


def measure(ways: dict[str, Predict], rounds: int) -> dict[str, tuple[float, float]]:
    """Gives the median CPU seconds and seconds of each way, which predict in turn."""
    image = np.random.default_rng(0).integers(0, 256, (1, HEIGHT, WIDTH, 3), dtype=np.uint8)
    for way in ways.values():  # warms up
        way(image)
        way(image)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            began_cpu, began = time.process_time(), time.perf_counter()
            way(image)
            seconds[name].append((time.process_time() - began_cpu, time.perf_counter() - began))
    return {
        name: (statistics.median(cpu for cpu, _ in values), statistics.median(clock for _, clock in values))
        for name, values in seconds.items()
    }


def main() -> None:
    """Prints a table for each network and number of threads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(OPTIONS), default=list(OPTIONS))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    for name in options.models:
        module = make_network(name)
        with tempfile.TemporaryDirectory() as folder:
            plain, int8 = write_files(module, Path(folder))
            for num_threads in options.threads:
                torch.set_num_threads(num_threads)
                found = measure(list_ways(module, plain, int8, num_threads), options.rounds)
                cpu, clock = found["eager"]
                print(f"\n{name}, {num_threads} threads\n{'':28}CPU ms ratio  clock ms ratio")
                for label, (cpu_s, clock_s) in found.items():
                    in_cpu = f"{1000 * cpu_s:8.1f} {cpu_s / cpu:5.2f}"
                    print(f"{label:26}{in_cpu}  {1000 * clock_s:8.1f} {clock_s / clock:5.2f}", flush=True)


if __name__ == "__main__":
    main()
