"""Trains a narrow classic on halved CamVid frames for about 30 CPU-minutes, by this project's own stages.

    git clone . ../classics && cd ../classics && make setup
    python benchmarks/classics.py halve camvid.zip halved.zip
    OMP_NUM_THREADS=1 python benchmarks/classics.py train unet halved.zip

Images are averaged over 2x2 pixels, masks take the most frequent label. The recipe is recipes/camvid-cpu.yaml with
another network, its rate, batches of 8, half the epochs at half resolution and crops of a whole frame: a whole sequence
chooses the epoch, the official test is measured once, by the network alone. `train` replaces params.yaml, runs the
stages up to `evaluate` and prints their CPU time and scores; build/evaluation has the report.
"""

import argparse
import io
import json
import resource
import subprocess
import zipfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from PIL import Image
from ruamel.yaml import YAML

from segpipe.places import RECIPES
from segpipe.training.step import halve_masks

CROP_PX = [180, 240]


@dataclass(frozen=True)
class Classic:
    """What is changed in the recipe; the epochs are what one thread makes in 30 minutes (AMD EPYC with bf16)."""

    epochs: int
    options: dict[str, Any] = field(default_factory=dict)
    learning_rate: float = 0.003


CLASSICS = {
    "fcn32s_vgg16": Classic(50, {"batch_norm": True, "width": 32, "fc_width": 1024}, learning_rate=0.001),
    "fcn8s_vgg16": Classic(50, {"batch_norm": True, "width": 32, "fc_width": 1024}, learning_rate=0.001),
    "segnet_vgg16": Classic(90, {"width": 16}),
    "unet": Classic(80, {"width": 16}),
    "deeplabv3plus": Classic(55, {"encoder": "resnet18"}),
    "pspnet": Classic(30, {"encoder": "resnet18"}),
}


def halve(archive: Path, target: Path) -> None:
    """Writes the archive with images and masks of half the height and width."""
    with zipfile.ZipFile(archive) as full, zipfile.ZipFile(target, "w") as halved:
        for name in full.namelist():
            content = full.read(name)
            if name.endswith((".png", ".jpg")):
                picture = Image.open(io.BytesIO(content))
                small = _halve_mask(picture) if PurePosixPath(name).parent.name.endswith("annot") else picture.reduce(2)
                buffer = io.BytesIO()
                small.save(buffer, "PNG")
                content = buffer.getvalue()
            halved.writestr(name, content)


def _halve_mask(mask: Image.Image) -> Image.Image:
    labels_HW = torch.from_numpy(np.array(mask))
    return Image.fromarray(halve_masks(labels_HW[None])[0].numpy())


def train(name: str, archive: Path) -> dict[str, Any]:
    """Runs the stages up to `evaluate` with a narrow classic; gives what it took and the scores."""
    classic, yaml = CLASSICS[name], YAML()
    params = yaml.load(RECIPES / "camvid-cpu.yaml")
    params["download"]["source"] = str(archive.resolve())
    params["train"].update(experiment=f"classics-{name}", epochs=classic.epochs, num_threads=1)
    params["train"].update(learning_rate=classic.learning_rate, half_resolution_share=0.5)
    params["train"].update(batch_size=8, ema_decay=0.99)
    params["train"]["model"].update(name=name, options=classic.options)
    params["train"]["augment"]["crop"] = CROP_PX
    params["evaluate"]["num_threads"] = 1
    params["evaluate"]["inference"].update(flip=False, scales=[1.0], crf=None)
    yaml.dump(params, Path("params.yaml"))
    seconds = {}
    subprocess.run(["dvc", "repro", "--quiet", "class_weights"], check=True)
    for stage in ("train", "evaluate"):
        before = _cpu_seconds()
        subprocess.run(["dvc", "repro", "--quiet", "--force", "--single-item", stage], check=True)
        seconds[stage] = round(_cpu_seconds() - before)
    metrics = json.loads(Path("build/evaluation/metrics.json").read_text(encoding="utf-8"))
    return {"network": name, "options": classic.options, "epochs": classic.epochs, "cpu_seconds": seconds} | {
        split: {"mean_iou": metrics[split]["mean_iou"], "pixel_accuracy": metrics[split]["pixel_accuracy"]}
        for split in ("val", "test")
    }


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    halving = commands.add_parser("halve")
    halving.add_argument("archive", type=Path)
    halving.add_argument("target", type=Path)
    training = commands.add_parser("train")
    training.add_argument("network", choices=CLASSICS)
    training.add_argument("archive", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "halve":
        halve(arguments.archive, arguments.target)
    else:
        print(json.dumps(train(arguments.network, arguments.archive)))


if __name__ == "__main__":
    main()
