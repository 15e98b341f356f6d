"""Tests that every model can learn: trains it until it overfits four small crops.

    python benchmarks/learning.py [--camvid ARCHIVE] [--pictures FOLDER] [MODEL ...]

The crops are magnified windows of frames of the starter data (and of CamVid, if its archive is given), so that even
cells of 32 px, the coarsest of a network, show several classes. Four frames, no augmentation, AdamW at a constant rate,
cross-entropy: every working architecture with working gradients can learn this. The mIoU is measured in evaluation mode
on the same four crops, over their classes. It does not say which model is better.
"""

import argparse
import json
import logging
import tempfile
import time
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import segpipe.stages  # noqa: F401  # sets OpenMP's wait policy before torch is loaded

# isort: split
import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from segpipe.choices import READERS
from segpipe.classes import IGNORE_INDEX, ClassTable
from segpipe.config.train import LossTerm
from segpipe.data.sources.source import RawSample
from segpipe.inference.device import keep_freed_memory, make_repeatable
from segpipe.inference.logits import to_input
from segpipe.inference.network import build_network
from segpipe.inference.predictor import Predictor
from segpipe.metrics import mean_iou
from segpipe.metrics.parts.counts import confusions_of
from segpipe.models import list_models
from segpipe.reports.drawing.overlay import side_by_side
from segpipe.training.meter import confusion_matrix
from segpipe.training.objective import make_objective

ROOT = Path(__file__).parents[1]
NUM_FRAMES = 4
WINDOW_PX = (24, 32)
CROP_PX = (96, 128)
MIN_SHARE = 0.02  # of a window: a class with fewer pixels is not counted in the choice of the window
GOOD_ENOUGH = 0.90
MAX_STEPS, STEPS_BETWEEN_LOOKS = 600, 20
LEARNING_RATE = 1e-3
# Four crops need few channels, and a quarter of the channels is a sixteenth of the operations.
NARROW = {"width": 16}
FCN = ("fcn32s_vgg16", "fcn16s_vgg16", "fcn8s_vgg16")
OPTIONS: dict[str, dict[str, Any]] = dict.fromkeys(("unet", "attention_unet", "segnet_vgg16"), NARROW)
# Fixed bilinear up-sampling by up to 32 cannot draw a pole: these overfit only if the last up-sampling is learned.
OPTIONS |= {name: {**NARROW, "fc_width": 256, "learn_last_upsampling": True} for name in FCN}
OPTIONS |= {"dilated_vgg16": {**NARROW, "fc_width": 256}}
# Dropout before a batch norm makes its running statistics differ from those in evaluation, in each of a hundred layers:
# with dropout the loss falls to 0.007, but the mIoU in evaluation stays at 0.46.
OPTIONS |= {name: {"dropout": 0.0} for name in ("fc_densenet56", "fc_densenet67", "fc_densenet103")}
# Without batch norm in a deep encoder.
SMALLER_RATES = dict.fromkeys((*FCN, "dilated_vgg16", "dpt"), 3e-4)
# Its logits are a sixteenth of the image, enlarged bilinearly: it gets the same windows twice as large.
ENLARGED = {"deeplabv3_mobilenet_v3_large": 2}
SEED = 0
CPU = torch.device("cpu")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Crops:
    """Four labelled windows.

    Args:
        images_NHWC: (4, *CROP_PX, 3) uint8 RGB.
        masks_NHW: (4, *CROP_PX) uint8.
        classes: of the data set.
    """

    images_NHWC: npt.NDArray[np.uint8]
    masks_NHW: npt.NDArray[np.uint8]
    classes: ClassTable

    def enlarge(self, factor: int) -> "Crops":
        """Gives the crops with each pixel enlarged to a square of pixels."""
        images, masks = (array.repeat(factor, 1).repeat(factor, 2) for array in (self.images_NHWC, self.masks_NHW))
        return Crops(images, masks, self.classes)


@dataclass(frozen=True)
class Outcome:
    """The result of a training.

    Attributes:
        mean_iou: on the four crops, in evaluation mode.
        num_steps: taken, of at most `MAX_STEPS`.
        seconds: that they took.
        masks_NHW: predicted.
    """

    mean_iou: float
    num_steps: int
    seconds: float
    masks_NHW: npt.NDArray[np.uint8]


def overfit(name: str, crops: Crops) -> Outcome:
    """Trains a model on the crops until it is good enough, or for the most steps."""
    crops = crops.enlarge(ENLARGED.get(name, 1))
    make_repeatable(SEED, torch.get_num_threads())
    module = build_network(name, OPTIONS.get(name, {}), crops.classes.num_classes)
    objective = make_objective([LossTerm(name="cross_entropy")], 0.4, torch.ones(crops.classes.num_classes))
    optimizer = torch.optim.AdamW(module.parameters(), lr=SMALLER_RATES.get(name, LEARNING_RATE))
    images_NCHW = to_input(crops.images_NHWC, CPU)
    target_NHW = torch.from_numpy(crops.masks_NHW).long()
    started = time.perf_counter()
    for step in range(1, MAX_STEPS + 1):
        module.train()
        optimizer.zero_grad(set_to_none=True)
        (share,) = objective.shares_of([target_NHW])
        loss, _ = share.of_outputs(module(images_NCHW))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step % STEPS_BETWEEN_LOOKS == 0:
            mean_iou, masks_NHW = _measure(module, crops)
            log.debug("%s: step %d, loss %.3f, mIoU %.3f", name, step, float(loss.detach()), mean_iou)
            if mean_iou >= GOOD_ENOUGH:
                break
    return Outcome(mean_iou, step, time.perf_counter() - started, masks_NHW)


@torch.inference_mode()
def _measure(module: torch.nn.Module, crops: Crops) -> tuple[float, npt.NDArray[np.uint8]]:
    masks_NHW = Predictor(module.eval()).predict_masks(crops.images_NHWC)
    truth_NHW, found_NHW = torch.from_numpy(crops.masks_NHW), torch.from_numpy(masks_NHW)
    confusion = confusion_matrix(found_NHW, truth_NHW, crops.classes.num_classes).numpy()
    return mean_iou.compute(confusions_of(confusion[None])), masks_NHW


def starter_crops() -> Crops:
    """Takes crops of four streets of the starter data."""
    return _crops_of(ROOT / "data", "folder")


def camvid_crops(archive: Path) -> Crops:
    """Takes crops of four frames of CamVid."""
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(archive) as file:
        file.extractall(folder)
        return _crops_of(Path(folder), "camvid")


def _crops_of(root: Path, reader: str) -> Crops:
    source = READERS.call(reader, root=root)
    samples = source.samples[:: len(source.samples) // NUM_FRAMES][:NUM_FRAMES]
    windows = [_best_window(sample) for sample in samples]
    images, masks = (np.stack(arrays) for arrays in zip(*windows, strict=True))
    return Crops(images, masks, source.classes)


def _best_window(sample: RawSample) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Gives the magnified window of a frame that holds the most classes, and of those the first."""
    image = np.asarray(Image.open(sample.image).convert("RGB"))
    mask = np.asarray(sample.label.read(image.shape[:2]).pixels, np.uint8)
    height, width = WINDOW_PX
    corners = [(y, x) for y in range(0, mask.shape[0] - height + 1, 8) for x in range(0, mask.shape[1] - width + 1, 8)]
    y, x = max(corners, key=lambda corner: _num_classes(mask[corner[0] :, corner[1] :][:height, :width]))
    part = slice(y, y + height), slice(x, x + width)
    size_wh = CROP_PX[::-1]
    image, mask = (
        np.asarray(cv2.resize(whole[part], size_wh, interpolation=kind), np.uint8)
        for whole, kind in ((image, cv2.INTER_LINEAR), (mask, cv2.INTER_NEAREST_EXACT))
    )
    return image, mask


def _num_classes(mask: npt.NDArray[np.uint8]) -> int:
    counts = np.bincount(mask.ravel(), minlength=IGNORE_INDEX + 1)[:IGNORE_INDEX]
    return int((counts >= MIN_SHARE * mask.size).sum())


def draw(crops: Crops, outcome: Outcome) -> npt.NDArray[np.uint8]:
    """Gives the first crop: image, truth, prediction."""
    step = len(outcome.masks_NHW[0]) // len(crops.masks_NHW[0])
    prediction = np.ascontiguousarray(outcome.masks_NHW[0, ::step, ::step])
    return side_by_side(crops.images_NHWC[0], [crops.masks_NHW[0], prediction], crops.classes)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a row a model and data set, as JSON lines."""
    parser = argparse.ArgumentParser(description="Tests that every model can overfit four crops.")
    parser.add_argument("models", nargs="*", help="default: all")
    parser.add_argument("--camvid", type=Path, help="CamVid's archive, to learn its crops too")
    parser.add_argument("--pictures", type=Path, help="folder for a picture of the first starter crop by each model")
    parser.add_argument("--verbose", action="store_true", help="print each measured mIoU")
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s")
    log.setLevel(logging.DEBUG if options.verbose else logging.WARNING)
    keep_freed_memory()
    sets: dict[str, Crops] = {"starter": starter_crops()}
    if options.camvid:
        sets["camvid"] = camvid_crops(options.camvid)
    for name in options.models or list_models():
        for data, crops in sets.items():
            outcome = overfit(name, crops)
            row: dict[str, Any] = {"model": name, "data": data, **asdict(outcome)}
            del row["masks_NHW"]
            print(json.dumps(row), flush=True)
            if options.pictures and data == "starter":
                options.pictures.mkdir(parents=True, exist_ok=True)
                Image.fromarray(draw(crops, outcome)).save(options.pictures / f"{name}.png")


if __name__ == "__main__":
    main()
