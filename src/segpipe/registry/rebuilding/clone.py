"""A new clone for the rebuild of a version: its commit, the recipe that a retraining used, the data that DVC keeps.

Nothing changes in the clone that it is made from. The new clone has its own DVC cache, and only reads the other cache.
"""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from segpipe.errors import CommandError, TrackingError
from segpipe.files import open_private
from segpipe.places import PARAMS_FILE, RECIPES
from segpipe.process import run
from segpipe.project import (
    DVC,
    REMOTE_SECTION,
    SHORT_SHA,
    DvcConfig,
    clone_at,
    describe_places,
    dvc,
    git,
    is_commit,
    is_published,
    list_git,
    succeeds,
)
from segpipe.registry.rebuilding.differences import Record
from segpipe.tracking.lineage import LINEAGE, NO_PATCH, PATCH, read_yaml
from segpipe.tracking.tags import GIT_COMMIT, GIT_DIRTY, RECIPE

CLONE_REMOTE = "segpipe-clone"


def find_commit(record: Record, root: Path) -> str:
    """Gives the commit that the version was trained from.

    Raises:
        TrackingError: there is none, the trained code was not committed, or this repository does not have the commit.
    """
    version, commit = record.version, record.tags.get(GIT_COMMIT, "")
    if not is_commit(commit):
        raise TrackingError(
            f"version {version} names no commit (tag {GIT_COMMIT}: {commit!r}), so it cannot be rebuilt: it was "
            "trained outside git or not by segpipe; train it again in a git repository"
        )
    if record.tags.get(GIT_DIRTY) == "true":
        raise TrackingError(
            f"version {version} was trained from commit {commit[:SHORT_SHA]} with changes that were not committed, so "
            f"it cannot be rebuilt; {_where_changes_are(record, commit)}"
        )
    if not succeeds(root, "rev-parse", "--git-dir"):
        raise TrackingError(f"{root.resolve()} is not in a git repository; run `rebuild` in a clone of the project")
    if not is_published(root, commit):
        raise TrackingError(
            f"version {version} was trained from commit {commit[:SHORT_SHA]}, and no branch or tag of "
            f"{describe_places(root)} holds it ({root.resolve()}). Everyone who may write to the registry could have "
            "named this commit, so it is not run. Review it, and push it to a branch from the clone that has it: "
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
        return f"its run does not keep the changes ({LINEAGE}/{NO_PATCH} says why): commit your files and train again"
    return "its run does not keep the changes: commit your files and train again"


@contextlib.contextmanager
def open_clone(root: Path, commit: str, keep: Path | None) -> Iterator[Path]:
    """Checks a commit out into a new clone; gives the project in it.

    Raises:
        TrackingError: the folder `keep` exists already, or git fails.
    """
    if keep is not None and keep.exists():
        raise TrackingError(f"{keep} is already there; name another folder, or remove it")
    folder = keep.resolve() if keep else Path(tempfile.mkdtemp(prefix="segpipe-rebuild-")).resolve()
    try:
        try:
            clone_at(root, commit, folder)
            below = git(root, "rev-parse", "--show-prefix")  # the project may lie below the repository's top
        except CommandError as error:
            raise TrackingError(f"git cannot check out {commit[:SHORT_SHA]} into {folder}: {error}") from error
        yield folder / below
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)


# What the clone needs


def bring_recipe(record: Record, project: Path) -> None:
    """Replaces the commit's parameters by the recipe that a retraining used."""
    recipe = record.tags.get(RECIPE)
    if recipe is None:
        return
    file = project / RECIPES / f"{recipe}.yaml"
    if not re.fullmatch(r"[^/\\]+", recipe) or not file.is_file():
        raise TrackingError(
            f"version {record.version} was trained by a recipe that its commit does not have: recipes/{recipe}.yaml; "
            f"correct the version's tag {RECIPE}"
        )
    shutil.copyfile(file, project / PARAMS_FILE)


def bring_data(root: Path, project: Path, say: Callable[[str], None]) -> None:
    """Brings the data that DVC's pointers name and git does not hold: from the remote, else from this clone's cache.

    The remote is tried first, because another machine would use it. DVC does not verify the files: a changed file is
    found by the comparison later, which names it, while DVC would refuse it with its hash alone.

    Raises:
        TrackingError: neither has the data.
    """
    pointers = [name for name in list_git(project, "ls-files", "--", "*.dvc") if _is_outside_git(project / name)]
    if not pointers:
        return
    # DVC's notes about the new clone are deleted with it.
    variables = {"DVC_SITE_CACHE_DIR": str(project / ".dvc/tmp/site")}
    try:
        _write_dvc_settings(root, project, (root / dvc(root, "cache", "dir", variables=variables)).resolve())
    except CommandError as error:
        raise TrackingError(
            f"{root.resolve()}: `dvc cache dir` fails; correct .dvc/config or .dvc/config.local: {error}"
        ) from error
    remotes = [["--remote", CLONE_REMOTE]]
    with contextlib.suppress(CommandError):  # no default remote is set
        if dvc(project, "config", "core.remote", variables=variables):
            remotes.insert(0, [])
    failures = []
    for remote in remotes:
        pull = [*DVC, "pull", "--force", *remote, *pointers]
        try:
            run(pull, cwd=project, env={**os.environ, **variables}, on_line=say, what="dvc pull")
            return
        except CommandError as error:
            failures.append(str(error))
    raise TrackingError(
        f"neither DVC's remote nor the cache of {root.resolve()} has the data of {', '.join(pointers)}; run `dvc push` "
        "in a clone that has them. " + "\n".join(failures)
    )


def _is_outside_git(pointer: Path) -> bool:
    return any(out.get("cache", True) for out in read_yaml(pointer).get("outs") or [])


def _write_dvc_settings(root: Path, project: Path, cache: Path) -> None:
    """Writes this clone's remotes with their secrets, and an own cache, into the new clone's settings."""
    settings = DvcConfig(root)
    for section in settings.sections():
        if section.startswith(REMOTE_SECTION):
            settings[section]["verify"] = "false"
        elif section != "core":
            settings.remove_section(section)
    settings.resolve_remotes(root)
    settings.read_dict(
        {
            f"'remote \"{CLONE_REMOTE}\"'": {"url": str(cache)},
            "cache": {"dir": str(project / ".dvc/cache"), "type": '"reflink,hardlink,copy"'},
        }
    )
    with open_private(project / ".dvc/config.local") as file:
        settings.write(file)
