"""The clone for a revision: this clone for 'current', a new one for any other revision.

A revision's clone lies in `clones/` of this clone and shares its DVC cache, so nothing is computed twice. It has its
own sources, parameters, outs, checkpoints and locks, so two retrainings never write to one output.
"""

import contextlib
import filecmp
import math
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from filelock import FileLock, Timeout

from pipelines.errors import PipelineError
from pipelines.graph import read_dependencies
from segpipe.errors import CommandError
from segpipe.files import open_private, whole_file
from segpipe.places import CLONES, LOCK_FILE, LOCKS, MLFLOW_STORE, PARAMS_FILE, RECIPES, RESULT_FILES
from segpipe.process import run
from segpipe.project import SHORT_SHA, DvcConfig, ask_git, clone_at, dvc, git, list_git, succeeds

CURRENT = "current"
HOME = Path(__file__).resolve().parents[1]
MAX_CLONES = 5
RETRAIN_LOCK = LOCKS / "retrain.lock"
RETRAIN_POLL_SECONDS = 5.0
RESULTS = "Results of "


@dataclass(frozen=True)
class Revision:
    """A revision and a recipe to train, the same on every machine.

    Attributes:
        name: from the user: 'current', a branch, a tag, a commit.
        sha: the commit; for 'current' the one that is checked out.
        recipe: replaces `params.yaml`; None for the revision's own.
        changes: for 'current', the files that differ from the commit, without results: no other machine has them.
    """

    name: str
    sha: str
    recipe: str | None = None
    changes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """A short name, for the names of runs."""
        recipe = f" {self.recipe}" if self.recipe else ""
        return f"{self.sha[:SHORT_SHA]}{'+changes' if self.changes else ''}{recipe}"

    @property
    def is_here(self) -> bool:
        """Whether this clone itself is used."""
        return self.name == CURRENT and self.recipe is None


def identity() -> str:
    """Gives a name that identifies this clone among all clones on all machines."""
    return f"{socket.gethostname()}:{HOME}"


def find_revision(name: str, recipe: str | None) -> Revision:
    """Finds a commit by its name, here or at the clone's origin.

    Raises:
        PipelineError: there is no such revision, or it has no such recipe.
    """
    if name == CURRENT:
        sha = git(HOME, "rev-parse", "HEAD")
        status = git(
            HOME, "status", "--porcelain", "--untracked-files=all", "--", ".", *(f":!{name}" for name in RESULT_FILES)
        )
        changes = tuple(line.split(maxsplit=1)[1] for line in status.splitlines())
        if recipe and changes:
            raise PipelineError(
                f"a recipe is run on a commit, but {HOME} has changes that are not committed: {_few(changes)}; "
                "commit them, or leave the recipe out"
            )
    else:
        sha, changes = _fetch_commit(name), ()
    if recipe:
        known = sorted(_recipes(sha))
        if recipe not in known:
            raise PipelineError(
                f"{RECIPES}/{recipe}.yaml is not in {sha[:SHORT_SHA]}; its recipes are {', '.join(known)}"
            )
    return Revision(name, sha, recipe, changes)


def _recipes(sha: str) -> set[str]:
    files = list_git(HOME, "ls-tree", "--name-only", sha, f"{RECIPES}/")
    return {Path(file).stem for file in files if file.endswith(".yaml")}


def _fetch_commit(name: str) -> str:
    # A branch that was pushed is newer at the origin than the local branch of that name.
    with contextlib.suppress(CommandError):
        git(HOME, "fetch", "--quiet", "--tags", "origin")
    for candidate in [name] if name == "HEAD" else [f"refs/remotes/origin/{name}", name]:
        with contextlib.suppress(CommandError):
            return git(HOME, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{candidate}^{{commit}}")
    branches = git(HOME, "for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/remotes").splitlines()
    raise PipelineError(
        f"revision {name!r} is neither in {HOME} nor at its origin; push it, or use one of {_few(branches)}, "
        f"a commit, or {CURRENT!r}"
    )


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


@dataclass(frozen=True)
class Workspace:
    """A clone at its revision.

    Attributes:
        root: its folder.
        bin: the programs of its virtual environment.
        remote: DVC's default remote; None where none is set.
    """

    root: Path
    bin: Path
    remote: str | None

    def environment(self, allowed_stage: str) -> dict[str, str]:
        """Gives the environment of a command of the pipeline.

        Args:
            allowed_stage: the only stage that DVC may run; '' for none.
        """
        # PREFECT__* would tell a stage that it is inside a flow run.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
        inherited.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{HOME / MLFLOW_STORE}")
        return {
            **inherited,
            "PATH": f"{self.bin}{os.pathsep}{inherited.get('PATH', os.defpath)}",
            "PYTHONPATH": str(self.root / "src"),
            "PYTHONUNBUFFERED": "1",
            "SHELL": str(Path(__file__).with_name("only_stage.sh")),
            "SEGPIPE_STAGE": allowed_stage,
        }

    @contextlib.contextmanager
    def alone(self, on_line: Callable[[str], None]) -> Iterator[None]:
        """Holds the lock on retraining here; waits for another retraining to end."""
        (self.root / LOCKS).mkdir(exist_ok=True)
        lock = FileLock(self.root / RETRAIN_LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            on_line(f"another retraining is running in {self.root}; waiting for its end")
            lock.acquire(poll_interval=RETRAIN_POLL_SECONDS)
        try:
            yield
        finally:
            lock.release()


def open_workspace(revision: Revision, on_line: Callable[[str], None]) -> Workspace:
    """Gives the clone for a revision; makes it if there is none yet.

    Raises:
        PipelineError: the revision is not found, or is too old.
    """
    if revision.is_here:
        return Workspace(HOME, HOME / ".venv/bin", _default_remote(HOME))
    root = HOME / CLONES / _name_of_clone(revision)
    root.parent.mkdir(exist_ok=True)
    # Retrainings of one revision would otherwise set up one environment at the same time.
    with FileLock(_opening_lock(root)):
        if not root.exists():
            _remove_old_clones(root.parent)
            part = _clear_part(root)
            _make_clone(part, revision, on_line)
            part.rename(root)
        os.utime(root)  # `_remove_old_clones` keeps the clones that were used last
        _bring_dvc_settings(root)
        # A commit is published there if it is published here: the clone gets the branches of this clone's origin.
        with contextlib.suppress(CommandError):
            git(root, "fetch", "--quiet", str(HOME), "+refs/remotes/origin/*:refs/remotes/origin/*")
        return Workspace(root, _set_up(root, revision, on_line), _default_remote(root))


def _name_of_clone(revision: Revision) -> str:
    """Gives the name of a revision's clone; no two recipes have the same one."""
    sha, recipe = revision.sha[:SHORT_SHA], revision.recipe
    if recipe is None:
        return sha
    plain = re.sub(r"[^\w.-]", "_", recipe)
    return f"{sha}-{plain}" if plain == recipe else f"{sha}-{plain}-{sha256(recipe.encode()).hexdigest()[:SHORT_SHA]}"


def _opening_lock(root: Path) -> Path:
    return root.with_name(f"{root.name}.lock")


def _make_clone(root: Path, revision: Revision, on_line: Callable[[str], None]) -> None:
    on_line(f"making a clone of {revision.label}")
    if not succeeds(HOME, "cat-file", "-e", f"{revision.sha}^{{commit}}"):
        _fetch_commit(revision.sha)
    clone_at(HOME, revision.sha, root)
    if revision.recipe:
        shutil.copyfile(root / RECIPES / f"{revision.recipe}.yaml", root / PARAMS_FILE)


def _bring_dvc_settings(root: Path) -> None:
    """Gives a clone this clone's DVC cache, and its remotes with the passwords of today, which are not in git."""
    local = root / ".dvc/config.local"
    cache = DvcConfig(root).get("cache", "dir", fallback="") if local.exists() else ""  # starting DVC takes long
    settings = DvcConfig(root, local=HOME)
    settings.resolve_remotes(HOME)
    settings.read_dict({"cache": {"dir": cache or str((HOME / dvc(HOME, "cache", "dir")).resolve())}})
    with whole_file(local) as temporary, open_private(temporary) as file:
        settings.write(file)


def _set_up(root: Path, revision: Revision, on_line: Callable[[str], None]) -> Path:
    """Gives the folder of the programs of the environment that a clone needs; makes one if it needs other packages."""
    if not (root / "requirements.lock").exists():
        raise PipelineError(f"{revision.label} has no requirements.lock, so it cannot be run; use a newer revision")
    if filecmp.cmp(HOME / "requirements.lock", root / "requirements.lock", shallow=False):
        return HOME / ".venv/bin"
    on_line("the revision needs other packages than this clone; setting up its own environment")
    run(["make", "setup"], cwd=root, env=dict(os.environ), on_line=on_line, what=f"make setup in {root}")
    return root / ".venv/bin"


def _remove_old_clones(folder: Path) -> None:
    with FileLock(folder / "removal.lock"):  # two that delete one clone would fail
        clones = sorted((path for path in folder.iterdir() if path.is_dir()), key=_last_use)
        for clone in clones[: max(0, len(clones) - MAX_CLONES + 1)]:
            # A clone that is in use stays: it is being opened, or its retraining holds the lock.
            with (
                contextlib.suppress(Timeout),
                FileLock(_opening_lock(clone), timeout=0),
                FileLock(clone / RETRAIN_LOCK, timeout=0),
            ):
                # Under this name what a kill leaves of it is taken for no clone.
                shutil.rmtree(clone.rename(_clear_part(clone)))


def _clear_part(clone: Path) -> Path:
    """Gives the free place of a clone that is not whole."""
    part = clone.with_name(f".{clone.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    return part


def _last_use(clone: Path) -> float:
    """Gives a time in seconds since 1970."""
    try:
        return clone.stat().st_mtime
    except FileNotFoundError:  # finished just now, so it has another name
        return math.inf


def _default_remote(root: Path) -> str | None:
    """Reads the remote that DVC uses when none is named."""
    return DvcConfig(root).get("core", "remote", fallback=None)


def check_branch(revision: Revision, branch: str) -> None:
    """Checks before a retraining that its results can be committed to a branch.

    Raises:
        PipelineError: files are not committed, or the branch cannot get a commit on top of the revision.
    """
    problem = None
    if not succeeds(HOME, "check-ref-format", f"refs/heads/{branch}"):
        problem = "that is no valid name of a branch"
    elif revision.changes:
        problem = f"{_few(revision.changes)} in {HOME} are not committed; commit them, or leave commit_to out"
    elif git(HOME, "rev-parse", "--abbrev-ref", "HEAD") == branch:
        problem = f"it is checked out in {HOME}; use another branch"
    elif others := _branches_in_the_way(branch):
        problem = f"git cannot keep it next to {_few(others)}; use another branch"
    elif _has_commits_of_others(revision, branch):
        problem = f"it has commits that {revision.sha[:SHORT_SHA]} does not contain; use another branch"
    if problem:
        raise PipelineError(f"dvc.lock cannot be committed to branch {branch!r}: {problem}")


def _tip(branch: str) -> str:
    """Gives the commit of a branch of this clone; '' where there is no such branch."""
    return ask_git(HOME, "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}")


def _branches_in_the_way(branch: str) -> list[str]:
    """Gives the branches of which this name is a folder, or that are a folder of it: git keeps a branch as a file."""
    known = git(HOME, "for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads").splitlines()
    return [other for other in known if other.startswith(f"{branch}/") or branch.startswith(f"{other}/")]


def _is_behind(tip: str, revision: Revision) -> bool:
    return not tip or succeeds(HOME, "merge-base", "--is-ancestor", tip, revision.sha)


def _has_commits_of_others(revision: Revision, branch: str) -> bool:
    tip = _tip(branch)
    return not _is_behind(tip, revision) and not git(HOME, "log", "-1", "--format=%s", tip).startswith(RESULTS)


def commit_lock(root: Path, revision: Revision, branch: str) -> str | None:
    """Commits the results (and a recipe's `params.yaml`) on top of the revision, to a branch of this clone.

    Nothing is checked out: neither the user's working tree nor the user's index changes. If the branch holds results of
    an earlier revision, the commit has both as parents and the files of the revision.

    Returns:
        The commit, or None where the revision or the branch already holds this `dvc.lock`.

    Raises:
        CommandError: the branch has changed since `check_branch`.
        PipelineError: in this clone, files that the results depend on differ from the revision: they are not of it.
    """
    if changed := _changed_dependencies(root, revision):
        raise PipelineError(
            f"{_few(changed)} in {root} were changed during the retraining, so its results are not those of "
            f"{revision.label}, and {LOCK_FILE} is not committed to branch {branch!r}; commit the files, and start the "
            "retraining again"
        )
    index_file = (root / LOCKS / "commit-index").resolve()
    index = {"GIT_INDEX_FILE": str(index_file)}
    git(root, "read-tree", revision.sha, variables=index)
    written = [name for name in RESULT_FILES if (root / name).exists()]  # an old revision writes no metrics.json
    git(root, "add", *written, *([PARAMS_FILE.name] if revision.recipe else []), variables=index)
    tree = git(root, "write-tree", variables=index)
    index_file.unlink()
    if tree == git(root, "rev-parse", f"{revision.sha}^{{tree}}"):
        return None
    tip = _tip(branch)
    if tip and git(HOME, "rev-parse", f"{tip}^{{tree}}") == tree:
        return None
    parents = ["-p", revision.sha] if _is_behind(tip, revision) else ["-p", tip, "-p", revision.sha]
    if tip:
        git(root, "fetch", "--quiet", str(HOME), tip)  # the revision's clone may be older
    commit = git(root, "commit-tree", tree, *parents, "-m", f"{RESULTS}{revision.label}")
    git(root, "push", "--quiet", str(HOME), f"{commit}:refs/heads/{branch}")
    return commit


def _changed_dependencies(root: Path, revision: Revision) -> list[str]:
    """Gives the files of a revision that its results depend on and that are others here."""
    paths = read_dependencies(root) if revision.is_here else []
    return list(list_git(root, "diff", "--name-only", revision.sha, "--", *paths)) if paths else []
