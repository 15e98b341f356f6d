"""What each way of predicting gains and costs: windows, bfloat16, mirroring, several sizes, the CRF, all together.

Prints the mIoU of a split and the time of its evaluation as a ratio to the network alone, measured in the same run. The
CRF is worth more the coarser the network is: FCN-32s, FCN-8s.

    python benchmarks/inference.py build/model build/dataset [--split val] [--device cpu] [--threads 2] [--window 256]
"""

import argparse
import time
from pathlib import Path

import torch

from segpipe.config.evaluate import Crf, Inference
from segpipe.data.store import Store
from segpipe.inference.device import choose_device
from segpipe.inference.evaluate import Evaluation, evaluate
from segpipe.inference.network import Network
from segpipe.inference.predictor import AS_TRAINED, Predictor
from segpipe.losses.cross_entropy import build_loss

SCALES = [0.75, 1.0, 1.25]
CRF = Crf(
    iterations=5,
    appearance_weight=4.0,
    appearance_px=67.0,
    appearance_color=3.0,
    smoothness_weight=3.0,
    smoothness_px=1.0,
)


def list_ways(window_px: int) -> dict[str, Inference]:
    """Gives the ways of predicting, by their labels; the network alone is the first."""
    return {
        "alone": AS_TRAINED,
        f"windows of {window_px} px": Inference(window_px=window_px, overlap=0.5),
        "bf16": Inference(precision="bf16"),
        "flip": Inference(flip=True),
        f"scales {SCALES}": Inference(scales=SCALES),
        "flip and scales": Inference(flip=True, scales=SCALES),
        "crf": Inference(crf=CRF),
        "flip, scales and crf": Inference(flip=True, scales=SCALES, crf=CRF),
    }


def measure(network: Network, store: Store, inference: Inference) -> tuple[Evaluation, float]:
    """Evaluates, and gives the seconds."""
    terms = [(1.0, build_loss(class_weights=torch.ones(store.classes.num_classes)))]
    begin = time.perf_counter()
    evaluation = evaluate(Predictor(network.module, inference), store, terms)
    return evaluation, time.perf_counter() - begin


def main() -> None:
    """Prints a table, a row for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a folder with model.json and weights.safetensors")
    parser.add_argument("dataset", type=Path, help="a store that preprocess wrote")
    parser.add_argument("--split", default="val")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--window", type=int, default=256, help="side of the windows, pixels")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    store = Store.open(options.dataset).of_split(options.split)
    network = Network.load(options.model, choose_device(options.device))
    measure(network, store, AS_TRAINED)  # warms up
    print(f"{len(store)} images of {options.split}\n{'':28s} {'mIoU':>7s} {'gain':>8s} {'ms/image':>9s} {'time':>7s}")
    first: tuple[float, float] | None = None
    for label, inference in list_ways(options.window).items():
        evaluation, seconds = measure(network, store, inference)
        first = first or (evaluation.mean_iou, seconds)
        gain, ratio, ms = evaluation.mean_iou - first[0], seconds / first[1], 1000 * seconds / len(store)
        print(f"{label:28s} {evaluation.mean_iou:7.4f} {gain:+8.4f} {ms:9.1f} {ratio:6.2f}x", flush=True)


if __name__ == "__main__":
    main()
