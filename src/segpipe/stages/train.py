"""Trains a network, or continues an interrupted training."""

import hashlib
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType

import torch
from torch import nn

from segpipe.classes import ClassTable
from segpipe.code import digest_of_loaded
from segpipe.config.train import Train
from segpipe.data.loading.loader import TrainLoader
from segpipe.data.store import Store
from segpipe.documents import (
    BuiltModel,
    ClassWeighting,
    ImageMapping,
    InitialWeights,
    ModelDescription,
    NamedDataset,
    NetworkDescription,
    SourceDescription,
    TrainingDescription,
    UsedParams,
)
from segpipe.errors import ConfigError, StoreError
from segpipe.files import sha256_of_file, whole_folder, write_json
from segpipe.inference.device import (
    check_instructions,
    choose_device,
    describe_environment,
    keep_freed_memory,
    make_repeatable,
)
from segpipe.inference.network import build_network
from segpipe.places import (
    CHECKPOINTS,
    CLASS_WEIGHTS,
    DATASET,
    MACHINE,
    MEASURED,
    MODEL,
    MODEL_FILE,
    PROCESSES,
    SOURCE_FILE,
    TRAINING_FILE,
    WEIGHTS_FILE,
)
from segpipe.stages.stage import run_stage
from segpipe.tracking.history import write_history
from segpipe.tracking.journal import Journal
from segpipe.tracking.lineage import environment_tags, lineage_files, lineage_tags
from segpipe.tracking.recorded import dvc_digest, forget, forget_recorded, is_recorded
from segpipe.tracking.registered import PINNED_CHOICES, PINNED_WEIGHTS, fetch_address
from segpipe.tracking.run import Description, track
from segpipe.tracking.tags import WEIGHTS_SHA256
from segpipe.training.beginning.measuring import choose_micro_batch, choose_precision
from segpipe.training.beginning.rehearsal import rehearse, rehearse_batch
from segpipe.training.beginning.weights import Given, make_network
from segpipe.training.loop import BEST_WEIGHTS, Fit, Interrupted, fit
from segpipe.training.objective import make_objective
from segpipe.training.precision import Precision
from segpipe.training.processes.launching import Placement, launch
from segpipe.training.processes.ranks import ALONE, Ranks
from segpipe.training.state import Progress

log = logging.getLogger(__name__)


def main(settings: Train) -> None:
    """Writes `model/`: the best weights, `model.json`, the history of the epochs."""
    rehearse(settings)
    device = choose_device(settings.device)
    placement = Placement.of(os.environ, settings.device)
    if placement.machine:
        raise ConfigError(f"{MACHINE}={placement.machine}: machine 0 runs the stages; run `segpipe join` here")
    if placement.is_shared:
        launch(placement)
    else:
        train(settings, device, ALONE)


def train(settings: Train, device: torch.device, ranks: Ranks) -> None:
    """Does the work of the stage, or a rank's part of it."""
    signals = _listen_for_stop()
    if settings.precision != "auto":
        Precision.of(settings.precision, device)  # refuses what the device does not know
    if settings.deterministic == "anywhere":
        check_instructions(device)
    keep_freed_memory()
    make_repeatable(settings.seed, settings.num_threads, settings.deterministic != "fast")
    store = Store.open(DATASET)
    weighting = _read_weights(store)
    weights = torch.tensor([weighting.weights[name] for name in store.classes.names], dtype=torch.float32)
    module, model, initial = _make_network(settings, store, device, ranks)
    settings = _settle(module, settings, ranks)
    if ranks.number > 1:
        from segpipe.training.processes.synchronised import synchronise  # imports timm, which takes a second

        module = synchronise(module, device)
    objective = make_objective(settings.loss, settings.auxiliary_weight, weights.to(device))
    # By content, because the digest in the signature knows no names: renamed files give the same training.
    train_store, val_store = store.of_split("train").by_content(), store.of_split("val")
    _check_batch(settings, len(train_store), ranks)
    loader = TrainLoader(train_store, settings.augment, settings.batch_size, settings.seed, ranks.part)
    environment = describe_environment(device) | ({"processes": str(ranks.number)} if ranks.number > 1 else {})
    description = ranks.share(_describe(settings, store, weighting, model, initial, environment))
    folder = CHECKPOINTS / description.signature
    job = Fit(module, objective, loader, val_store, settings, folder, None, lambda: bool(signals), ranks=ranks)
    try:
        if ranks.is_first:
            _fit_and_write(job, description, store.classes)
        else:
            ranks.wait()  # for the folder
            fit(job)
    except Interrupted:
        sys.exit(128 + (signals or [signal.SIGTERM])[0])


def _fit_and_write(job: Fit, description: TrainingDescription, classes: ClassTable) -> None:
    """Trains, with the journal and MLflow's run, and writes the model."""
    folder = job.folder
    journal = _begin_journal(folder)
    write_json(folder / TRAINING_FILE, description.to_json())
    job.ranks.wait()
    end_tags: dict[str, str] = {}
    with track(journal, _run_description(description), end_tags, classes) as sink:
        progress = fit(replace(job, sink=sink))
        journal.complete(progress.history)
        end_tags[WEIGHTS_SHA256] = sha256_of_file(folder / BEST_WEIGHTS)
        _write_model(job, description, progress)
    # The checkpoint stays until DVC has recorded the model: if the training is started again, it ends immediately.
    journal.finish(dvc_digest(MODEL))
    (folder / BEST_WEIGHTS).unlink()  # copied; the checkpoint has it too


def _make_network(
    settings: Train, store: Store, device: torch.device, ranks: Ranks
) -> tuple[nn.Module, BuiltModel, InitialWeights]:
    """Gives the network with its first weights, which the first rank finds or downloads for all."""
    made: tuple[nn.Module, BuiltModel, InitialWeights] | None = None
    if ranks.is_first:
        with tempfile.TemporaryDirectory() as downloads:
            made = make_network(settings.model, store.classes.names, lambda address: _fetch(address, Path(downloads)))
    # The others build what the first has built: the weights decide some options. They wait in the host's memory,
    # because a download may take longer than a sum of GPUs may.
    shared = ranks.share(made and made[1:])
    assert shared is not None, "the first one has sent it"
    model, initial = shared
    network = made[0] if made else build_network(model.name, model.options, len(store.classes.names), model.in_channels)
    ranks.separate_random_numbers(settings.seed)
    module = network.to(device)
    ranks.take_weights_of_first(module)
    return module, model, initial


def _check_batch(settings: Train, num_samples: int, ranks: Ranks) -> None:
    size = min(settings.batch_size, num_samples)
    if size < ranks.number:
        raise ConfigError(
            f"a batch of {size} samples is too small for {ranks.number} processes; lower {PROCESSES}, or raise "
            "train.batch_size"
        )
    most, least = -(-size // ranks.number), size // ranks.number
    if isinstance(settings.micro_batch, int) and -(-most // settings.micro_batch) > least:
        raise ConfigError(
            f"train.micro_batch: {settings.micro_batch} divides a part of {most} samples into more than the {least} "
            f"samples that another process has; take a train.batch_size that {ranks.number} processes share evenly"
        )
    # Several processes share each batch norm, so none of them has too few samples for it.
    divided = settings.micro_batch if isinstance(settings.micro_batch, int) and ranks.number == 1 else size
    num_at_once = size // -(-size // divided)
    if num_samples < settings.batch_size or num_at_once < size:
        rehearse_batch(settings, size, num_at_once)


def _settle(module: nn.Module, settings: Train, ranks: Ranks) -> Train:
    """Gives the settings with what is pinned, or best on this device, for each `auto`."""
    pinned = json.loads(os.environ.get(PINNED_CHOICES, "{}"))
    # How much fits comes first: the formats are timed with it.
    for key, choose in {"micro_batch": choose_micro_batch, "precision": choose_precision}.items():
        if getattr(settings, key) != "auto":
            continue
        chosen: object = None
        if ranks.is_first:
            own_part = settings.model_copy(update={"batch_size": -(-settings.batch_size // ranks.number)})
            chosen = pinned[key] if key in pinned else choose(module, own_part, MEASURED)
        settings = settings.model_copy(update={key: ranks.share(chosen)})
    if (halved_to := ranks.share(pinned.get("halved_to"))) is not None:
        settings = settings.model_copy(update={"micro_batch": halved_to})
    return settings


def _listen_for_stop() -> list[int]:
    """Gives a list to which each SIGTERM and Ctrl-C is added; the training stops when it is not empty.

    The present step is finished and a checkpoint is written before the process ends. A second Ctrl-C ends it
    immediately.
    """
    signals: list[int] = []

    def remember(signum: int, frame: FrameType | None) -> None:
        if signum == signal.SIGINT and signum in signals:
            raise KeyboardInterrupt
        signals.append(signum)

    signal.signal(signal.SIGTERM, remember)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as for a job in the background
        signal.signal(signal.SIGINT, remember)
    return signals


def _begin_journal(folder: Path) -> Journal:
    """Continues a training's journal; if DVC has recorded its result, the training is repeated from the start."""
    journal, is_repeated = Journal(folder), is_recorded(folder)
    if is_repeated:
        forget(folder)
    journal.begin(is_new_attempt=is_repeated)
    forget_recorded(CHECKPOINTS)
    return journal


def _read_weights(store: Store) -> ClassWeighting:
    fix = "run `dvc repro class_weights`"
    weighting = ClassWeighting.read(CLASS_WEIGHTS, fix)
    if list(weighting.weights) != list(store.classes.names):
        raise StoreError(f"{CLASS_WEIGHTS}: its classes differ from those of {DATASET}; {fix}")
    return weighting


def _fetch(address: str, output: Path) -> Given:
    """Downloads a registered model's weights; in a rebuild, of the version that the address named at the time."""
    if pinned := os.environ.get(PINNED_WEIGHTS):
        version, _, name = pinned.partition(":")
        folder = Path(name)
    else:
        version, folder = fetch_address(address, output)
    try:
        description = NetworkDescription.read(folder / MODEL_FILE, "segpipe did not write it")
        is_whole = sha256_of_file(folder / WEIGHTS_FILE) == description.weights_sha256
    except (OSError, StoreError) as error:
        raise StoreError(
            f"{address}: version {version} has no usable model: {error}; write another version in train.model.weights"
        ) from error
    if not is_whole:
        raise StoreError(
            f"{address}: the weights of version {version} are damaged (their sha256 differs from {MODEL_FILE}); write "
            "another version in train.model.weights"
        )
    log.info("the training begins with the weights of %s, version %s", address, version)
    return Given(folder / WEIGHTS_FILE, description.classes.names, version, description.model)


def _describe(
    settings: Train,
    store: Store,
    weighting: ClassWeighting,
    model: BuiltModel,
    initial: InitialWeights,
    environment: dict[str, str],
) -> TrainingDescription:
    """Gives everything that decides the weights."""
    description = TrainingDescription(
        signature="",
        experiment=settings.experiment,
        model=model,
        initial_weights=initial,
        classes=store.classes,
        dataset=NamedDataset(DATASET.name, store.digest),
        image_mapping=_read_image_mapping(),
        params=UsedParams(settings.decisive(), weighting.decisive()),
        environment=environment,
        code=digest_of_loaded(),
    )
    decisive = {name: value for name, value in description.to_json().items() if name != "signature"}
    signature = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
    return replace(description, signature=signature)


def _read_image_mapping() -> ImageMapping:
    """Gives how the images of the data set were read; a data set without sources was not read from files."""
    path = DATASET / SOURCE_FILE
    return SourceDescription.read(path, "run `dvc repro preprocess`").image_mapping if path.exists() else ImageMapping()


def _run_description(description: TrainingDescription) -> Description:
    return Description(
        experiment=description.experiment,
        signature=description.signature,
        params=asdict(description.params),
        tags={**lineage_tags(), **environment_tags(description.environment)},
        dataset_name=description.dataset.name,
        dataset_digest=description.dataset.digest,
        files=lineage_files(),
    )


def _write_model(job: Fit, description: TrainingDescription, progress: Progress) -> None:
    with whole_folder(MODEL) as output:
        shutil.copyfile(job.folder / BEST_WEIGHTS, output / WEIGHTS_FILE)
        shutil.copyfile(CLASS_WEIGHTS, output / CLASS_WEIGHTS.name)
        # Neither times nor ids of runs, so that the same training gives the same bytes everywhere.
        write_history(output, progress.history)
        sha256 = sha256_of_file(output / WEIGHTS_FILE)
        model = ModelDescription(
            **vars(description),
            best_epoch=progress.best_epoch,
            weights_sha256=sha256,
            halved_to=progress.halved_to(job.settings),
        )
        write_json(output / MODEL_FILE, model.to_json())


if __name__ == "__main__":
    run_stage(main, Train, MODEL)
