"""A small network as a training writes it, a data set with validation images, and the network's export."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from once import make_once
from safetensors.torch import save_file
from samples import Sample, write_store

from segpipe.classes import ClassTable
from segpipe.export.document import ExportDescription
from segpipe.export.make import export_model
from segpipe.files import sha256_of_file
from segpipe.inference.network import build_network
from segpipe.places import INFERENCE_FILE, MODEL_FILE, WEIGHTS_FILE

TABLE = ClassTable(("road", "car", "sky"), ((128, 64, 128), (0, 0, 142), (70, 130, 180)))
RETURNED = "returned.json"  # what the call said
OPTIONS = {"width": 8, "pyramid_width": 8}


@torch.no_grad()
def _write_network(folder: Path, in_channels: int = 3, inference: dict[str, Any] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    module = build_network("compact_fpn", OPTIONS, TABLE.num_classes, in_channels)
    # Running statistics as of a training, so that each class has pixels.
    module.train()(torch.randn(4, 3, 64, 64))
    weights = {key: value.contiguous() for key, value in module.state_dict().items()}
    save_file(weights, folder / WEIGHTS_FILE)
    document = {
        "model": {"name": "compact_fpn", "options": OPTIONS, "in_channels": in_channels},
        "classes": TABLE.to_json(),
        "weights_sha256": sha256_of_file(folder / WEIGHTS_FILE),
        "image_mapping": {"background": [255, 255, 255]},
    }
    (folder / MODEL_FILE).write_text(json.dumps(document), encoding="utf-8")
    if inference is not None:
        (folder / INFERENCE_FILE).write_text(json.dumps(inference), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def write_network() -> Callable[..., Path]:
    """Writes an untrained network: `write_network(folder, in_channels, inference)` gives the folder."""
    return _write_network


@dataclass(frozen=True)
class Exported:
    """A network's folder, its data set, the folder of its ONNX export, and what was said about it."""

    network: Path
    dataset: Path
    folder: Path
    description: ExportDescription


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """An ONNX export of a small network, compared on validation images of two sizes: to look at, never to change."""
    root = make_once(tmp_path_factory, "exported", _export)
    description = ExportDescription.read(root / RETURNED, "")
    return Exported(root / "network", root / "dataset", root / "output", description)


def _export(root: Path) -> None:
    generator = np.random.default_rng(0)
    samples = [
        Sample(
            f"{split}_{index}",
            split,
            split,
            generator.integers(0, 256, (height, 48, 3), dtype=np.uint8),
            generator.integers(0, 3, (height, 48), dtype=np.uint8),
        )
        for split, height in (("train", 32), ("val", 32), ("val", 40), ("test", 32))
        for index in (height, height + 1)
    ]
    (root / "dataset").mkdir(parents=True)
    write_store(root / "dataset", TABLE, samples)
    network = _write_network(root / "network")
    returned = export_model(network, root / "output", dataset=root / "dataset", version="streets/3", commit="c" * 40)
    (root / RETURNED).write_text(json.dumps(returned.to_json()), encoding="utf-8")


def random_images(*shape: int) -> np.ndarray:
    """Gives the same images each time, uint8."""
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
