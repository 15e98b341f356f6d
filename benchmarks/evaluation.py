"""How long an evaluation with every metric takes, next to a plain loop with torchmetrics, and the share of each kind.

The peer is what a script does: smp's U-Net as it is built, batches of eight, the cross-entropy, three metrics of
torchmetrics (mean IoU, pixel accuracy, mean accuracy). It gives no boundaries, objects, calibration and no numbers of
single images. Both take the same images of a store, in turns, each in a process of its own, with the same weights. They
are random, which costs more than trained ones, because ragged masks have more boundary and more objects.

    python benchmarks/evaluation.py --dataset build/dataset --split test --num-images 64 [--precision bf16]

CPU seconds are compared, because other work shares the cores of most machines.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from segpipe.choices import EVIDENCE
from segpipe.classes import IGNORE_INDEX
from segpipe.config.evaluate import Inference
from segpipe.data.store import Store, evenly_spread
from segpipe.inference.device import keep_freed_memory
from segpipe.inference.evaluate import evaluate
from segpipe.inference.logits import MEAN_RGB, STD_RGB
from segpipe.inference.predictor import Predictor
from segpipe.losses.cross_entropy import build_loss
from segpipe.metrics.parts.prediction import Prediction
from segpipe.metrics.parts.scores import list_evidence, score

BATCH, NUM_ROUNDS = 8, 3
OURS, PEER = "segpipe", "plain"


def evaluate_plainly(module: nn.Module, store: Store) -> float:
    """Evaluates as a script does; gives the mean IoU."""
    num_classes = store.classes.num_classes
    metrics = MetricCollection(
        {
            "iou": MulticlassJaccardIndex(num_classes, average="macro", ignore_index=IGNORE_INDEX),
            "pixel": MulticlassAccuracy(num_classes, average="micro", ignore_index=IGNORE_INDEX),
            "mean": MulticlassAccuracy(num_classes, average="macro", ignore_index=IGNORE_INDEX),
        }
    )
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN_RGB, STD_RGB))
    losses = []
    with torch.inference_mode():
        for begin in range(0, len(store), BATCH):
            pairs = [store.read(index) for index in range(begin, min(begin + BATCH, len(store)))]
            images_NCHW = (
                torch.from_numpy(np.stack([image for image, _ in pairs])).permute(0, 3, 1, 2).float().contiguous()
            )
            target_NHW = torch.from_numpy(np.stack([mask for _, mask in pairs])).long()
            logits_NCHW = module((images_NCHW - mean) / std)
            losses.append(float(F.cross_entropy(logits_NCHW, target_NHW, ignore_index=IGNORE_INDEX)))
            metrics.update(logits_NCHW.argmax(dim=1), target_NHW)
    return float(metrics.compute()["iou"])


def evaluate_fully(module: nn.Module, store: Store, inference: Inference) -> float:
    """Evaluates as the stage does, every metric included; gives the mean IoU that counts as the peer's does."""
    terms = [(1.0, build_loss(class_weights=torch.ones(store.classes.num_classes)))]
    scores = score(evaluate(Predictor(module, inference), store, terms, list_evidence()).evidence, store.classes.names)
    return float(scores["mean_iou_with_predicted"])


def cpu_ms(work: Callable[[], object]) -> float:
    """Gives the CPU milliseconds of all threads."""
    begin = time.process_time()
    work()
    return 1000 * (time.process_time() - begin)


def time_evidence(store: Store) -> None:
    """Prints the time of each kind of evidence, with a prediction that is like a trained model's: shifted by 3 px."""
    masks_NHW = np.stack([store.read(index)[1] for index in range(len(store))])
    classes_NHW = np.roll(np.where(masks_NHW == IGNORE_INDEX, 0, masks_NHW), 3, axis=1)
    confidence_NHW = np.random.default_rng(0).uniform(0.3, 1, masks_NHW.shape).astype(np.float32)
    prediction = Prediction(classes_NHW, store.classes.num_classes, confidence_NHW)
    for kind in EVIDENCE.names():
        collect = EVIDENCE.function_of(kind)
        taken = min(cpu_ms(lambda collect=collect: collect(prediction, masks_NHW)) for _ in range(NUM_ROUNDS))  # type: ignore[misc]
        print(f"{kind:12} {taken / len(store):6.2f} ms an image")


def measure(way: str, store: Store, inference: Inference) -> None:
    """Prints CPU and wall-clock milliseconds an image, and the mean IoU."""
    torch.manual_seed(0)
    network = smp.Unet("resnet18", encoder_weights=None, classes=store.classes.num_classes).eval()
    if way == OURS:
        keep_freed_memory()
        network = network.to(memory_format=torch.channels_last)
    evaluated = partial(evaluate_fully, inference=inference) if way == OURS else evaluate_plainly
    warm_up = replace(store, manifest=store.manifest.iloc[:BATCH])
    evaluated(network, warm_up)
    found: list[float] = []
    begin = time.perf_counter()
    cpu = cpu_ms(lambda: found.append(evaluated(network, store)))
    print(cpu / len(store), 1000 * (time.perf_counter() - begin) / len(store), found[0])


def main() -> None:
    """Prints the times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", type=Path, default=Path("build/dataset"))
    parser.add_argument("--split", default="test")
    parser.add_argument("--num-images", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32", help="of segpipe")
    parser.add_argument("--way", choices=[OURS, PEER], help="prints one measurement only")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    whole = Store.open(options.dataset).of_split(options.split)
    rows = evenly_spread(len(whole), options.num_images)
    store = replace(whole, manifest=whole.manifest.iloc[rows].reset_index(drop=True))
    if options.way:
        measure(options.way, store, Inference(precision=options.precision))
        return
    print(f"{len(store)} images, U-Net on ResNet-18, {options.threads} threads, {OURS} in {options.precision}")
    time_evidence(store)
    found: dict[str, list[list[float]]] = {PEER: [], OURS: []}
    for _ in range(NUM_ROUNDS):
        for way, rounds in found.items():
            command = [sys.executable, __file__, *sys.argv[1:], "--way", way]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            rounds.append([float(number) for number in done.stdout.split()])
            print(f"{way:8} {rounds[-1][0]:7.1f} CPU ms, {rounds[-1][1]:7.1f} ms an image, mIoU {rounds[-1][2]:.6f}")
    for column, label in enumerate(("CPU", "wall-clock")):
        ours, peer = (statistics.median(row[column] for row in found[way]) for way in (OURS, PEER))
        print(f"{label}: {ours:.1f} of {peer:.1f} ms an image, ratio {ours / peer:.2f}")


if __name__ == "__main__":
    main()
