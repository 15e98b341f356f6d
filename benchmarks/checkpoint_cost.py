"""The cost of a checkpoint: seconds and bytes, compared with a step of the same training.

    python benchmarks/checkpoint_cost.py [--size H W] [--batch N] [--rounds N] [--folder DIR] [MODEL ...]

The training waits until its state is copied, then the copy is written beside it. A checkpoint includes AdamW's state,
the moving average and the best weights, as in the starter training. It is written to a real disk and synced. The
figures are medians of the rounds.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.optim.lr_scheduler import ConstantLR
from torch.optim.swa_utils import AveragedModel

from segpipe.config.train import LossTerm
from segpipe.inference.device import keep_freed_memory, make_repeatable
from segpipe.inference.network import build_network
from segpipe.training.checkpoint import CHECKPOINT, CheckpointWriter, load_checkpoint
from segpipe.training.objective import make_objective
from segpipe.training.state import TrainState

NUM_CLASSES, NUM_THREADS, AUXILIARY_WEIGHT = 11, 2, 0.4
DEFAULT_MODELS = ("compact_fpn", "fcn_resnet50")
CHECKPOINT_SECONDS = 5 * 60  # `train.checkpoint_minutes`, by default
BYTES_PER_MB = 1_000_000


def measure(model_name: str, options: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Gives the median seconds of a step, of the copy, of writing and of reading, and the bytes of a checkpoint."""
    module = build_network(model_name, {}, NUM_CLASSES).train()
    optimizer = torch.optim.AdamW(module.parameters())
    objective = make_objective([LossTerm(name="cross_entropy")], AUXILIARY_WEIGHT, torch.ones(NUM_CLASSES))
    average = AveragedModel(module, use_buffers=True)
    state = TrainState(module, optimizer, ConstantLR(optimizer), average=average)
    images = torch.randn(options.batch, 3, *options.size).contiguous(memory_format=torch.channels_last)
    target = torch.randint(NUM_CLASSES, (options.batch, *options.size))

    def step() -> None:
        (share,) = objective.shares_of([target])
        loss, _ = share.of_outputs(module(images))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step()  # gives the optimiser its state
    state.best.keep(module)
    seconds: dict[str, list[float]] = {}
    with CheckpointWriter(folder) as writer:
        works: dict[str, Callable[[], object]] = {
            "step": step,
            "copy": lambda: writer.save(state),
            "write": writer.wait,
            "read": lambda: load_checkpoint(folder, state),
        }
        for _ in range(options.rounds):
            for name, work in works.items():
                started = time.perf_counter()
                work()
                seconds.setdefault(name, []).append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {**medians, "bytes": (folder / CHECKPOINT).stat().st_size}


def main() -> None:
    """Prints a line for each model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models", nargs="*", default=DEFAULT_MODELS)
    parser.add_argument("--size", nargs=2, type=int, default=(192, 256))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path(), help="a folder on the disk to measure (default: here)")
    options = parser.parse_args()
    make_repeatable(0, NUM_THREADS)
    keep_freed_memory()
    print(f"{options.batch} images of {options.size[0]}x{options.size[1]} px, {NUM_THREADS} threads, AdamW, average")
    for name in options.models:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            of = measure(name, options, Path(folder))
        print(
            f"{name}: {of['bytes'] / BYTES_PER_MB:.1f} MB, step {of['step']:.2f} s; the training waits "
            f"{of['copy']:.2f} s ({of['copy'] / CHECKPOINT_SECONDS:.2%} of five minutes), written beside it in "
            f"{of['write']:.2f} s, read in {of['read']:.2f} s"
        )


if __name__ == "__main__":
    main()
