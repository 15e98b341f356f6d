"""Chooses what only a measurement on the device can tell: the number format of a training (`train.precision: auto`)."""

import copy
import hashlib
import json
import logging
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn

from segpipe.config.train import Train
from segpipe.files import write_json
from segpipe.inference.device import describe_environment, device_of
from segpipe.training.parameters import start_training
from segpipe.training.precision import Precision

log = logging.getLogger(__name__)

NUM_STEPS = 3
# 16 bits cost some accuracy of each product: a smaller gain than this is not worth it.
LEAST_GAIN = 0.9


def choose_precision(module: nn.Module, settings: Train, memory: Path) -> str:
    """Gives the number format in which a training takes its steps fastest, `float32` unless another gains a tenth.

    The result is remembered for this model, these sizes and this device, so that a training that is continued does not
    change its mind.

    Args:
        module: the network on its device; is not changed.
        settings: `train` of the parameters.
        memory: the file of what was measured.
    """
    device = device_of(module)
    key = _key_of(settings, device)
    known = _read(memory)
    if key not in known:
        seconds = {name: _time_steps(module, settings, name) for name in _candidates(device)}
        fastest = min(seconds, key=lambda name: seconds[name])
        is_worth_it = seconds[fastest] < LEAST_GAIN * seconds["float32"]
        write_json(memory, {**known, key: fastest if is_worth_it else "float32"})
        log.info("seconds of a step: %s", ", ".join(f"{name} {value:.3g}" for name, value in seconds.items()))
    chosen = _read(memory)[key]
    log.info("train.precision: %s is the choice on this device", chosen)
    return chosen


def _candidates(device: torch.device) -> list[str]:
    if device.type == "cuda":
        return ["float32", "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"]
    return ["float32", "bf16"]


def _key_of(settings: Train, device: torch.device) -> str:
    what = {
        **settings.model_dump(mode="json", include={"model", "batch_size", "num_threads", "freeze"}),
        "crop": settings.augment.crop,
        "environment": describe_environment(device),
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _read(memory: Path) -> dict[str, str]:
    with suppress(OSError, ValueError):
        found = json.loads(memory.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    return {}


def _time_steps(module: nn.Module, settings: Train, name: str) -> float:
    """Gives the median seconds of a pass forward and backward; the first, which prepares, does not count."""
    device = device_of(module)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        network = copy.deepcopy(module)
        start_training(network, settings)
        shape = (settings.batch_size, 3, *settings.augment.crop)
        images_NCHW = torch.randn(shape, device=device).to(memory_format=torch.channels_last)
        precision = Precision(device, Precision.of(name, device).dtype)

        def step() -> None:
            with precision.autocast():
                outputs = network(images_NCHW)
            logits = outputs if isinstance(outputs, torch.Tensor) else outputs[0]
            precision.backward(logits.float().square().mean())
            network.zero_grad(set_to_none=True)

        step()
        return statistics.median(_seconds_of(step, device) for _ in range(NUM_STEPS))


def _seconds_of(work: Callable[[], None], device: torch.device) -> float:
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
