"""What the train stage decides before the first step: the network of each process, and batches that are too small."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from facts import missing
from safetensors.torch import save_file
from samples import Sample

from segpipe.config.train import Train
from segpipe.data.store import Store
from segpipe.errors import ConfigError
from segpipe.files import sha256_of_file
from segpipe.inference.network import build_network
from segpipe.stages.train import _check_batch, _make_network
from segpipe.training.processes.ranks import ALONE, Ranks

OPTIONS = {"encoder": "test_efficientnet", "decoder_channels": 16}


@dataclass(frozen=True)
class Second(Ranks):
    """The second of two processes; what the first one sends is there already.

    Attributes:
        sent: by the first.
    """

    rank: int = 1
    number: int = 2
    sent: Any = None

    def share(self, value: Any) -> Any:
        """Gives what the first one has sent."""
        return self.sent

    def wait(self) -> None:
        """Does not wait."""

    def take_weights_of_first(self, module: torch.nn.Module) -> None:
        """Leaves its own weights, which the test sets."""


@torch.no_grad()
def test_each_process_builds_the_network_that_the_first_ones_weights_ask_for(
    make_train_settings: Callable[..., Train],
    make_store: Callable[..., Store],
    make_sample: Callable[..., Sample],
    tmp_path: Path,
) -> None:
    state = build_network("segformer", OPTIONS, 3).state_dict()
    of_smp = {name.replace("head.", "segmentation_head."): tensor.contiguous() for name, tensor in state.items()}
    save_file(of_smp, tmp_path / "smp.safetensors")
    weights = {"weights": str(tmp_path / "smp.safetensors"), "sha256": sha256_of_file(tmp_path / "smp.safetensors")}
    settings = make_train_settings(model={"name": "segformer", "options": OPTIONS, **weights})
    store, cpu = make_store([make_sample("t_0")]), torch.device("cpu")
    first, model, initial = _make_network(settings, store, cpu, ALONE)
    assert model.options["align_corners"] is True
    second, *sent = _make_network(settings, store, cpu, Second(sent=(model, initial)))
    assert sent == [model, initial]
    second.load_state_dict(first.state_dict())
    images_NCHW = torch.randn(1, 3, 64, 96)
    assert torch.equal(second.eval()(images_NCHW), first.eval()(images_NCHW))


def test_a_part_of_a_batch_that_a_batch_norm_cannot_take(make_train_settings: Callable[..., Train]) -> None:
    model = {"name": "deeplabv3_mobilenet_v3_large"}
    for batch_size, micro_batch in ((4, 1), (3, 2)):
        settings = make_train_settings(model=model, batch_size=batch_size, micro_batch=micro_batch)
        with pytest.raises(ConfigError) as caught:
            _check_batch(settings, 8, ALONE)
        assert not missing(str(caught.value), f"train.micro_batch: {micro_batch}", f"1 of {batch_size}", model["name"])
    _check_batch(make_train_settings(model=model, batch_size=4, micro_batch=2), 8, ALONE)
    _check_batch(make_train_settings(model=model, batch_size=4, micro_batch=1), 8, Ranks(0, 2))
