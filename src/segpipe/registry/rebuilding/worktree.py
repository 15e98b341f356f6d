"""A worktree of its own for a version: its commit, the recipe that a retraining used, the data that DVC keeps.

Of the clone that it is made from nothing changes; the worktree has its own DVC cache, and only reads from the clone's.
"""

import collections
import configparser
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from segpipe.addresses import redact
from segpipe.errors import TrackingError
from segpipe.files import open_private
from segpipe.project import is_commit, is_published, succeeds, tell_places
from segpipe.registry.rebuilding.differences import Record
from segpipe.tracking.lineage import COMMIT, DIRTY, NO_PATCH, PARAMS, PATCH, RECIPE, read_yaml
from segpipe.tracking.run import LINEAGE

CLONE_REMOTE = "segpipe-clone"
NUM_LINES_KEPT = 20
SHORT_SHA = 12
# The options of DVC that are paths, relative to the folder of the file that holds them.
DVC_PATHS = {
    "url", "keyfile", "credentialpath", "configpath", "cert_path", "key_path",
    "gdrive_user_credentials_file", "gdrive_service_account_json_file_path",
}  # fmt: skip


def find_commit(record: Record, root: Path) -> str:
    """Gives the commit that holds all that the version was made from.

    Raises:
        TrackingError: there is none, or not in this repository.
    """
    version, commit = record.version, record.tags.get(COMMIT, "")
    if not is_commit(commit):
        raise TrackingError(
            f"version {version} names no commit (tag {COMMIT}: {commit!r}): it was trained outside git or not by "
            "segpipe, and cannot be rebuilt; train it again in a git repository"
        )
    if record.tags.get(DIRTY) == "true":
        raise TrackingError(
            f"version {version} was trained from changes to commit {commit[:SHORT_SHA]} that were not committed, and "
            f"cannot be rebuilt; {_where_changes_are(record, commit)}"
        )
    if not succeeds(root, "rev-parse", "--git-dir"):
        raise TrackingError(f"{root.resolve()} is not in a git repository; run `rebuild` in a clone of the project")
    if not is_published(root, commit):
        raise TrackingError(
            f"version {version} was trained from commit {commit[:SHORT_SHA]}, and no branch or tag of "
            f"{tell_places(root)} holds it ({root.resolve()}): whoever writes to the registry could have named it. "
            "Look at it, and push it to a branch from the clone that has it: "
            f"`git push origin {commit[:SHORT_SHA]}:refs/heads/NAME`"
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


@contextlib.contextmanager
def open_worktree(root: Path, commit: str, keep: Path | None) -> Iterator[Path]:
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
            succeeds(root, "worktree", "remove", "--force", str(folder))
            shutil.rmtree(folder, ignore_errors=True)


# What the worktree needs


def bring_recipe(record: Record, project: Path) -> None:
    """Puts the recipe that a retraining used in the place of the commit's parameters."""
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


def bring_data(root: Path, project: Path, say: Callable[[str], None]) -> None:
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
            run_command([*pull, *remote, *pointers], project, _dvc_variables(project), say)
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
    with open_private(project / ".dvc/config.local") as file:
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


def run_command(command: Sequence[str], where: Path, variables: Mapping[str, str], say: Callable[[str], None]) -> None:
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
                if text := redact(line.rstrip()):
                    kept.append(text)
                    say(text)
            code = process.wait()
        finally:
            process.kill()  # nothing of it will be used
    if code != 0:
        raise TrackingError("\n".join([f"exit code {code}; its last lines:", *(f"  {line}" for line in kept)]))
