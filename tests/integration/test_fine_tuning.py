"""Trainings that begin with a registered model: what is recorded of it, and that they can be made again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from facts import missing
from integration.project import MODEL_NAME, Project

from segpipe.files import sha256_of_file

CHAMPION = f"models:/{MODEL_NAME}@champion"
WEIGHTS = "build/model/weights.safetensors"


def _begin_with(project: Project, weights: str, epochs: int) -> None:
    """Changes and commits the parameters."""
    project.change_params("train.model.weights", weights)
    project.change_params("train.epochs", epochs)
    project.call("git", "commit", "--quiet", "--all", "--message", f"Begin with {weights}")


def _train_losses(project: Project) -> list[float]:
    losses: list[float] = pd.read_csv(project.root / "build/model/history/train.csv")["loss"].tolist()
    return losses


def _damage_registered_weights(project: Project) -> None:
    (file,) = (project.root / "mlruns").rglob("models/*/artifacts/**/weights.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def test_a_training_goes_on_from_the_champion(finished: Project) -> None:
    champion_sha256 = sha256_of_file(finished.root / WEIGHTS)
    first_loss = _train_losses(finished)[0]

    _begin_with(finished, f"models:/{MODEL_NAME}@nobody", 2)
    message = finished.refused("train")
    assert message.startswith(f"MLflow has no alias nobody of '{MODEL_NAME}': ")
    assert not missing(message, "register", "`dvc repro`", "`segpipe registry list`")

    _begin_with(finished, CHAMPION, 2)
    said = finished.stage("train")
    assert f"the training begins with the weights of {CHAMPION}, version 1" in said
    model = finished.json("build/model/model.json")
    assert model["initial_weights"] == {"source": CHAMPION, "version": "1", "sha256": champion_sha256}
    assert model["model"] == {"name": "unet", "options": {"width": 4, "depth": 2}, "in_channels": 3}
    assert model["weights_sha256"] != champion_sha256
    losses = _train_losses(finished)
    assert len(losses) == 2
    assert losses[0] < first_loss / 2

    _damage_registered_weights(finished)
    assert not missing(finished.refused("train"), CHAMPION, "version 1", "damaged", "sha256", "train.model.weights")


@pytest.mark.slow
def test_a_version_is_made_again_from_the_one_that_the_alias_named_then(finished: Project, tmp_path: Path) -> None:
    _begin_with(finished, CHAMPION, 2)
    for stage in ("train", "evaluate", "register"):
        finished.stage(stage)
    finished.call("segpipe", "registry", "promote", "2", "--why", "so that the alias moves")
    client = finished.client()
    assert str(client.get_model_version_by_alias(MODEL_NAME, "champion").version) == "2"
    assert f"{MODEL_NAME} version 2: identical." in finished.call("segpipe", "registry", "rebuild", "2")

    (tmp_path / "temporary").mkdir()
    client.delete_model_version(MODEL_NAME, "1")
    project = replace(finished, variables={"TMPDIR": str(tmp_path / "temporary")})
    done = project.run("segpipe", "registry", "rebuild", "2")
    assert done.returncode == 1
    assert f"version 1 of '{MODEL_NAME}' cannot be downloaded" in done.stderr
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_chosen_precision_is_part_of_the_model_and_a_rebuild_may_pin_it(finished: Project) -> None:
    finished.change_params("train.epochs", 1)
    finished.change_params("train.precision", "auto")
    said = finished.stage("train")
    chosen = finished.json("build/model/model.json")["params"]["train"]["precision"]
    assert chosen in {"float32", "bf16"}
    assert not missing(said, "seconds of a step", "train.precision", chosen)
    assert "seconds of a step" not in finished.stage("train"), "it is measured once"
    (pinned,) = {"float32", "bf16"} - {chosen}
    choices = json.dumps({"precision": pinned, "micro_batch": None, "halved_to": 2})
    done = Project(finished.root, {"SEGPIPE_PINNED_CHOICES": choices}).run_stage("train")
    assert done.returncode == 0, done.stderr
    model = finished.json("build/model/model.json")
    assert model["params"]["train"]["precision"] == pinned
    assert model["params"]["train"]["micro_batch"] == 2
    assert model["halved_to"] is None, "the number of the start was enough"
