"""A model in a folder, as a training writes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_network import write_network

from segpipe.places import MODEL_FILE


@pytest.fixture
def write_model(tmp_path: Path) -> Callable[..., Path]:
    """Writes an untrained U-Net into the folder `model`; keyword arguments are keys of `model.json`."""

    def write(**keys: Any) -> Path:
        folder = write_network(tmp_path / "model")
        document = json.loads((folder / MODEL_FILE).read_text(encoding="utf-8"))
        (folder / MODEL_FILE).write_text(json.dumps(document | keys), encoding="utf-8")
        return folder

    return write
