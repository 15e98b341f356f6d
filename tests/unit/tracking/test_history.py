"""History in two files, and back."""

from pathlib import Path

from segpipe.tracking.history import read_history, write_history

ROWS = [
    {"epoch": 1, "train_loss": 0.5, "train_mean_iou": 0.25, "learning_rate": 0.1},
    {
        "epoch": 2,
        "train_loss": 0.1 + 0.2,
        "train_mean_iou": 0.5,
        "learning_rate": 0.0,
        "val_loss": 0.75,
        "val_mean_iou": 0.375,
    },
]


def test_what_is_written(tmp_path: Path) -> None:
    write_history(tmp_path, ROWS)
    assert (tmp_path / "history/train.csv").read_text().splitlines() == [
        "epoch,loss,mean_iou,learning_rate",
        "1,0.5,0.25,0.1",
        "2,0.30000000000000004,0.5,0.0",
    ]
    assert (tmp_path / "history/val.csv").read_text().splitlines() == ["epoch,loss,mean_iou", "2,0.75,0.375"]


def test_round_trip(tmp_path: Path) -> None:
    write_history(tmp_path, ROWS)
    entries = read_history(tmp_path)
    assert [{"epoch": entry.epoch, **entry.metrics} for entry in entries] == ROWS
    assert all(entry.image is None and entry.time_ms > 0 for entry in entries)
