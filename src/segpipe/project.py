"""The project as git and DVC know it: both are asked here, and nowhere else; and a clone of it at a commit.

A commit is trusted where a branch or tag of the origin holds it. A registry names commits, and whoever may write to it
may name any. Whoever may push to the origin's branches is trusted with this machine anyway: their code is what everyone
trains with.
"""

import configparser
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from segpipe.errors import CommandError

# What a user has put in a commit's place for himself is not what others have pushed; to ask changes no index; and hooks
# are the user's for his own work: DVC's, for one, would check data out.
GIT = ("git", "--no-replace-objects", "--no-optional-locks", "-c", f"core.hooksPath={os.devnull}")
DVC = (sys.executable, "-m", "dvc")
ORIGIN = "origin"
FETCH_SECONDS = 120.0
SHORT_SHA = 12


def git(
    root: Path, *arguments: str, variables: Mapping[str, str] | None = None, timeout_seconds: float | None = None
) -> str:
    """Runs git.

    Args:
        root: a folder of the clone.
        *arguments: of git.
        variables: added to the environment.
        timeout_seconds: when to end it.

    Returns:
        What git prints, without the space around it.

    Raises:
        CommandError: with git's own message.
    """
    return os.fsdecode(git_bytes(root, *arguments, variables=variables, timeout_seconds=timeout_seconds)).strip()


def git_bytes(
    root: Path,
    *arguments: str,
    stdin: bytes = b"",
    variables: Mapping[str, str] | None = None,
    timeout_seconds: float | None = None,
) -> bytes:
    """Runs git as `git` does, and gives what it prints as it is."""
    what = f"git {' '.join(arguments)} in {root}"
    try:
        done = subprocess.run(
            [*GIT, *arguments],
            cwd=root,
            env=_environment(variables),
            input=stdin,
            capture_output=True,
            timeout=timeout_seconds,
        )
    except OSError as error:
        raise CommandError(f"{what}: cannot be run: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"{what}: took more than {timeout_seconds:g} s and was stopped") from error
    if done.returncode != 0:
        raise CommandError(f"{what}:", _lines(done.stderr))
    return done.stdout


def git_bytes_up_to(max_bytes: int, root: Path, *arguments: str, variables: Mapping[str, str] | None = None) -> bytes:
    """Runs git as `git_bytes` does, and ends it where it prints more than it may.

    Raises:
        CommandError: it prints more, or fails.
    """
    command = [*GIT, *arguments]
    with subprocess.Popen(
        command,
        cwd=root,
        env=_environment(variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        printed = process.stdout.read(max_bytes + 1)
        if len(printed) > max_bytes:
            process.kill()
            raise CommandError(f"git {arguments[0]} prints more than {max_bytes:,} bytes")
        if process.wait() != 0:
            raise CommandError(f"git {arguments[0]} ended with exit code {process.returncode}")
    return printed


def ask_git(root: Path, *arguments: str, timeout_seconds: float | None = None) -> str:
    """Gives what git prints; '' where it fails or there is none."""
    try:
        return git(root, *arguments, timeout_seconds=timeout_seconds)
    except CommandError:
        return ""


def list_git(root: Path, command: str, *arguments: str) -> tuple[str, ...]:
    """Gives what a command of git lists by `-z`; nothing where git fails or there is none."""
    try:
        printed = git_bytes(root, command, "-z", *arguments)
    except CommandError:
        return ()
    return tuple(os.fsdecode(name) for name in printed.split(b"\0") if name)


def succeeds(root: Path, *arguments: str, timeout_seconds: float | None = None) -> bool:
    """Whether a command of git succeeds."""
    try:
        git_bytes(root, *arguments, timeout_seconds=timeout_seconds)
    except CommandError:
        return False
    return True


def _environment(variables: Mapping[str, str] | None) -> dict[str, str]:
    return {**os.environ, **(variables or {}), "GIT_TERMINAL_PROMPT": "0"}  # a stage has nobody who would answer


def _lines(stderr: bytes) -> tuple[str, ...]:
    return tuple(stderr.decode(errors="replace").strip().splitlines())


# Commits


def is_commit(text: str) -> bool:
    """Whether a text is the whole name of a commit, and so no option of git's and no other name."""
    return re.fullmatch(r"[0-9a-f]{40}(?:[0-9a-f]{24})?", text) is not None


def is_published(root: Path, commit: str) -> bool:
    """Whether a branch or tag of the origin holds a commit; of this clone, where it has no origin.

    Asks the origin where the branches that were fetched so far do not hold it.

    Args:
        root: a folder of the clone.
        commit: as `is_commit` allows.
    """
    has_origin = _has_origin(root)
    places = [f"refs/remotes/{ORIGIN}" if has_origin else "refs/heads", "refs/tags"]
    if _is_held(root, commit, places):
        return True
    branches = f"+refs/heads/*:refs/remotes/{ORIGIN}/*"
    fetch = ["fetch", "--quiet", "--tags", ORIGIN, branches]
    is_fetched = has_origin and succeeds(root, *fetch, timeout_seconds=FETCH_SECONDS)
    return is_fetched and _is_held(root, commit, places)


def tell_places(root: Path) -> str:
    """Names the place whose branches count, for messages."""
    return f"its {ORIGIN}" if _has_origin(root) else "this clone"


def _has_origin(root: Path) -> bool:
    return succeeds(root, "config", "--get", f"remote.{ORIGIN}.url")


def _is_held(root: Path, commit: str, places: list[str]) -> bool:
    ask = ["for-each-ref", "--count=1", "--format=%(refname)", f"--contains={commit}", *places]
    return bool(ask_git(root, *ask, timeout_seconds=FETCH_SECONDS))


def clone_at(root: Path, commit: str, folder: Path) -> None:
    """Makes a clone of a clone, with a commit checked out and no branch.

    Args:
        root: a folder of the clone, which holds the commit.
        commit: as `is_commit` allows.
        folder: absolute; not yet there, or empty.

    Raises:
        CommandError: with git's own message.
    """
    top = git(root, "rev-parse", "--show-toplevel")
    git(root, "clone", "--quiet", "--no-checkout", top, str(folder))
    if not succeeds(folder, "cat-file", "-e", f"{commit}^{{commit}}"):  # of a shallow clone git copies branches alone
        git(folder, "fetch", "--quiet", top, commit)
    git(folder, "checkout", "--quiet", "--detach", commit)


# DVC


def dvc(root: Path, *arguments: str, variables: Mapping[str, str] | None = None) -> str:
    """Asks DVC for a setting.

    Raises:
        CommandError: with DVC's own message; it is not set, for example.
    """
    done = subprocess.run([*DVC, *arguments], cwd=root, env={**os.environ, **(variables or {})}, capture_output=True)
    if done.returncode != 0:
        raise CommandError(f"dvc {' '.join(arguments)} in {root}:", _lines(done.stderr))
    return os.fsdecode(done.stdout).strip()


class DvcConfig(configparser.RawConfigParser):
    """DVC's settings as DVC writes them: names keep their case, `%` means nothing.

    Args:
        root: of the DVC project; its own files are read, which takes no half second as asking DVC does.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(strict=False)
        self.read([root / ".dvc/config", root / ".dvc/config.local"], encoding="utf-8")

    def optionxform(self, optionstr: str) -> str:
        """Gives a name as it stands."""
        return optionstr
