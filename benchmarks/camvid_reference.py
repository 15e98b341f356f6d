"""The alternative on CamVid: torchvision's segmentation reference recipe, trained for the same number of minutes.

LRASPP on MobileNetV3-Large from scratch; random resize of the short side between 0.5 and 2 of the base size, flip,
random crop, on PIL images in worker processes; SGD 0.01, momentum 0.9, weight decay 1e-4, batch 8, poly 0.9.
Two changes help it: base size and crop fit the data, and the batch-norm statistics are estimated again at the end
(with torchvision's momentum of 0.01 they are not accurate after so few steps). It reads decoded images of the store
that `preprocess` wrote for `recipes/camvid.yaml`, and trains on the same frames.

    python benchmarks/camvid_reference.py --minutes 20 --dataset build/dataset
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from segpipe.classes import IGNORE_INDEX
from segpipe.data.store import Store
from segpipe.inference.evaluate import evaluate
from segpipe.inference.predictor import Predictor
from segpipe.losses.cross_entropy import build_loss
from segpipe.metrics.parts.scores import score
from segpipe.models.lraspp_mobilenet_v3_large import build_model

BATCH, LEARNING_RATE, MOMENTUM, WEIGHT_DECAY, POWER = 8, 0.01, 0.9, 1e-4, 0.9
BATCH_NORM_MOMENTUM = 0.01  # torchvision's own
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NUM_THREADS, NUM_WORKERS, NUM_TIMED_STEPS = 2, 2, 10
Pair = tuple[torch.Tensor, torch.Tensor]


class ReferenceSet(Dataset[Pair]):
    """The training split under the reference's transforms."""

    def __init__(self, store: Store) -> None:
        self._store = store
        base, crop = store.read(0)[1].shape[0], store.read(0)[1].shape
        self._transform = v2.Compose(
            [
                v2.RandomResize(int(0.5 * base), int(2 * base)),
                v2.RandomHorizontalFlip(0.5),
                v2.RandomCrop(crop, pad_if_needed=True, fill={tv_tensors.Mask: IGNORE_INDEX, "others": 0}),
                v2.ToImage(),
                v2.ToDtype({tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64, "others": None}, scale=True),
                v2.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self._store)

    def __getitem__(self, index: int) -> Pair:
        image, mask = self._store.read(index)
        pair: Pair = self._transform(Image.fromarray(image), tv_tensors.Mask(torch.tensor(mask)))
        return pair


def train(module: nn.Module, loader: DataLoader[Pair], seconds: float) -> int:
    """Trains for a given time; the speed of the first steps decides the schedule's length.

    Returns:
        The number of steps.
    """
    loss = nn.CrossEntropyLoss(ignore_index=IGNORE_INDEX)
    optimizer = torch.optim.SGD(module.parameters(), LEARNING_RATE, MOMENTUM, weight_decay=WEIGHT_DECAY)
    schedule = None
    step, started = 0, time.perf_counter()
    while True:
        for images, target in loader:
            if step == NUM_TIMED_STEPS:
                num_steps = int(seconds / (time.perf_counter() - started) * NUM_TIMED_STEPS)
                schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, num_steps, POWER)
            optimizer.zero_grad()
            value = loss(module(images), target)
            value.backward()
            optimizer.step()
            step += 1
            if schedule is not None:
                schedule.step()
            if step % 50 == 0:
                print(f"{time.perf_counter() - started:6.0f} s  step {step}  loss {value.item():.3f}", flush=True)
            if time.perf_counter() - started >= seconds:
                return step


def report(title: str, module: nn.Module, store: Store) -> None:
    """Prints the scores on a split."""
    terms = [(1.0, build_loss(class_weights=torch.ones(store.classes.num_classes)))]
    scores = score(evaluate(Predictor(module), store, terms).evidence, store.classes.names)
    classes = "  ".join(f"{name} {-1 if iou is None else iou:.3f}" for name, iou in scores["iou"].items())
    overall = f"mIoU {scores['mean_iou']:.4f}  pixel accuracy {scores['pixel_accuracy']:.4f}"
    print(f"{title}: {overall}\n  {classes}", flush=True)


def main() -> None:
    """Trains and prints the scores before and after the statistics are estimated again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--dataset", type=Path, default=Path("build/dataset"))
    options = parser.parse_args()
    torch.manual_seed(0)
    np.random.seed(0)
    torch.set_num_threads(NUM_THREADS)
    store = Store.open(options.dataset)
    loader = DataLoader(
        ReferenceSet(store.of_split("train")), BATCH, shuffle=True, drop_last=True, num_workers=NUM_WORKERS
    )
    num_classes = store.classes.num_classes
    module = build_model(
        num_classes=num_classes, in_channels=3, pretrained=False, batch_norm_momentum=BATCH_NORM_MOMENTUM
    ).train()
    num_steps = train(module, loader, options.minutes * 60)
    print(f"{num_steps} steps of {BATCH}")
    report("as trained, test", module, store.of_split("test"))
    torch.optim.swa_utils.update_bn(loader, module.train())
    report("statistics estimated again, val", module, store.of_split("val"))
    report("statistics estimated again, test", module, store.of_split("test"))


if __name__ == "__main__":
    main()
