"""The choice of the number format: by time, remembered, without a trace in the network or the random numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from segpipe.config.train import Train
from segpipe.errors import TrainingError
from segpipe.inference.network import build_network
from segpipe.training.beginning import measuring
from segpipe.training.beginning.measuring import choose_micro_batch, choose_precision


def _network() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_network("unet", {"width": 2, "depth": 1, "dropout": 0.5}, 3)


@pytest.mark.parametrize(("bf16", "expected"), [(0.5, "bf16"), (0.95, "float32"), (1.5, "float32")])
def test_the_fastest_is_chosen_if_it_gains_a_tenth_and_is_remembered(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    make_train_settings: Callable[..., Train],
    bf16: float,
    expected: str,
) -> None:
    seconds = {"float32": 1.0, "bf16": bf16}
    asked = []

    def time_steps(_: object, __: object, name: str) -> float:
        asked.append(name)
        return seconds[name]

    monkeypatch.setattr(measuring, "_time_steps", time_steps)
    memory = tmp_path / "cache/measured.json"
    settings = make_train_settings(precision="auto")
    assert choose_precision(_network(), settings, memory) == expected
    assert asked == ["float32", "bf16"]
    seconds = {"float32": 1.0, "bf16": 1 / bf16}
    assert choose_precision(_network(), settings, memory) == expected
    assert asked == ["float32", "bf16"], "nothing is measured twice"
    choose_precision(_network(), make_train_settings(precision="auto", batch_size=3), memory)
    assert len(asked) == 4, "another batch is another question"
    assert len(json.loads(memory.read_text())) == 2


def test_on_a_cpu_the_seconds_of_the_processor_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = {"process_time": iter([1.0, 3.0]), "perf_counter": iter([1.0, 9.0])}
    for name, readings in clocks.items():
        monkeypatch.setattr(measuring.time, name, readings.__next__)
    assert measuring._seconds_of(lambda: None, torch.device("cpu")) == 2.0


def test_a_busy_cpu_is_measured_by_one_thread(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make_train_settings: Callable[..., Train]
) -> None:
    before, asked = torch.get_num_threads(), []

    def seconds_of(work: Callable[[], None], device: torch.device) -> float:
        asked.append(torch.get_num_threads())
        return 1.0

    monkeypatch.setattr(measuring, "_seconds_of", seconds_of)
    torch.set_num_threads(2)
    try:
        choose_precision(_network(), make_train_settings(precision="auto"), tmp_path / "measured.json")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert asked and set(asked) == {1}


def test_a_measurement_leaves_no_trace(tmp_path: Path, make_train_settings: Callable[..., Train]) -> None:
    network, untouched = _network(), _network()
    torch.manual_seed(5)
    choose_precision(network, make_train_settings(precision="auto"), tmp_path / "measured.json")
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), drawn)
    assert all(map(torch.equal, network.state_dict().values(), untouched.state_dict().values()))
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_damaged_memory_is_measured_again(tmp_path: Path, make_train_settings: Callable[..., Train]) -> None:
    memory = tmp_path / "measured.json"
    memory.write_text("[", encoding="utf-8")
    assert choose_precision(_network(), make_train_settings(precision="auto"), memory) in {"float32", "bf16"}
    assert json.loads(memory.read_text())


def test_what_fits_is_halved_until_it_fits_and_remembered(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make_train_settings: Callable[..., Train]
) -> None:
    asked = []

    def fits(_: object, __: object, size: int) -> bool:
        asked.append(size)
        return size <= 3

    monkeypatch.setattr(measuring, "_fits", fits)
    monkeypatch.setattr(measuring, "device_of", lambda _: torch.device("meta"))  # any that is no CPU
    memory = tmp_path / "measured.json"
    settings = make_train_settings(micro_batch="auto", batch_size=10)
    assert choose_micro_batch(_network(), settings, memory) == 3
    assert asked == [10, 5, 3]
    assert choose_micro_batch(_network(), settings, memory) == 3
    assert asked == [10, 5, 3], "nothing is measured twice"
    monkeypatch.setattr(measuring, "_fits", lambda *_: False)
    with pytest.raises(TrainingError, match=r"train\.recompute"):
        choose_micro_batch(_network(), make_train_settings(micro_batch="auto"), memory)


def test_on_a_cpu_a_batch_is_not_divided(tmp_path: Path, make_train_settings: Callable[..., Train]) -> None:
    settings = make_train_settings(micro_batch="auto", batch_size=7)
    assert choose_micro_batch(_network(), settings, tmp_path / "measured.json") == 7


@pytest.mark.parametrize("limit", [1, 100])
def test_a_trial_tells_whether_the_memory_is_enough(
    monkeypatch: pytest.MonkeyPatch, make_train_settings: Callable[..., Train], limit: int
) -> None:
    network = _network()

    def forward(images: torch.Tensor) -> torch.Tensor:
        if len(images) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return images

    network.register_forward_pre_hook(lambda _, args: (forward(*args),))
    assert measuring._fits(network, make_train_settings(), 4) is (limit == 100)
