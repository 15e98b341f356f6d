"""Share of a training's time that goes to its data, by the protocol of nnU-Net's benchmark.

    python benchmarks/waiting.py [--batches N] [--epochs 5]

Run it in a project whose store and class weights are built (`dvc repro class_weights`): network, loss, sizes and
augmentation are those of its params.yaml. Epochs with the loader and epochs with one batch that stays in memory take
turns. The share is 1 - t / T: t is the fastest epoch without loading, T the fastest with it. An epoch of each kind
before them, which prepares memory and threads, does not count. Where loader and network share the cores of a CPU, the
share contains the loader's work too, which a count of the waiting misses. The same share of the process's CPU seconds
is the loader's work; on a busy machine it is the figure to look at.

Protocol: MIC-DKFZ/nnUNet, documentation/benchmarking.md (the best of 5 epochs, with and without data loading).
"""

import segpipe.stages  # noqa: F401  # isort: skip  # sets OpenMP's variables before torch is loaded
import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterable

import torch

from segpipe.config.reading import load_section
from segpipe.config.train import Train
from segpipe.data.loading.loader import Batch, TrainLoader
from segpipe.data.store import Store
from segpipe.inference.device import choose_device, device_of, keep_freed_memory, make_repeatable
from segpipe.inference.network import build_network
from segpipe.places import CLASS_WEIGHTS, DATASET, MEASURED
from segpipe.training.beginning.measuring import choose_precision
from segpipe.training.meter import Meter
from segpipe.training.objective import Objective, make_objective
from segpipe.training.parameters import freeze, start_training
from segpipe.training.prefetch import send_ahead
from segpipe.training.state import Progress, TrainState
from segpipe.training.step import add_gradients, take_step

LOADED, CONSTANT = "with the loader", "one batch in memory"
STEPS_PER_EPOCH = 1000  # of the schedule of rates, which decides no time


def begin(settings: Train, store: Store, device: torch.device) -> tuple[TrainState, Objective]:
    """Gives the state of a training with random weights, and its loss."""
    model, names = settings.model, store.classes.names
    weights = json.loads(CLASS_WEIGHTS.read_text(encoding="utf-8"))["weights"]
    class_weights = torch.tensor([weights[name] for name in names], dtype=torch.float32, device=device)
    objective = make_objective(settings.loss, settings.auxiliary_weight, class_weights)
    module = build_network(model.name, model.options, len(names), model.in_channels).to(device)
    if settings.precision == "auto":
        chosen = choose_precision(module, settings, MEASURED)
        settings = settings.model_copy(update={"precision": chosen})
    freeze(module, settings)
    start_training(module, settings)
    return TrainState.begin(module, settings, STEPS_PER_EPOCH), objective


def time_epoch(
    state: TrainState, objective: Objective, batches: Iterable[Batch], meter: Meter, is_half: bool
) -> tuple[float, float]:
    """Gives the seconds of the steps of an epoch, and the process's CPU seconds."""
    device = device_of(state.module)
    started, cpu_started = time.perf_counter(), time.process_time()
    for batch in send_ahead(batches, device):
        loss = add_gradients(state, objective, [batch], is_half, meter.observe)
        meter.add_loss(loss, 1)
        take_step(state, None)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started, time.process_time() - cpu_started


def main() -> None:
    """Prints the fastest epochs and the share, at full and at half resolution."""
    parser = argparse.ArgumentParser(description="Share of a training's time that goes to its data.")
    parser.add_argument("--batches", type=int, help="of an epoch (default: as in the training)")
    parser.add_argument("--epochs", type=int, default=5, help="of each kind (default 5)")
    options = parser.parse_args()
    settings = load_section(Train)
    device = choose_device(settings.device)
    keep_freed_memory()
    make_repeatable(settings.seed, settings.num_threads, settings.deterministic == "strict")
    store = Store.open(DATASET)
    loader = TrainLoader(store.of_split("train"), settings.augment, settings.batch_size, settings.seed)
    state, objective = begin(settings, store, device)
    meter = Meter(store.classes.num_classes, Progress(), device)
    num_batches = options.batches or loader.batches_per_epoch
    constant = next(loader.batches(0))
    sources: dict[str, Callable[[int], Iterable[Batch]]] = {
        LOADED: loader.batches,
        CONSTANT: lambda epoch: itertools.repeat(constant),
    }
    size = "x".join(map(str, settings.augment.crop))
    print(f"{settings.model.name}, {num_batches} batches of {settings.batch_size} of {size}, best of {options.epochs}")
    for is_half in (False, True) if settings.half_resolution_share else (False,):
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in sources}
        for epoch in range(options.epochs + 1):
            for name, source in sources.items():
                batches = itertools.islice(source(epoch), num_batches)
                seconds[name].append(time_epoch(state, objective, batches, meter, is_half))
        for unit, column in (("s", 0), ("CPU s", 1)):
            best = {name: min(pair[column] for pair in pairs[1:]) for name, pairs in seconds.items()}
            times = ", ".join(f"{name} {value:.2f} {unit}" for name, value in best.items())
            share = 1 - best[CONSTANT] / best[LOADED]
            print(f"{'half' if is_half else 'full'} resolution: {times}; share {share:.1%}", flush=True)


if __name__ == "__main__":
    main()
