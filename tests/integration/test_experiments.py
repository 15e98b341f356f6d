"""DVC experiments: they run the code that they record, their runs stay, and none of them registers anything."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from integration.project import EXPERIMENT, MODEL_NAME, Project

MARK = "segpipe: the marked code"
MARKED = "src/segpipe/stages/evaluate.py"


def runs_of(project: Project) -> dict[str, str]:
    """Learning rate of each run by the DVC experiment it belongs to; '' for none."""
    client = project.client()
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    for run in runs:
        assert run.info.status == "FINISHED"
        files = [file.path for file in client.list_artifacts(run.info.run_id)]
        assert {"lineage", "evaluation"} <= set(files), files
    return {run.data.tags.get("segpipe.experiment", ""): run.data.params["train.learning_rate"] for run in runs}


def registered(project: Project) -> tuple[list[str], str]:
    """The versions and the champion."""
    client = project.client()
    versions = client.search_model_versions(f"name = '{MODEL_NAME}'")
    champion = client.get_model_version_by_alias(MODEL_NAME, "champion").version
    return sorted(str(version.version) for version in versions), str(champion)


def ledger_of(project: Project) -> int:
    return len(json.loads(project.call("segpipe", "registry", "history", "--json"))["entries"])


def metrics_of(project: Project, name: str) -> dict[str, Any]:
    """What `dvc exp show` says of an experiment."""
    shown = json.loads(project.call("dvc", "exp", "show", "--json"))
    (baseline,) = [row for row in shown if row["rev"] != "workspace"]
    found = [revision for row in baseline["experiments"] for revision in row["revs"] if revision["name"] == name]
    assert len(found) == 1, shown
    data: dict[str, Any] = found[0]["data"]
    return data


@pytest.fixture
def shell(finished: Project) -> Project:
    """The project as its user has it, without any `PYTHONPATH`: segpipe is installed from another clone."""
    return Project(finished.root, {"PYTHONPATH": ""})


@pytest.mark.slow
def test_a_temporary_and_a_workspace_experiment_are_recorded_and_register_nothing(shell: Project) -> None:
    before, entries = registered(shell), ledger_of(shell)

    shell.call("dvc", "exp", "run", "--temp", "--name", "apart", "-S", "train.learning_rate=0.02")
    shell.call("dvc", "exp", "run", "--name", "here", "-S", "train.learning_rate=0.01")

    assert runs_of(shell) == {"": "0.03", "apart": "0.02", "here": "0.01"}
    assert (registered(shell), ledger_of(shell)) == (before, entries)
    registration = shell.json("build/registration.json")
    assert (registration["decision"], registration["version"]) == ("compared only", None)
    assert registration["champion"] == "1"
    assert any("version 1" in reason for reason in registration["reasons"][1:])
    assert metrics_of(shell, "apart")["params"]["params.yaml"]["data"]["train"]["learning_rate"] == 0.02
    scores = {name: metrics_of(shell, name)["metrics"]["metrics.json"]["data"]["val"] for name in ("apart", "here")}
    assert scores["apart"] != scores["here"] == shell.json("metrics.json")["val"]

    # The decision is made when the experiment is taken over.
    shell.call("dvc", "exp", "apply", "apart")
    assert "Running stage" not in shell.call("dvc", "repro")
    text = shell.call("segpipe", "publish")
    assert f"{MODEL_NAME} version 2: " in text
    assert "because a DVC experiment wrote it" in text
    assert registered(shell)[0] == ["1", "2"]
    assert ledger_of(shell) == entries + 1
    version = shell.client().get_model_version(MODEL_NAME, "2")
    assert version.tags["segpipe.experiment"] == "apart"
    assert shell.json("metrics.json")["val"] == scores["apart"]
    assert "Running stage" not in shell.call("dvc", "repro")
    assert "segpipe.experiment" not in shell.client().get_model_version(MODEL_NAME, "1").tags


@pytest.mark.slow
def test_a_queued_experiment_runs_the_code_that_it_was_queued_with(shell: Project) -> None:
    source = shell.root / MARKED
    before = source.read_text(encoding="utf-8")
    place = "    keep_freed_memory()\n"
    assert before.count(place) == 1
    source.write_text(before.replace(place, f'{place}    print("{MARK}", flush=True)\n'), encoding="utf-8")
    shell.call("dvc", "exp", "run", "--queue", "--name", "marked")
    source.write_text(before, encoding="utf-8")
    assert shell.call("git", "status", "--porcelain") == ""

    shell.call("dvc", "exp", "run", "--run-all")

    assert MARK in shell.call("dvc", "queue", "logs", "marked")
    assert metrics_of(shell, "marked")["deps"][MARKED]["hash"] != _hash_here(shell)
    assert registered(shell) == (["1"], "1")


def _hash_here(project: Project) -> str:
    text = (project.root / "dvc.lock").read_text(encoding="utf-8")
    found = re.search(rf"path: {re.escape(MARKED)}\n +hash: md5\n +md5: (\w+)", text)
    assert found
    return found.group(1)


def test_a_stage_refuses_code_from_another_tree(finished: Project, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(finished.root / "src", other / "src")
    done = Project(finished.root, {"PYTHONPATH": str(other / "src")}).run_stage("class_weights")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert all(text in done.stderr for text in (str(other / "src"), str(finished.root / "src"), "PYTHONPATH=src"))
    # The graph's own command takes the tree's code, whatever the shell has.
    Project(finished.root, {"PYTHONPATH": str(other / "src")}).call("dvc", "repro", "--force", "-s", "class_weights")


def test_the_store_is_that_of_the_clone_from_a_worktree_and_a_folder(finished: Project, tmp_path: Path) -> None:
    ask = "from segpipe.tracking.default_store import default_store; print(default_store())"
    expected = f"sqlite:///{finished.root}/mlflow.db"
    finished.call("git", "worktree", "add", "--quiet", "--detach", str(tmp_path / "linked"))
    for folder in (finished.root, finished.root / "src/segpipe", tmp_path / "linked", tmp_path / "linked/src"):
        with finished.start("sh", "-c", f'cd "{folder}" && exec python -c "{ask}"') as process:
            assert process.communicate()[0].strip() == expected
