"""A model in a folder, as a training writes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from segpipe.classes import ClassTable
from segpipe.files import sha256_of_file
from segpipe.inference.network import build_network
from segpipe.places import MODEL_FILE, WEIGHTS_FILE


@pytest.fixture
def write_model(tmp_path: Path, classes: ClassTable) -> Callable[..., Path]:
    """Writes an untrained U-Net into the folder `model`; keyword arguments are keys of `model.json`."""

    def write(**keys: Any) -> Path:
        folder = tmp_path / "model"
        folder.mkdir()
        options = {"width": 2, "depth": 2}
        torch.manual_seed(0)
        module = build_network("unet", options, classes.num_classes)
        save_file({key: value.contiguous() for key, value in module.state_dict().items()}, folder / WEIGHTS_FILE)
        document = {
            "model": {"name": "unet", "options": options, "in_channels": 3},
            "classes": classes.to_json(),
            "weights_sha256": sha256_of_file(folder / WEIGHTS_FILE),
        }
        (folder / MODEL_FILE).write_text(json.dumps(document | keys), encoding="utf-8")
        return folder

    return write
