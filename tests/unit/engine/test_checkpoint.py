"""A checkpoint brings back progress, states and the random numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from segpipe.engine.checkpoint import CHECKPOINT, Progress, load_checkpoint, remove_checkpoint, save_checkpoint


def test_without_a_checkpoint_it_is_a_beginning(tmp_path: Path) -> None:
    module = nn.Linear(2, 2)
    before = module.weight.detach().clone()
    assert load_checkpoint(tmp_path, {"module": module}) == Progress()
    assert torch.equal(module.weight, before)


def test_round_trip(tmp_path: Path) -> None:
    progress = Progress(3, 5, 1.25, [[1, 2], [3, 4]], 0.5, 2, [{"epoch": 1, "train_loss": 0.75}])
    saved, loaded = nn.Linear(2, 2), nn.Linear(2, 2)
    torch.manual_seed(7)
    save_checkpoint(tmp_path, progress, {"module": saved})
    expected = torch.rand(3)
    torch.manual_seed(8)
    assert load_checkpoint(tmp_path, {"module": loaded}) == progress
    assert torch.equal(loaded.weight, saved.weight)
    assert torch.equal(torch.rand(3), expected)


def test_a_failed_write_keeps_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, Progress(epoch=1), {})

    def fail(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(bytes(content)[:10])
        raise OSError("no space")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="no space"):
        save_checkpoint(tmp_path, Progress(epoch=2), {})
    assert load_checkpoint(tmp_path, {}).epoch == 1
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]


def test_remove(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, Progress(), {})
    remove_checkpoint(tmp_path)
    remove_checkpoint(tmp_path)
    assert list(tmp_path.iterdir()) == []
