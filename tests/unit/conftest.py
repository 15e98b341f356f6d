"""What many unit tests begin with: small classes, samples, stores, sources and settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from samples import Sample, write_store

from segpipe.classes import ClassTable
from segpipe.config.train import Train
from segpipe.data.store import Store

DATASET_YAML = """\
classes:
  - {name: road, color: [128, 64, 128]}
  - {name: car, color: [0, 0, 142]}
  - {name: sky, color: [70, 130, 180]}
"""


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def classes() -> ClassTable:
    """Three classes, void = 255."""
    return ClassTable(("road", "car", "sky"), ((128, 64, 128), (0, 0, 142), (70, 130, 180)))


def _sample(sample_id: str, split: str = "train", height: int = 32, width: int = 32, seed: int = 0) -> Sample:
    rng = np.random.default_rng([seed, *sample_id.encode()])
    mask = rng.choice(np.array([0, 1, 2, 255], np.uint8), (height // 4, width // 4)).repeat(4, 0).repeat(4, 1)
    mask[0, :3] = 0, 1, 2
    # Each class has a brightness of its own, so that there is something to learn.
    image = (mask[..., None] % 250 * 80 + rng.integers(0, 40, (*mask.shape, 3))).astype(np.uint8)
    return Sample(sample_id, sample_id.split("_")[0], split, image, mask)


@pytest.fixture
def make_sample() -> Callable[..., Sample]:
    """Builds a sample of 4 px blocks: `make_sample(sample_id, split, height, width, seed)`; multiples of 4."""
    return _sample


@pytest.fixture
def make_store(tmp_path: Path, classes: ClassTable) -> Callable[..., Store]:
    """Writes and opens a store: `make_store(samples, name)`."""

    def make(samples: list[Sample], name: str = "dataset", table: ClassTable = classes) -> Store:
        folder = tmp_path / name
        folder.mkdir()
        return write_store(folder, table, samples)

    return make


@pytest.fixture
def make_folder_source(tmp_path: Path) -> Callable[..., Path]:
    """Writes a source of format `folder`: `make_folder_source({"a_0": (image, mask), ...})` gives its root."""

    def make(samples: dict[str, tuple[Any, Any]], dataset_yaml: str = DATASET_YAML, name: str = "source") -> Path:
        root = tmp_path / name
        for folder in ("images", "masks"):
            (root / folder).mkdir(parents=True)
        (root / "dataset.yaml").write_text(dataset_yaml, encoding="utf-8")
        for sample_id, (image, mask) in samples.items():
            Image.fromarray(image).save(root / "images" / f"{sample_id}.png")
            Image.fromarray(mask).save(root / "masks" / f"{sample_id}.png")
        return root

    return make


@pytest.fixture
def make_train_settings() -> Callable[..., Train]:
    """Builds the settings of a tiny training; keyword arguments replace single ones."""

    def make(**changes: Any) -> Train:
        document = {
            "experiment": "test",
            "num_threads": 1,
            "model": {"name": "unet", "options": {"width": 4, "depth": 2}},
            "loss": [{"name": "cross_entropy"}],
            "optimizer": "adamw",
            "learning_rate": 0.01,
            "weight_decay": 0.01,
            "schedule": {"name": "cosine"},
            "epochs": 2,
            "batch_size": 2,
            "augment": {"crop": [32, 32]},
        }
        return Train.model_validate(document | changes)

    return make
