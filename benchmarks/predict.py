"""How fast `segpipe predict` is on a folder, from files to files, against two peers in the same run.

`network`: the same network and batches on the same pixels in memory, masks only. `plain`: a script as one writes it,
OpenCV and torch in NCHW, one image after another: decode, predict, draw, write three PNG files. All three run in one
process, in turn; imports and the loading of the model are excluded. Medians of the rounds, wall clock.

    python benchmarks/predict.py MODEL IMAGES [--rounds 3] [--threads 2] [--batch 4] [--device cpu] [--precision bf16]
"""

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from segpipe.classes import ClassTable
from segpipe.data.images import is_picture_name, load_image
from segpipe.inference.device import choose_device, device_of
from segpipe.inference.logits import MEAN_RGB, STD_RGB
from segpipe.inference.network import Network
from segpipe.prediction.job import Options, predict_inputs


def measure(network: Network, folder: Path, rounds: int, batch_size: int) -> dict[str, float]:
    """Gives the seconds of each way."""
    files = sorted(path for path in folder.rglob("*") if is_picture_name(path.name))
    images = [load_image(path, network.image_mapping).pixels for path in files]
    if len({image.shape for image in images}) != 1:
        raise SystemExit("the images have several sizes: the network alone would need other batches")
    batches = [np.stack(images[i : i + batch_size]) for i in range(0, len(images), batch_size)]
    in_nchw = copy.deepcopy(network.module).to(memory_format=torch.contiguous_format)
    ways: dict[str, Callable[[Path], object]] = {
        "network": lambda output: [network.predict(batch) for batch in batches],
        "plain": lambda output: [predict_plainly(in_nchw, network.classes, file, output) for file in files],
        "segpipe": lambda output: predict_inputs(network, [str(folder)], output, Options(batch_size=batch_size)),
    }
    network.predict(batches[0])
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            with tempfile.TemporaryDirectory() as output:
                began = time.perf_counter()
                way(Path(output))
                seconds[name].append(time.perf_counter() - began)
    for name, values in seconds.items():
        print(f"{name:10}", *(f"{len(files) / value:8.1f}" for value in values), "images/s")
    return {name: statistics.median(values) for name, values in seconds.items()}


@torch.inference_mode()
def predict_plainly(module: nn.Module, classes: ClassTable, file: Path, output: Path) -> None:
    """Predicts one image as a short script does."""
    stored = cv2.imread(str(file))
    assert stored is not None
    image = cv2.cvtColor(stored, cv2.COLOR_BGR2RGB)
    normalized = (image - np.array(MEAN_RGB, np.float32)) / np.array(STD_RGB, np.float32)
    inputs = torch.from_numpy(normalized.transpose(2, 0, 1)[None]).to(device_of(module))
    mask = module(inputs).argmax(dim=1)[0].to(torch.uint8).cpu().numpy()
    colors = classes.color_lookup()[mask]
    mixed = (0.4 * image + 0.6 * colors).round().astype(np.uint8)
    for kind, picture in (("mask", mask), ("color", colors[..., ::-1]), ("overlay", mixed[..., ::-1])):
        cv2.imwrite(str(output / f"{file.stem}_{kind}.png"), picture)


def main() -> None:
    """Measures and prints images a second and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32", help="of network and segpipe")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    network = Network.load(options.model, choose_device(options.device))
    network = replace(network, inference=network.inference.model_copy(update={"precision": options.precision}))
    seconds = measure(network, options.images, options.rounds, options.batch)
    print(f"rate of the network that predict reaches: {seconds['network'] / seconds['segpipe']:.2f}")
    print(f"time of the plain script that predict takes: {seconds['segpipe'] / seconds['plain']:.2f}")


if __name__ == "__main__":
    main()
