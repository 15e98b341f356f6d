"""Trains a version again from its lineage, to check that the weights are the same.

The stages run again from the first to `evaluate`, in a clone with its own cache, outs, checkpoints and MLflow store, so
no earlier result is used. Then the result is compared with the original: the weights by their sha256, and everything
that decides them part by part.
"""

import contextlib
import json
import math
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segpipe.config.train import REGISTERED
from segpipe.documents import InitialWeights
from segpipe.errors import MAX_PROBLEMS_SHOWN, CommandError, TrackingError
from segpipe.files import sha256_of_file
from segpipe.places import (
    EVALUATION,
    GRAPH_FILE,
    MACHINE,
    MACHINES,
    MEETING,
    METRICS_FILE,
    MLFLOW_STORE,
    MODEL,
    PARAMS_FILE,
    PROCESSES,
    STAGE_MODULES,
    WEIGHTS_FILE,
)
from segpipe.process import run
from segpipe.project import SHORT_SHA
from segpipe.registry.rebuilding.clone import bring_data, bring_recipe, find_commit, open_clone
from segpipe.registry.rebuilding.differences import Difference, Record, compare, compare_registry
from segpipe.tracking.lineage import read_yaml
from segpipe.tracking.registered import PINNED_CHOICES, PINNED_WEIGHTS, fetch_version
from segpipe.tracking.tags import VAL_MEAN_IOU, read_number

FINAL_STAGE = "evaluate"


@dataclass(frozen=True)
class Rebuilt:
    """The result of a rebuild.

    Attributes:
        version: its number in the registry.
        is_identical: whether the weights are those that the registry names and holds, bit for bit.
        weights_sha256: of the original.
        rebuilt_sha256: of the new weights.
        differences: all differences; not empty where the weights differ.
        mean_iou: the original's on the validation split; NaN where it is not recorded.
        rebuilt_mean_iou: of the new weights.
        folder: the clone, if it is kept.
    """

    version: str
    is_identical: bool
    weights_sha256: str
    rebuilt_sha256: str
    differences: tuple[Difference, ...]
    mean_iou: float
    rebuilt_mean_iou: float
    folder: Path | None


def rebuild(record: Record, root: Path, say: Callable[[str], None], keep: Path | None = None) -> Rebuilt:
    """Trains a version again and compares.

    Args:
        record: of the version.
        root: a clone of the project that has the commit, and DVC's settings for the data.
        say: gets each line that DVC and the stages print.
        keep: a folder for the clone, which must not exist; None for a temporary one.

    Raises:
        TrackingError: git does not hold all of the version, its data cannot be brought, or a stage fails.
    """
    commit = find_commit(record, root)
    with (
        _ending_at_sigterm(),
        open_clone(root, commit, keep) as project,
        tempfile.TemporaryDirectory(prefix="segpipe-weights-") as downloads,
    ):
        say(f"version {record.version} is trained again from commit {commit[:SHORT_SHA]} in {project}")
        bring_recipe(record, project)
        bring_data(root, project, say)
        variables = {
            **_stage_variables(project),
            **_bring_weights(record, root, project, Path(downloads)),
            PINNED_CHOICES: json.dumps(_choices_of(record)),
            PROCESSES: record.model.environment.get("processes", "1"),
            **dict.fromkeys((MACHINES, MACHINE, MEETING), ""),
        }
        for stage in _read_stages(project):
            say(f"{stage}:")
            try:
                command = [sys.executable, "-m", f"{STAGE_MODULES}{stage}"]
                run(command, cwd=project, env=variables, on_line=say, what=f"the stage {stage}")
            except CommandError as error:
                found = compare(record, project)
                raise TrackingError(f"version {record.version} cannot be rebuilt: {error}\n{_list(found)}") from error
        rebuilt_sha256 = sha256_of_file(project / MODEL / WEIGHTS_FILE)
        metrics = json.loads((project / EVALUATION / METRICS_FILE).read_text(encoding="utf-8"))
        is_identical = rebuilt_sha256 == record.model.weights_sha256 and not compare_registry(record)
        differences = compare(record, project)
        if not is_identical and not differences:
            what = "nothing that is recorded differs, so this training depends on chance that is not recorded"
            differences = (Difference("chance", what),)
        return Rebuilt(
            version=record.version,
            is_identical=is_identical,
            weights_sha256=record.model.weights_sha256,
            rebuilt_sha256=rebuilt_sha256,
            differences=differences,
            mean_iou=read_number(record.tags, VAL_MEAN_IOU) or math.nan,
            rebuilt_mean_iou=float(metrics["val"]["mean_iou"]),
            folder=keep,
        )


def _bring_weights(record: Record, root: Path, project: Path, downloads: Path) -> dict[str, str]:
    """Brings the initial weights: a file that git does not hold, or the version that an alias named then.

    Returns:
        Variables to add to the stages' environment.

    Raises:
        TrackingError: the weights do not exist any more, or have another content.
    """
    initial = record.model.initial_weights
    if initial is None or initial.source in {"none", "imagenet"}:
        return {}
    source, number = _check_source(record, initial, project), initial.version
    if number is None:
        # The commit's own file, where git holds one; an absolute path is the same in both clones.
        file, variables = project / source, {}
        if not file.exists() and not Path(source).is_absolute() and (root / source).is_file():
            _copy_inside(root / source, file, project)
    else:
        name = re.split("[@/]", source.removeprefix(REGISTERED))[0]
        folder = fetch_version(name, number, downloads)
        file, variables = folder / WEIGHTS_FILE, {PINNED_WEIGHTS: f"{number}:{folder}"}
    if not file.is_file() or sha256_of_file(file) != initial.sha256:
        raise TrackingError(
            f"version {record.version} began with the weights {source}, which are missing or have another content; "
            f"restore the file with sha256 {initial.sha256}"
        )
    return variables


def _check_source(record: Record, initial: InitialWeights, project: Path) -> str:
    """Gives the address or path that a version's model.json names, if its commit names it too.

    Raises:
        TrackingError: model.json, which everyone who may write to the registry can change, names another.
    """
    train = read_yaml(project / PARAMS_FILE).get("train")
    model = train.get("model") if isinstance(train, dict) else None
    named = model.get("weights") if isinstance(model, dict) else None
    number, source = initial.version, initial.source
    if source != named or not (number is None or number.isdecimal()):
        raise TrackingError(
            f"version {record.version}: its model.json says that it began with the weights {source!r} (version "
            f"{number!r}), but {PARAMS_FILE} of its commit says {named!r}: one was changed, so nothing is run"
        )
    return source


def _copy_inside(source: Path, target: Path, folder: Path) -> None:
    """Copies a file to a place below a folder.

    Raises:
        TrackingError: the place is not below it, by `..` or by a link.
    """
    if ".." in target.parts or not target.resolve().is_relative_to(folder.resolve()):
        raise TrackingError(
            f"train.model.weights: {source} lies outside the repository, so it is not copied; write an absolute path, "
            "or keep the file in the repository"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _list(differences: Sequence[Difference]) -> str:
    if not differences:
        return "Until then, nothing that is recorded differs from the original."
    lines = [f"  {difference}" for difference in differences[:MAX_PROBLEMS_SHOWN]]
    if len(differences) > MAX_PROBLEMS_SHOWN:
        lines.append(f"  and {len(differences) - MAX_PROBLEMS_SHOWN} more")
    return "\n".join(["This differs from the original:", *lines])


def _read_stages(project: Path) -> list[str]:
    stages = list(read_yaml(project / GRAPH_FILE).get("stages") or {})
    if FINAL_STAGE not in stages:
        raise TrackingError(f"dvc.yaml of the version's commit has no stage {FINAL_STAGE}, so it cannot be rebuilt")
    return stages[: stages.index(FINAL_STAGE) + 1]


def _choices_of(record: Record) -> dict[str, object]:
    """Gives what the training ran with where its parameters may say `auto`, or the memory was too short for them."""
    train, halved_to = record.model.params.train, record.model.halved_to
    chosen = {key: train[key] for key in ("precision", "micro_batch") if key in train}
    return chosen if halved_to is None else {**chosen, "halved_to": halved_to}


def _stage_variables(project: Path) -> dict[str, str]:
    """Gives the stages' environment: the sources of the clone, and no server, which would show a new run."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PREFECT", "GIT_"))
    }
    return {
        **inherited,
        "MLFLOW_TRACKING_URI": f"sqlite:///{project / MLFLOW_STORE}",
        "PYTHONPATH": str(project / "src"),
        "PYTHONUNBUFFERED": "1",
    }


@contextlib.contextmanager
def _ending_at_sigterm() -> Iterator[None]:
    """Makes SIGTERM raise an exception, so that the clone is removed."""

    def end(signum: int, frame: Any) -> None:
        raise SystemExit(128 + signum)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
