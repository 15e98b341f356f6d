"""What differs between a version and what came out again, and what is refused before anything runs."""

from __future__ import annotations

import copy
import json
import platform
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segpipe.documents import ModelDescription
from segpipe.errors import TrackingError
from segpipe.registry.rebuilding.differences import Difference, Record, compare
from segpipe.registry.rebuilding.rebuild import rebuild

MODEL = {
    "signature": "1",
    "experiment": "any",
    "model": {"name": "unet", "options": {}},
    "classes": {"names": ["road", "car"], "colors": [[0, 0, 0], [1, 1, 1]]},
    "code": "abc",
    "best_epoch": 1,
    "dataset": {"name": "dataset", "digest": "d1"},
    "params": {
        "train": {"epochs": 2, "model": {"name": "unet"}},
        "class_weights": {"weights": {"road": 1.0, "car": 2.5}},
    },
    "environment": {
        "python": platform.python_version(),
        "torch": "2.14.1+cu130",
        "numpy": np.__version__,
        "cpu_capability": "AVX2",
        "num_threads": "2",
        "device": "cpu",
        "platform": "Linux x86_64",
    },
    "weights_sha256": "0" * 64,
}
SOURCE = {
    "name": "data",
    "format": "folder",
    "licence": "none",
    "classes": {"names": ["road", "car"], "colors": [[0, 0, 0], [1, 1, 1]]},
    "sha256": {"a.png": "1", "b.png": "2", "c.png": "3"},
}
PARAMS = "preprocess: {split: {val: [c]}}\ntrain: {epochs: 2}\n"
COMMIT = "0123456789abcdef0123456789abcdef01234567"

Change = Callable[[Any], Any]


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def described(model: dict[str, Any]) -> ModelDescription:
    return ModelDescription.parse(json.dumps(model), "model.json", "")


@pytest.fixture
def record(tmp_path: Path) -> Record:
    write(tmp_path / "lineage/source.json", json.dumps(SOURCE))
    write(tmp_path / "lineage/params.yaml", PARAMS)
    return Record(
        "3", {"segpipe.git_commit": COMMIT, "segpipe.git_dirty": "false"}, tmp_path / "lineage", described(MODEL)
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project in which the stages came to the same results."""
    root = tmp_path / "project"
    write(root / "params.yaml", PARAMS)
    write(root / "build/raw/source.json", json.dumps(SOURCE))
    write(root / "build/model/model.json", json.dumps(MODEL))
    return root


def change_json(path: Path, change: Change) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_the_same_has_no_differences(record: Record, project: Path) -> None:
    assert compare(record, project) == ()


@pytest.mark.parametrize(
    ("keys", "value", "part", "what"),
    [
        ("code", "abd", "code", "the training loaded other sources than those of the commit that the version names"),
        ("params.train.epochs", 3, "params", "train.epochs 2, here 3"),
        ("params.train.model.name", "fpn", "params", "train.model.name unet, here fpn"),
        ("params.class_weights.weights.car", 2.75, "class weights", "weights.car 2.5, here 2.75"),
        ("environment.numpy", "1.0", "wheels", f"numpy {np.__version__}, here 1.0"),
        ("environment.python", "3.9.1", "wheels", f"python {platform.python_version()}, here 3.9.1"),
        ("environment.cpu_capability", "AVX512", "CPU capability", "cpu_capability AVX2, here AVX512"),
        ("environment.num_threads", "8", "threads", "num_threads 2, here 8"),
        ("environment.device", "NVIDIA H100", "device", "device cpu, here NVIDIA H100"),
        ("environment.platform", "Linux aarch64", "platform", "platform Linux x86_64, here Linux aarch64"),
        (
            "dataset.digest",
            "d2",
            "data",
            "the data set has another content (digest d1, here d2); the source's files are the same",
        ),
    ],
)
def test_each_part_is_told_apart(record: Record, project: Path, keys: str, value: Any, part: str, what: str) -> None:
    def change(document: Any) -> None:
        *sections, key = keys.split(".")
        for section in sections:
            document = document[section]
        document[key] = value

    change_json(project / "build/model/model.json", change)
    assert compare(record, project) == (Difference(part, what),)


def test_other_weights_in_the_registry_than_its_model_json_names_are_a_difference(
    record: Record, project: Path
) -> None:
    named, other = MODEL["weights_sha256"], "1" * 64
    whole = replace(record, tags={**record.tags, "segpipe.weights_sha256": str(named)}, held_sha256=str(named))
    assert compare(whole, project) == ()
    for changed in (
        replace(whole, held_sha256=other),
        replace(whole, tags={**record.tags, "segpipe.weights_sha256": other}),
    ):
        (difference,) = compare(changed, project)
        assert difference.part == "registry"
        assert other in difference.what and str(named) in difference.what


def test_short_memory_in_one_of_the_two_is_a_difference(record: Record, project: Path) -> None:
    model = described({**MODEL, "halved_to": 4})
    (difference,) = compare(replace(record, model=model), project)
    assert difference.part == "memory"
    assert "original" in difference.what and "4 samples" in difference.what
    change_json(project / "build/model/model.json", lambda model: model.update(halved_to=2))
    (difference,) = compare(record, project)
    assert "rebuild" in difference.what and "2 samples" in difference.what


def test_a_package_that_came_or_went_is_a_difference(record: Record, project: Path) -> None:
    def change(model: Any) -> None:
        del model["environment"]["numpy"]
        model["environment"]["scipy"] = "1.17"

    change_json(project / "build/model/model.json", change)
    assert compare(record, project) == (
        Difference("wheels", f"numpy {np.__version__}, here not there"),
        Difference("wheels", "scipy not there, here 1.17"),
    )


def test_files_of_the_source_are_told_one_by_one_and_their_digest_is_then_no_news(
    record: Record, project: Path
) -> None:
    files = {"a.png": "1", "b.png": "other", "d.png": "4"}
    change_json(project / "build/raw/source.json", lambda source: source.update(sha256=files))
    change_json(project / "build/model/model.json", lambda model: model["dataset"].update(digest="d2"))
    assert [str(difference) for difference in compare(record, project)] == [
        "data: b.png: another content (sha256 2, here other)",
        "data: c.png: missing",
        "data: d.png: new",
    ]


def test_another_class_table_is_a_difference_of_the_data(record: Record, project: Path) -> None:
    change_json(project / "build/raw/source.json", lambda source: source["classes"].update(names=["road", "bus"]))
    (difference,) = compare(record, project)
    assert difference.part == "data"
    assert "['road', 'car']" in difference.what
    assert "['road', 'bus']" in difference.what


def test_parameters_of_earlier_stages_are_compared_by_their_file(record: Record, project: Path) -> None:
    write(project / "params.yaml", PARAMS.replace("[c]", "[d]"))
    assert compare(record, project) == (Difference("params", "preprocess.split.val ['c'], here ['d']"),)


def test_where_no_training_came_what_is_installed_is_compared(record: Record, project: Path) -> None:
    (project / "build/model/model.json").unlink()
    # The same torch, which itself says for which CUDA it was built; threads and device are not known yet.
    assert compare(record, project) == ()
    model = copy.deepcopy(MODEL)
    model["environment"] |= {"numpy": "1.0", "no-such-package": "7", "cpu_capability": "other"}
    changed = Record(record.version, record.tags, record.lineage_folder, described(model))
    assert compare(changed, project) == (
        Difference("wheels", "no-such-package 7, here not there"),
        Difference("wheels", f"numpy 1.0, here {np.__version__}"),
    )


def test_a_run_without_lineage_is_compared_as_far_as_it_goes(record: Record, project: Path, tmp_path: Path) -> None:
    bare = Record(record.version, record.tags, tmp_path / "nothing", described(MODEL))
    write(project / "params.yaml", "train: {epochs: 7}\n")
    assert compare(bare, project) == ()
    change_json(project / "build/model/model.json", lambda model: model["dataset"].update(digest="d2"))
    (difference,) = compare(bare, project)
    assert difference.what.endswith("(digest d1, here d2); the source's files were not recorded")


# Refused


def refusal(record: Record, root: Path, **tags: str) -> str:
    changed = Record(record.version, {**record.tags, **tags}, record.lineage_folder, record.model)
    with pytest.raises(TrackingError) as error:
        rebuild(changed, root, lambda line: None)
    return str(error.value)


@pytest.mark.parametrize("commit", ["", "HEAD", "--upload-pack=touch x", COMMIT[:12], f"{COMMIT}\n"])
def test_what_is_no_commit_is_refused(record: Record, tmp_path: Path, commit: str) -> None:
    message = refusal(record, tmp_path, **{"segpipe.git_commit": commit})
    assert message.startswith(f"version 3 names no commit (tag segpipe.git_commit: {commit!r})")


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("uncommitted.patch", f"its run keeps them as lineage/uncommitted.patch: `git checkout {COMMIT[:12]}`"),
        ("uncommitted.txt", "lineage/uncommitted.txt says why"),
        ("other", "does not keep the changes: commit your files and train again"),
    ],
)
def test_uncommitted_changes_are_refused(record: Record, tmp_path: Path, file: str, expected: str) -> None:
    write(record.lineage_folder / file, "")
    message = refusal(record, tmp_path, **{"segpipe.git_dirty": "true"})
    assert message.startswith(f"version 3 was trained from commit {COMMIT[:12]} with changes that were not committed")
    assert expected in message


def test_a_folder_outside_git_is_refused(record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert (
        refusal(record, tmp_path) == f"{tmp_path} is not in a git repository; run `rebuild` in a clone of the project"
    )


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit that holds no stage."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    root = tmp_path / "repository"
    write(root / "params.yaml", PARAMS)
    write(root / "recipes/quick.yaml", PARAMS)
    person = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false"]
    for arguments in (["init", "-q"], ["add", "."], [*person, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True)
    return root


def head_of(repository: Path) -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repository, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.mark.parametrize("recipe", ["slow", "../params", ""])
def test_a_recipe_that_the_commit_does_not_have_is_refused(record: Record, repository: Path, recipe: str) -> None:
    tags = {"segpipe.git_commit": head_of(repository), "segpipe.recipe": recipe}
    message = refusal(record, repository, **tags)
    assert f"a recipe that its commit does not have: recipes/{recipe}.yaml" in message


def test_a_commit_without_the_stages_is_refused_and_no_clone_is_left(
    record: Record, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = tmp_path / "hooks/post-checkout"
    write(hook, f"#!/bin/sh\ntouch {repository}/hook-ran\n")
    hook.chmod(0o755)
    write(tmp_path / "gitconfig", f"[core]\n\thooksPath = {hook.parent}\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    tags = {"segpipe.git_commit": head_of(repository), "segpipe.recipe": "quick"}
    assert refusal(record, repository, **tags).startswith("dvc.yaml of the version's commit has no stage evaluate")
    assert not (repository / "hook-ran").exists()
    assert list((repository.parent / "temporary").iterdir()) == []


def test_a_folder_to_keep_that_is_there_already_is_refused(record: Record, repository: Path) -> None:
    changed = Record("3", {"segpipe.git_commit": head_of(repository)}, record.lineage_folder, record.model)
    with pytest.raises(TrackingError, match="is already there; name another folder, or remove it"):
        rebuild(changed, repository, lambda line: None, keep=repository / "recipes")
    assert (repository / "recipes/quick.yaml").exists()
