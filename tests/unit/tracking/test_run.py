"""Parameters and pictures as MLflow takes them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from PIL import Image

from segpipe.tracking.journal import Entry
from segpipe.tracking.run import find_run, flatten, remove_ghosts, ship
from segpipe.tracking.tags import ATTEMPT, CREATED_MS


def test_flatten_gives_dotted_names_and_text() -> None:
    params = {"train": {"model": {"name": "unet", "options": {}}, "crop": [1, 2], "ema": None}, "seed": 0, "rate": 1e-3}
    assert flatten(params) == {
        "train.model.name": "unet",
        "train.crop": "[1, 2]",
        "train.ema": "None",
        "seed": "0",
        "rate": "0.001",
    }


def test_flatten_nothing() -> None:
    assert flatten({}) == {}


@pytest.mark.parametrize("size", [(1, 4000), (4000, 1), (1, 1), (3, 256), (640, 480)])
def test_a_picture_of_any_size_is_taken(client: MlflowClient, tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, "red").save(tmp_path / "picture.png")
    entries = [
        Entry(1, 0, {"train_loss": 1.0}),
        Entry(1, 0, {}, tmp_path / "picture.png", "street/道路"),
    ]
    run_id = client.create_run("0").info.run_id
    for _ in range(2):  # what is there is not sent again
        ship(client, run_id, entries)
    pictures = [artifact.path for artifact in client.list_artifacts(run_id, "images")]
    assert len([path for path in pictures if path.endswith(".png")]) == 1


def test_a_run_whose_creation_was_answered_to_nobody_is_removed_by_the_next_publish(client: MlflowClient) -> None:
    old, now = "1000", str(time.time_ns() // 1_000_000)
    tags = {ATTEMPT: "mine", "segpipe.signature": "s"}
    used = client.create_run("0", start_time=5, tags={**tags, CREATED_MS: old}).info.run_id
    ghost = client.create_run("0", start_time=6, tags={**tags, CREATED_MS: old}).info.run_id
    of_another_process = client.create_run("0", start_time=6, tags={**tags, CREATED_MS: now}).info.run_id
    other = client.create_run("0", tags={ATTEMPT: "other", CREATED_MS: old}).info.run_id
    ship(client, used, [Entry(1, 0, {"train_loss": 1.0})])
    assert find_run(client, "Default", {ATTEMPT: "mine"}) == used
    remove_ghosts(client, used)
    left = {run.info.run_id for run in client.search_runs(["0"])}
    assert left == {used, of_another_process, other}
    assert client.get_run(ghost).info.status == "KILLED"
    client.delete_run(used)
    client.delete_run(of_another_process)
    assert find_run(client, "Default", {ATTEMPT: "mine"}) == used  # out of the bin, and not the ghost


def test_curves_stand_in_a_group_of_their_own_and_a_run_of_an_earlier_release_keeps_its_names(
    client: MlflowClient,
) -> None:
    entries = [Entry(epoch, 0, {"train_loss": 1 / epoch, "val_loss": 0.5}) for epoch in (1, 2)]
    for old, names in ((False, {"epochs/train_loss", "epochs/val_loss"}), (True, {"train_loss", "val_loss"})):
        run_id = client.create_run("0", tags={ATTEMPT: f"attempt {old}"}).info.run_id
        if old:
            client.log_metric(run_id, "train_loss", 1.0, step=1)
        for _ in range(2):
            ship(client, run_id, entries)
        assert client.get_run(run_id).data.metrics.keys() == names
        (marker,) = [name for name in names if name.endswith("train_loss")]
        assert sorted(metric.step for metric in client.get_metric_history(run_id, marker)) == [1, 2]
        ghost = client.create_run("0", start_time=2**40, tags={ATTEMPT: f"attempt {old}"}).info.run_id
        assert find_run(client, "Default", {ATTEMPT: f"attempt {old}"}) == run_id != ghost
