"""Untrained networks of a few kilobytes, in files as a training writes them."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from segpipe.classes import ClassTable
from segpipe.files import sha256_of_file
from segpipe.inference.network import build_network
from segpipe.places import MODEL_FILE, WEIGHTS_FILE

CLASSES = ClassTable(("road", "car", "sky"), ((128, 64, 128), (0, 0, 142), (70, 130, 180)))
OPTIONS = {"width": 4, "depth": 1}


def write_network(folder: Path, seed: int = 0) -> Path:
    """Writes `model.json` and `weights.safetensors` of a U-Net, and gives the folder."""
    torch.manual_seed(seed)
    module = build_network("unet", OPTIONS, CLASSES.num_classes)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in module.state_dict().items()}, folder / WEIGHTS_FILE)
    document = {
        "model": {"name": "unet", "options": OPTIONS, "in_channels": 3},
        "classes": CLASSES.to_json(),
        "weights_sha256": sha256_of_file(folder / WEIGHTS_FILE),
    }
    (folder / MODEL_FILE).write_text(json.dumps(document), encoding="utf-8")
    return folder
