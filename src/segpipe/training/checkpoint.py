"""Checkpoints: with one, a killed training goes on and ends with the same weights.

A checkpoint is one file: a line with the sha256 of the rest, then the output of `torch.save`. The previous checkpoint
is kept. A damaged file, or one of another training, is named in the log and not used, because a wrong byte would give
other weights.
"""

import hashlib
import io
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch

from segpipe.files import whole_file
from segpipe.inference.device import device_of
from segpipe.training.state import Progress, TrainState

log = logging.getLogger(__name__)

CHECKPOINT, PREVIOUS, DAMAGED = "checkpoint.pt", "checkpoint.previous.pt", "checkpoint.damaged"
HEADER = b"segpipe checkpoint 1, sha256 %s\n"
DIGEST_CHARS = 64


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint.

    Attributes:
        training: the signature of the training, which names its folder too.
        progress: how far the training is.
        states: of each part of the state, by its name.
        random_numbers: the states of the generators, of each process.
    """

    training: str
    progress: Progress
    states: Mapping[str, Any]
    random_numbers: Sequence[Mapping[str, torch.Tensor]]


class CheckpointWriter:
    """Writes checkpoints of a training in a thread, while the training goes on with a copy of its state taken.

    Use it as a context: at its end the last checkpoint is written.

    Args:
        folder: of the training.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pool = ThreadPoolExecutor(1, "checkpoint")
        self._under_way: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.wait()
        finally:
            self._pool.shutdown()

    def save(self, state: TrainState) -> None:
        """Copies the state and begins to write it; waits for the checkpoint before, if it is not written yet.

        All processes of a training must call it; the first one writes.

        Raises:
            OSError: the system refused to write the one before; an earlier checkpoint is still there.
        """
        self.wait()
        random_numbers = state.ranks.gather(_random_numbers_of(state))
        if state.ranks.is_first:
            checkpoint = _copy_state(self._folder, state, random_numbers)
            self._under_way = self._pool.submit(_write, self._folder, checkpoint)

    def wait(self) -> None:
        """Waits until the last checkpoint is written.

        Raises:
            OSError: the system refused to write it.
        """
        if self._under_way is not None:
            under_way, self._under_way = self._under_way, None
            under_way.result()


def _copy_state(folder: Path, state: TrainState, random_numbers: Sequence[Mapping[str, torch.Tensor]]) -> Checkpoint:
    states = {name: part.state_dict() for name, part in state.parts().items()}
    return Checkpoint(folder.name, Progress(**_copy(vars(state.progress))), _copy(states), _copy(random_numbers))


def _random_numbers_of(state: TrainState) -> dict[str, torch.Tensor]:
    """Gives the states of torch's generators; dropout on a GPU draws from the GPU's own."""
    device = device_of(state.module)
    of_gpu = {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {}
    return {"cpu": torch.get_rng_state(), **of_gpu}


def _copy(value: Any) -> Any:
    """Copies tensors to the host, and the containers around them, which the training changes in place."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Counter):  # the milestones of a schedule, which need its methods
        return value.copy()
    if isinstance(value, Mapping):
        return {key: _copy(one) for key, one in value.items()}
    return [_copy(one) for one in value] if isinstance(value, list) else value


def _write(folder: Path, checkpoint: Checkpoint) -> None:
    buffer = io.BytesIO()
    # As plain values, because `torch.load` with `weights_only` knows no classes of ours.
    torch.save({**vars(checkpoint), "progress": vars(checkpoint.progress)}, buffer)
    path = folder / CHECKPOINT
    try:
        with whole_file(path) as temporary:
            # `torch.save` wrote to memory, so a full disk is an OSError here and not an error of torch.
            with temporary.open("wb") as file:
                file.write(HEADER % hashlib.sha256(buffer.getbuffer()).hexdigest().encode())
                file.write(buffer.getbuffer())
            if path.exists():
                path.replace(folder / PREVIOUS)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error  # a failed `write` does not name its file


def load_checkpoint(folder: Path, state: TrainState) -> None:
    """Loads the saved state into a training; without a checkpoint the state does not change.

    A damaged checkpoint is renamed, and the previous one is used. Of several processes the first one does that, and
    the others load when it is done.
    """
    if not state.ranks.is_first:
        state.ranks.wait()
    _load(folder, state)
    if state.ranks.is_first:
        state.ranks.wait()


def _load(folder: Path, state: TrainState) -> None:
    for path in (folder / CHECKPOINT, folder / PREVIOUS):
        try:
            checkpoint = read_checkpoint(path)
        except FileNotFoundError:
            continue
        except ValueError as error:
            path.replace(folder / DAMAGED)
            log.warning("%s %s. It is not used; it is kept as %s", path, error, DAMAGED)
            continue
        for name, part in state.parts().items():
            part.load_state_dict(checkpoint.states[name])
        random_numbers = checkpoint.random_numbers[state.ranks.rank]
        torch.set_rng_state(random_numbers["cpu"])
        if "cuda" in random_numbers:
            torch.cuda.set_rng_state(random_numbers["cuda"], device_of(state.module))
        state.progress = checkpoint.progress
        return
    if (folder / DAMAGED).exists():
        log.warning("%s holds no checkpoint that can be used; the training starts from the beginning", folder)


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or from another training than its folder.
    """
    with path.open("rb") as file:
        header = file.read(len(HEADER % (b"0" * DIGEST_CHARS)))
        content = file.read()
    if header != HEADER % hashlib.sha256(content).hexdigest().encode():
        raise ValueError("is damaged: its content does not have the sha256 in its first line")
    document = torch.load(io.BytesIO(content), weights_only=True)
    if document["training"] != path.parent.name:
        raise ValueError(f"is from another training, {document['training']}")
    return Checkpoint(**{**document, "progress": Progress(**document["progress"])})
