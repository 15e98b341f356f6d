"""What a killed training needs in order to go on as if nothing had happened."""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from segpipe.files import whole_file

CHECKPOINT = "checkpoint.pt"


@dataclass
class Progress:
    """How far a training is; all of it plain values, saved with each checkpoint.

    Attributes:
        epoch: the epoch under way, from 0.
        batch: batches done in it.
        loss_sum: sum of their losses.
        train_confusion: their summed confusion matrix, as nested lists.
        best_mean_iou: the highest validation mIoU so far.
        best_epoch: when it was reached.
        history: one row of metrics for each finished epoch.
    """

    epoch: int = 0
    batch: int = 0
    loss_sum: float = 0.0
    train_confusion: list[list[int]] = field(default_factory=list)
    best_mean_iou: float = -1.0
    best_epoch: int = -1
    history: list[dict[str, float]] = field(default_factory=list)


def save_checkpoint(folder: Path, progress: Progress, parts: dict[str, Any]) -> None:
    """Writes the progress and the state of each part (an object with `state_dict`), whole or not at all."""
    states = {name: part.state_dict() for name, part in parts.items()}
    # Dropout on a GPU draws from the GPU's own generator.
    rng = {"rng": torch.get_rng_state(), "cuda_rng": torch.cuda.get_rng_state_all()}
    document = {"progress": vars(progress), "states": states, **rng}
    buffer = io.BytesIO()
    torch.save(document, buffer)
    with whole_file(folder / CHECKPOINT) as temporary:
        # Bytes first: a full disk is then the system's own error, not torch's.
        temporary.write_bytes(buffer.getbuffer())


def load_checkpoint(folder: Path, parts: dict[str, Any]) -> Progress:
    """Brings the parts to the saved state; without a checkpoint they stay as they are.

    Returns:
        The saved progress, or that of a beginning.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return Progress()
    document = torch.load(path, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(document["states"][name])
    torch.set_rng_state(document["rng"])
    torch.cuda.set_rng_state_all(document["cuda_rng"][: torch.cuda.device_count()])
    return Progress(**document["progress"])


def remove_checkpoint(folder: Path) -> None:
    """Forgets the checkpoint: the training is complete."""
    (folder / CHECKPOINT).unlink(missing_ok=True)
