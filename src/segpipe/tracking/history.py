"""The metrics of a training's epochs as an out: for `dvc plots`, and to restore a run whose journal is missing.

`history/train.csv` has a row for each epoch, `history/val.csv` one for each that was validated.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from segpipe.tracking.journal import Entry

HISTORY = "history"
MEASURED_SPLITS = ("train", "val")


def write_history(model_folder: Path, rows: Sequence[dict[str, float]]) -> None:
    """Writes both files.

    Args:
        model_folder: takes the folder `history`.
        rows: the metrics of each epoch as the engine names them: `epoch`, `train_loss`, `val_loss`, ...
    """
    (model_folder / HISTORY).mkdir()
    for split in MEASURED_SPLITS:
        mine = [
            {name.removeprefix(f"{split}_"): value for name, value in row.items() if _belongs(name, split)}
            for row in rows
            if f"{split}_loss" in row
        ]
        pd.DataFrame(mine).to_csv(model_folder / HISTORY / f"{split}.csv", index=False)


def _belongs(name: str, split: str) -> bool:
    return name == "epoch" or name.startswith(f"{split}_") or (split == "train" and name == "learning_rate")


def read_history(model_folder: Path) -> list[Entry]:
    """Gives one entry an epoch, with all its metrics; the file's time is used as its time, and speeds are missing."""
    metrics: dict[int, dict[str, float]] = {}
    for split in MEASURED_SPLITS:
        for row in pd.read_csv(model_folder / HISTORY / f"{split}.csv").to_dict(orient="records"):
            of_epoch = metrics.setdefault(int(row.pop("epoch")), {})
            for name, value in row.items():
                of_epoch[str(name) if name == "learning_rate" else f"{split}_{name}"] = float(value)
    written_ms = int((model_folder / HISTORY / "train.csv").stat().st_mtime * 1000)
    return [Entry(epoch, written_ms, values) for epoch, values in sorted(metrics.items())]
