"""Chooses what only a measurement on the device can tell: `auto` of `train.precision` and `train.micro_batch`."""

import copy
import hashlib
import json
import logging
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from torch import nn

from segpipe.config.train import Train
from segpipe.errors import TrainingError
from segpipe.files import write_json
from segpipe.inference.device import computes_bf16, describe_environment, device_of
from segpipe.training.optim import make_optimizer
from segpipe.training.parameters import recompute, start_training
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
        settings: `train` of the parameters; `micro_batch` is a number or None.
        memory: the file of what was measured.
    """

    def measure() -> str:
        seconds = {name: _time_steps(module, settings, name) for name in _candidates(device_of(module))}
        fastest = min(seconds, key=lambda name: seconds[name])
        log.info("seconds of a step: %s", ", ".join(f"{name} {value:.3g}" for name, value in seconds.items()))
        return fastest if seconds[fastest] < LEAST_GAIN * seconds["float32"] else "float32"

    return str(_remember("precision", module, settings, memory, measure))


def choose_micro_batch(module: nn.Module, settings: Train, memory: Path) -> int:
    """Gives the most samples of a batch that fit into the device's memory at once: all, a half, a quarter, ...

    On a CPU all: its memory cannot be tried without harm. The result is remembered, as for `choose_precision`.

    Args:
        module: the network on its device; is not changed.
        settings: `train` of the parameters; `batch_size` is what this process gets of a batch.
        memory: the file of what was measured.

    Raises:
        TrainingError: not even one sample fits.
    """
    if device_of(module).type == "cpu":
        return settings.batch_size

    def measure() -> int:
        size = settings.batch_size
        while not _fits(module, settings, size):
            if size == 1:
                raise TrainingError(
                    "not even one sample fits into the device's memory; name parts in train.recompute, or lower "
                    "train.augment.crop"
                )
            size = -(-size // 2)
        return size

    return int(_remember("micro_batch", module, settings, memory, measure))


def _remember(
    what: str, module: nn.Module, settings: Train, memory: Path, measure: Callable[[], str | int]
) -> str | int:
    key = f"{what} {_key_of(settings, device_of(module))}"
    known = _read(memory)
    if key not in known:
        known[key] = measure()
        write_json(memory, known)
    log.info("train.%s: %s is the choice on this device", what, known[key])
    return known[key]


def _candidates(device: torch.device) -> list[str]:
    if device.type == "cuda":
        return ["float32", "tf32", "bf16"] if computes_bf16(device) else ["float32", "fp16"]
    return ["float32", "bf16"]


def _key_of(settings: Train, device: torch.device) -> str:
    keys = {"model", "batch_size", "micro_batch", "precision", "optimizer", "num_threads", "freeze", "recompute"}
    what = {
        **settings.model_dump(mode="json", include=keys),
        "crop": settings.augment.crop,
        "environment": describe_environment(device),
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _read(memory: Path) -> dict[str, str | int]:
    with suppress(OSError, ValueError):
        found = json.loads(memory.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    return {}


def _time_steps(module: nn.Module, settings: Train, name: str) -> float:
    """Gives the median seconds of a pass forward and backward; the first, which prepares, does not count."""
    size = settings.micro_batch if isinstance(settings.micro_batch, int) else settings.batch_size
    with _single_thread(device_of(module)), _trial(module, settings, name, min(size, settings.batch_size)) as step:
        step()
        return statistics.median(_seconds_of(step, device_of(module)) for _ in range(NUM_STEPS))


@contextmanager
def _single_thread(device: torch.device) -> Iterator[None]:
    """Lets torch compute by one thread on a CPU: of several, on a busy machine, most seconds are spent in waiting."""
    num_threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def _fits(module: nn.Module, settings: Train, size: int) -> bool:
    """Whether two steps of so many samples, the optimiser's included, have enough memory in float32."""
    precision = "float32" if settings.precision == "auto" else settings.precision
    try:
        with _trial(module, settings, precision, size) as step:
            step()
            step()
    except torch.OutOfMemoryError:
        return False
    finally:
        if device_of(module).type != "cpu":
            torch.accelerator.memory.empty_cache()
    return True


@contextmanager
def _trial(module: nn.Module, settings: Train, name: str, size: int) -> Iterator[Callable[[], None]]:
    """Gives a function that takes a step with a copy of the network, on random images; leaves no trace."""
    device = device_of(module)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        network = copy.deepcopy(module)
        recompute(network, settings)
        start_training(network, settings)
        images_NCHW = torch.randn((size, 3, *settings.augment.crop), device=device)
        images_NCHW = images_NCHW.to(memory_format=torch.channels_last)
        precision = Precision(device, Precision.of(name, device).dtype)
        optimizer = make_optimizer(network, settings)

        def step() -> None:
            with precision.autocast():
                outputs = network(images_NCHW)
            logits = [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)
            precision.backward(torch.stack([one.float().square().mean() for one in logits]).sum())
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        yield step


def _seconds_of(work: Callable[[], None], device: torch.device) -> float:
    """Gives the seconds of some work; on a CPU those of the processor, which other work changes little."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    started = clock()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - started
