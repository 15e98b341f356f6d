"""A version made again from what its lineage says, to see whether the same weights come out.

The commit is checked out into a worktree of its own, DVC brings the data there, and the stages run again from the first
to `evaluate`. The worktree has its own cache, outs, checkpoints and MLflow store, so nothing is taken from an earlier
result, and of this clone nothing is changed. What comes out is compared with the original: the weights by their sha256,
and all that decides about them part by part.
"""

import collections
import configparser
import contextlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segpipe.errors import MAX_PROBLEMS_SHOWN, TrackingError
from segpipe.files import sha256_of_file
from segpipe.tracking.evaluations import MEAN_IOU
from segpipe.tracking.lineage import COMMIT, DIRTY, NO_PATCH, PARAMS, PATCH, RECIPE, SOURCE, read_yaml
from segpipe.tracking.run import LINEAGE, flatten

FINAL_STAGE = "evaluate"
CLONE_REMOTE = "segpipe-clone"
NUM_LINES_KEPT = 20
SHORT_SHA = 12
# What describes the machine in model.json's environment; all else there are versions of packages.
MACHINE_PARTS = {
    "cpu_capability": "CPU capability",
    "num_threads": "threads",
    "device": "device",
    "platform": "platform",
}
# The options of DVC that are paths, relative to the folder of the file that holds them.
DVC_PATHS = {
    "url", "keyfile", "credentialpath", "configpath", "cert_path", "key_path",
    "gdrive_user_credentials_file", "gdrive_service_account_json_file_path",
}  # fmt: skip


@dataclass(frozen=True)
class Record:
    """What is recorded of a version.

    Attributes:
        version: its number in the registry.
        tags: the version's, or its run's.
        lineage_folder: what its run keeps below `lineage/`, downloaded; what is missing there is not compared.
        model: its model.json.
    """

    version: str
    tags: Mapping[str, str]
    lineage_folder: Path
    model: Mapping[str, Any]


@dataclass(frozen=True)
class Difference:
    """One thing that is not as it was.

    Attributes:
        part: 'code', 'data', 'params', 'class weights', 'wheels', 'CPU capability', 'threads', 'device', 'platform' or
            'chance'.
        what: the file, parameter or package, with both values.
    """

    part: str
    what: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.part}: {self.what}"


@dataclass(frozen=True)
class Rebuilt:
    """What came out.

    Attributes:
        version: its number in the registry.
        is_identical: whether the weights are the same bit for bit.
        weights_sha256: of the original.
        rebuilt_sha256: of the weights made again.
        differences: all that is not as it was; not empty where the weights differ.
        mean_iou: the original's on the validation split; NaN where it is not recorded.
        rebuilt_mean_iou: of the weights made again.
        folder: the worktree, where it was to be kept.
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
    """Makes a version again and compares.

    Args:
        record: what is known of the version.
        root: a clone of the project; its git knows the commit, its DVC settings lead to the data.
        say: gets each line of what DVC and the stages tell.
        keep: a folder, not yet there, in which the worktree stays; None for a temporary one.

    Raises:
        TrackingError: the version is not whole in git, its data cannot be had, or a stage fails.
    """
    commit = _find_commit(record, root)
    with _ending_at_sigterm(), _worktree(root, commit, keep) as project:
        say(f"version {record.version} is made again from commit {commit[:SHORT_SHA]} in {project}")
        _bring_recipe(record, project)
        _bring_data(root, project, say)
        for stage in _read_stages(project):
            say(f"{stage}:")
            try:
                _run([sys.executable, "-m", f"segpipe.stages.{stage}"], project, _stage_variables(project), say)
            except TrackingError as error:
                found = compare(record, project)
                raise TrackingError(
                    f"version {record.version}: the stage {stage} cannot be run again: {error}\n{_list(found)}"
                ) from error
        rebuilt_sha256 = sha256_of_file(project / "build/model/weights.safetensors")
        metrics = _read_json(project / "build/evaluation/metrics.json")
        is_identical = rebuilt_sha256 == record.model["weights_sha256"]
        differences = compare(record, project)
        if not is_identical and not differences:
            what = "nothing that is recorded differs: this training has a source of chance that is not recorded"
            differences = (Difference("chance", what),)
        return Rebuilt(
            version=record.version,
            is_identical=is_identical,
            weights_sha256=record.model["weights_sha256"],
            rebuilt_sha256=rebuilt_sha256,
            differences=differences,
            mean_iou=float(record.tags.get(MEAN_IOU, "nan")),
            rebuilt_mean_iou=float(metrics["val"]["mean_iou"]),
            folder=keep,
        )


def _list(differences: Sequence[Difference]) -> str:
    if not differences:
        return "As far as it came, nothing that is recorded differs from the original."
    lines = [f"  {difference}" for difference in differences[:MAX_PROBLEMS_SHOWN]]
    if len(differences) > MAX_PROBLEMS_SHOWN:
        lines.append(f"  and {len(differences) - MAX_PROBLEMS_SHOWN} more")
    return "\n".join(["This differs from the original:", *lines])


# The commit and its worktree


def _find_commit(record: Record, root: Path) -> str:
    """Gives the commit that holds all that the version was made from.

    Raises:
        TrackingError: there is none, or not in this repository.
    """
    version, commit = record.version, record.tags.get(COMMIT, "")
    # The tag comes from the registry, where others write too: it must not become an option of git's.
    if not re.fullmatch(r"[0-9a-f]{40,64}", commit):
        raise TrackingError(
            f"version {version} names no commit (tag {COMMIT}: {commit!r}): it was trained outside git or not by "
            "segpipe, and cannot be rebuilt; train it again in a git repository"
        )
    if record.tags.get(DIRTY) == "true":
        raise TrackingError(
            f"version {version} was trained from changes to commit {commit[:SHORT_SHA]} that were not committed, and "
            f"cannot be rebuilt; {_where_changes_are(record, commit)}"
        )
    if not _succeeds(root, "rev-parse", "--git-dir"):
        raise TrackingError(f"{root.resolve()} is not in a git repository; run `rebuild` in a clone of the project")
    if not _has(root, commit):
        for arguments in (["--all", "--tags"], ["origin", commit]):
            _succeeds(root, "fetch", "--quiet", *arguments)
    if not _has(root, commit):
        raise TrackingError(
            f"version {version} was trained from commit {commit[:SHORT_SHA]}, which is neither in {root.resolve()} nor "
            "at its remotes; push it from the clone that has it, or run `rebuild` there"
        )
    return commit


def _where_changes_are(record: Record, commit: str) -> str:
    if (record.lineage_folder / PATCH).exists():
        return (
            f"its run keeps them as {LINEAGE}/{PATCH}: `git checkout {commit[:SHORT_SHA]}`, `git apply --index` that "
            "file, commit, and train again"
        )
    if (record.lineage_folder / NO_PATCH).exists():
        return (
            f"its run does not keep them either ({LINEAGE}/{NO_PATCH} says why): commit what there is and train again"
        )
    return "its run does not keep them either: commit what there is and train again"


def _succeeds(root: Path, *arguments: str) -> bool:
    variables = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    done = subprocess.run(["git", *arguments], cwd=root, env=variables, capture_output=True)
    return done.returncode == 0


def _has(root: Path, commit: str) -> bool:
    return _succeeds(root, "cat-file", "-e", f"{commit}^{{commit}}")


@contextlib.contextmanager
def _worktree(root: Path, commit: str, keep: Path | None) -> Iterator[Path]:
    """Checks a commit out into a folder of its own; gives the project in it."""
    if keep is not None and keep.exists():
        raise TrackingError(f"{keep} is already there; name another folder, or remove it")
    folder = keep.resolve() if keep else Path(tempfile.mkdtemp(prefix="segpipe-rebuild-")).resolve()
    try:
        # Hooks are the user's for his own work: DVC's, for one, would check data out.
        no_hooks = ["-c", f"core.hooksPath={os.devnull}"]
        add = ["git", *no_hooks, "worktree", "add", "--quiet", "--detach", str(folder), commit]
        done = subprocess.run(add, cwd=root, capture_output=True, text=True)
        if done.returncode != 0:
            raise TrackingError(f"git cannot check out {commit[:SHORT_SHA]} into {folder}: {done.stderr.strip()}")
        show = ["git", "rev-parse", "--show-prefix"]  # the project may lie below the repository's top
        below = subprocess.run(show, cwd=root, capture_output=True, text=True, check=True)
        yield folder / below.stdout.strip()
    finally:
        if keep is None:
            _succeeds(root, "worktree", "remove", "--force", str(folder))
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _ending_at_sigterm() -> Iterator[None]:
    """Lets SIGTERM end the work as an exception does, so that the worktree is removed."""

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


# What the worktree needs


def _bring_recipe(record: Record, project: Path) -> None:
    recipe = record.tags.get(RECIPE)
    if recipe is None:
        return
    file = project / "recipes" / f"{recipe}.yaml"
    if not re.fullmatch(r"[^/\\]+", recipe) or not file.is_file():
        raise TrackingError(
            f"version {record.version} was trained by a recipe that its commit does not have: recipes/{recipe}.yaml; "
            f"correct the version's tag {RECIPE}"
        )
    shutil.copyfile(file, project / PARAMS)


def _bring_data(root: Path, project: Path, say: Callable[[str], None]) -> None:
    """Brings what DVC's pointers name and git does not hold: from the remote, else from this clone's cache.

    The remote comes first, because it is what another machine would have. Nothing is verified on the way: a file that
    has changed there is to be found and named, not to be refused with its hash alone.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", "*.dvc"], cwd=project, capture_output=True, check=True, text=True
    )
    pointers = [name for name in listed.stdout.split("\0") if name and _is_outside_git(project / name)]
    if not pointers:
        return
    cache = _dvc(root, project, "cache", "dir")
    _write_dvc_settings(root, project, (root / cache).resolve())
    pull = [sys.executable, "-m", "dvc", "pull", "--force"]
    remotes = [["--remote", CLONE_REMOTE]]
    if _dvc(project, project, "config", "core.remote"):
        remotes.insert(0, [])
    failures = []
    for remote in remotes:
        try:
            _run([*pull, *remote, *pointers], project, _dvc_variables(project), say)
            return
        except TrackingError as error:
            failures.append(str(error))
    raise TrackingError(
        f"DVC brings the data of {', '.join(pointers)} neither from its remote nor from the cache of {root.resolve()}; "
        "`dvc push` them from a clone that has them. dvc pull: " + "\ndvc pull: ".join(failures)
    )


def _is_outside_git(pointer: Path) -> bool:
    return any(out.get("cache", True) for out in read_yaml(pointer).get("outs") or [])


def _write_dvc_settings(root: Path, project: Path, cache: Path) -> None:
    """Gives the worktree this clone's remotes with their secrets, and a cache of its own."""
    settings = _ConfigFile()
    for name in ("config", "config.local"):
        settings.read(root / ".dvc" / name, encoding="utf-8")
    for section in settings.sections():
        if not section.startswith("'remote "):
            if section != "core":
                settings.remove_section(section)
            continue
        settings[section]["verify"] = "false"
        for option, value in settings[section].items():
            if option in DVC_PATHS and not re.match(r"\w+://", value) and not value.startswith("~"):
                settings[section][option] = str((root / ".dvc" / value).resolve())
    settings.read_dict(
        {
            f"'remote \"{CLONE_REMOTE}\"'": {"url": str(cache)},
            "cache": {"dir": str(project / ".dvc/cache"), "type": '"reflink,hardlink,copy"'},
        }
    )
    with (project / ".dvc/config.local").open("w", encoding="utf-8") as file:
        settings.write(file)


class _ConfigFile(configparser.RawConfigParser):
    """As DVC writes it: names keep their case, `%` means nothing."""

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def _dvc(root: Path, project: Path, *arguments: str) -> str:
    """Asks DVC for a setting; '' where it is not set."""
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=root, env=_dvc_variables(project), capture_output=True, text=True)
    return done.stdout.strip()


def _dvc_variables(project: Path) -> dict[str, str]:
    # What DVC remembers of this worktree goes with it.
    return {**os.environ, "DVC_SITE_CACHE_DIR": str(project / ".dvc/tmp/site")}


def _read_stages(project: Path) -> list[str]:
    stages = list(read_yaml(project / "dvc.yaml").get("stages") or {})
    if FINAL_STAGE not in stages:
        raise TrackingError(f"dvc.yaml of the version's commit has no stage {FINAL_STAGE}: it cannot be run again")
    return stages[: stages.index(FINAL_STAGE) + 1]


def _stage_variables(project: Path) -> dict[str, str]:
    """Gives the stages' environment: the sources of the worktree, and no server that could take a run for new."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PREFECT", "GIT_"))
    }
    return {**inherited, "PYTHONPATH": str(project / "src"), "PYTHONUNBUFFERED": "1"}


def _run(command: Sequence[str], where: Path, variables: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Runs a command to its end; none is left however this process ends.

    Raises:
        TrackingError: it ended with an error; holds its last lines.
    """
    kept: collections.deque[str] = collections.deque(maxlen=NUM_LINES_KEPT)
    with subprocess.Popen(
        command,
        cwd=where,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if text := line.rstrip():
                    kept.append(text)
                    say(text)
            code = process.wait()
        finally:
            process.kill()  # nothing of it will be used
    if code != 0:
        raise TrackingError("\n".join([f"exit code {code}; its last lines:", *(f"  {line}" for line in kept)]))


# What differs


def compare(record: Record, project: Path) -> tuple[Difference, ...]:
    """Names all that is not as it was, as far as the stages have come in `project`."""
    there, here = record.model, _read_json(project / "build/model/model.json")
    differences = _compare_data(record, project, here)
    params_there = flatten(read_yaml(record.lineage_folder / PARAMS))
    params_here = flatten(read_yaml(project / PARAMS)) if params_there else {}
    if here:
        if here.get("code") != there.get("code"):
            what = "the training loaded other sources than those of the commit that the version names"
            differences.append(Difference("code", what))
        params_there |= flatten({"train": there["params"]["train"]})
        params_here |= flatten({"train": here["params"]["train"]})
        weights = (flatten(model["params"]["class_weights"]) for model in (there, here))
        differences += [Difference("class weights", what) for what in _changes(*weights).values()]
    differences += [Difference("params", what) for what in _changes(params_there, params_here).values()]
    environment = here["environment"] if here else _installed(there["environment"])
    for name, what in _changes(there["environment"], environment).items():
        differences.append(Difference(MACHINE_PARTS.get(name, "wheels"), what))
    return tuple(differences)


def _compare_data(record: Record, project: Path, model: Mapping[str, Any]) -> list[Difference]:
    """Compares the source file by file, and the data set that was made from it as a whole."""
    there, here = _read_json(record.lineage_folder / SOURCE), _read_json(project / "build/raw" / SOURCE)
    found = []
    if there and here:
        before, now = there["sha256"], here["sha256"]
        found += [f"{name}: missing" for name in before.keys() - now.keys()]
        found += [f"{name}: new" for name in now.keys() - before.keys()]
        for name in before.keys() & now.keys():
            if before[name] != now[name]:
                found.append(f"{name}: another content (sha256 {before[name]}, here {now[name]})")
        found.sort()
        found += [f"{key}: {there[key]}, here {here[key]}" for key in ("format", "classes") if there[key] != here[key]]
    if model and not found and model["dataset"] != record.model["dataset"]:
        known = "the source's files are the same" if there else "the source's files were not recorded"
        digests = f"digest {record.model['dataset']['digest']}, here {model['dataset']['digest']}"
        found.append(f"the data set has another content ({digests}); {known}")
    return [Difference("data", what) for what in found]


def _changes(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """Gives what differs by name, both values in words."""
    return {
        name: f"{name} {before.get(name, 'not there')}, here {now.get(name, 'not there')}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    }


def _installed(environment: Mapping[str, str]) -> dict[str, str]:
    """Gives an environment as far as it is known before a training: the versions of Python and the packages."""
    known = {**environment, "python": platform.python_version()}
    for name in environment.keys() - MACHINE_PARTS.keys() - {"python"}:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            del known[name]
            continue
        # torch says of itself for which CUDA it was built (2.0+cu130); its package may not.
        if version.partition("+")[0] != environment[name].partition("+")[0]:
            known[name] = version
    return known


def _read_json(path: Path) -> dict[str, Any]:
    """Reads a file that a stage wrote; gives nothing where none came so far."""
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return document
