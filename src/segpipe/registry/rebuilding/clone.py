"""A clone of its own for a version: its commit, the recipe that a retraining used, the data that DVC keeps.

Of the clone that it is made from nothing changes; the new one has its own DVC cache, and only reads from the other's.
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
    SHORT_SHA,
    DvcConfig,
    clone_at,
    dvc,
    git,
    is_commit,
    is_published,
    list_git,
    succeeds,
    tell_places,
)
from segpipe.registry.rebuilding.differences import Record
from segpipe.tracking.lineage import NO_PATCH, PATCH, read_yaml
from segpipe.tracking.run import LINEAGE
from segpipe.tracking.tags import GIT_COMMIT, GIT_DIRTY, RECIPE

CLONE_REMOTE = "segpipe-clone"
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
    version, commit = record.version, record.tags.get(GIT_COMMIT, "")
    if not is_commit(commit):
        raise TrackingError(
            f"version {version} names no commit (tag {GIT_COMMIT}: {commit!r}): it was trained outside git or not by "
            "segpipe, and cannot be rebuilt; train it again in a git repository"
        )
    if record.tags.get(GIT_DIRTY) == "true":
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
def open_clone(root: Path, commit: str, keep: Path | None) -> Iterator[Path]:
    """Checks a commit out into a clone of its own; gives the project in it.

    Raises:
        TrackingError: the place is taken, or git refuses.
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
    """Puts the recipe that a retraining used in the place of the commit's parameters."""
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
    """Brings what DVC's pointers name and git does not hold: from the remote, else from this clone's cache.

    The remote comes first, because it is what another machine would have. Nothing is verified on the way: a file that
    has changed there is to be found and named, not to be refused with its hash alone.

    Raises:
        TrackingError: the data are in neither.
    """
    pointers = [name for name in list_git(project, "ls-files", "--", "*.dvc") if _is_outside_git(project / name)]
    if not pointers:
        return
    # What DVC remembers of the new clone goes with it.
    variables = {"DVC_SITE_CACHE_DIR": str(project / ".dvc/tmp/site")}
    try:
        _write_dvc_settings(root, project, (root / dvc(root, "cache", "dir", variables=variables)).resolve())
    except CommandError as error:
        raise TrackingError(f"{root.resolve()}: DVC does not tell its cache; look at its settings: {error}") from error
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
        f"DVC brings the data of {', '.join(pointers)} neither from its remote nor from the cache of {root.resolve()}; "
        "`dvc push` them from a clone that has them. " + "\n".join(failures)
    )


def _is_outside_git(pointer: Path) -> bool:
    return any(out.get("cache", True) for out in read_yaml(pointer).get("outs") or [])


def _write_dvc_settings(root: Path, project: Path, cache: Path) -> None:
    """Gives the new clone this one's remotes with their secrets, and a cache of its own."""
    settings = DvcConfig(root)
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
