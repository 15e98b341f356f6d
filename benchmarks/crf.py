"""What the dense CRF gains and costs: mIoU without and with it, and seconds for each image.

The network's logits and the CRF are computed once for each image; the seconds of both are wall clock, read from the
disk excluded. The CRF is worth more the coarser the network is: FCN-32s, FCN-8s. A huge image is refined tile by tile.

    python benchmarks/crf.py build/model build/dataset [--split val] [--device cpu] [--threads 2]
        [--appearance-weight 4 --appearance-px 67 --appearance-color 3 --smoothness-weight 3 --smoothness-px 1]
"""

import argparse
import resource
import time
from pathlib import Path

import numpy as np
import torch

from segpipe.choices import EVIDENCE
from segpipe.data.store import Store
from segpipe.inference.crf import refine
from segpipe.inference.device import choose_device
from segpipe.inference.evaluate import CONFUSION
from segpipe.inference.network import Network
from segpipe.inference.predictor import Predictor
from segpipe.metrics import mean_iou

SETTINGS = {
    "num_iterations": 5,
    "appearance_weight": 4.0,
    "appearance_px": 67.0,
    "appearance_color": 3.0,
    "smoothness_weight": 3.0,
    "smoothness_px": 1.0,
}
WITHOUT, WITH = "without", "with"


class Clock:
    """Adds up the seconds between its calls, by name."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.seconds = {WITHOUT: 0.0, WITH: 0.0}
        self.start()

    def start(self) -> None:
        """Forgets the time since the last call."""
        self._last = self._now()

    def stop(self, name: str) -> None:
        """Adds the time since the last call."""
        now = self._now()
        self.seconds[name] += now - self._last
        self._last = now

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


def measure(network: Network, store: Store, device: torch.device, settings: dict[str, float]) -> dict[str, list[float]]:
    """Gives, without and with the CRF, the mIoU, the IoU of each class and the seconds an image."""
    count = EVIDENCE.function_of(CONFUSION)
    num_classes = store.classes.num_classes
    totals = {name: np.zeros((num_classes, num_classes), np.int64) for name in (WITHOUT, WITH)}
    clock = Clock(device)
    for index in range(len(store)):
        image, mask = store.read(index)
        clock.start()
        for piece in Predictor(network.module).predict(image[None]):
            probabilities_NCHW = piece.probabilities_NCHW
            clock.stop(WITHOUT)
            pixels_NHWC = torch.tensor(image[None][piece.place]).to(device)
            refined_NCHW = refine(probabilities_NCHW, pixels_NHWC, **settings)  # type: ignore[arg-type]
            clock.stop(WITH)
            target_NHW = torch.tensor(mask[None][piece.place]).to(device)
            totals[WITHOUT] += count(probabilities_NCHW, target_NHW).sum(0).cpu().numpy()
            totals[WITH] += count(refined_NCHW, target_NHW).sum(0).cpu().numpy()
            clock.start()
    result = {}
    for name, total in totals.items():
        hits = np.diag(total)
        with np.errstate(invalid="ignore"):
            ious = hits / (total.sum(0) + total.sum(1) - hits)
        result[name] = [mean_iou.compute(total[None]), *ious.tolist(), clock.seconds[name] / len(store)]
    return result


def main() -> None:
    """Prints a table: a row for mIoU, each class and the seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a folder with model.json and weights.safetensors")
    parser.add_argument("dataset", type=Path, help="a store that preprocess wrote")
    parser.add_argument("--split", default="val")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    for name, value in SETTINGS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = choose_device(options.device)
    store = Store.open(options.dataset).of_split(options.split)
    network = Network.load(options.model, device)
    result = measure(network, store, device, {name: getattr(options, name) for name in SETTINGS})
    labels = ["mIoU", *(f"  {name}" for name in store.classes.names), "seconds an image"]
    print(f"{len(store)} images of {options.split}\n{'':24s} {WITHOUT:>9s} {WITH:>9s}")
    for label, before, after in zip(labels, result[WITHOUT], result[WITH], strict=True):
        print(f"{label:24s} {before:9.4f} {after:9.4f}   {after - before:+.4f}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB, all of the process")


if __name__ == "__main__":
    main()
