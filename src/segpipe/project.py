"""The only place that calls git and DVC for facts about the project; and a clone of it at a commit.

A commit is trusted if a branch or tag of the origin holds it. Commits come from a registry, and everyone who may write
to that can name any commit. People who may push to the origin's branches are trusted anyway: everyone trains with their
code.
"""

import configparser
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from segpipe.errors import CommandError

# No replaced objects, because only pushed commits are trusted; no change of the index by a mere question; no hooks,
# because they are for the user's own work (DVC's hook would check data out).
GIT = ("git", "--no-replace-objects", "--no-optional-locks", "-c", f"core.hooksPath={os.devnull}")
DVC = (sys.executable, "-m", "dvc")
ORIGIN = "origin"
FETCH_SECONDS = 120.0
SHORT_SHA = 12
# The options of DVC's remotes that are paths.
DVC_PATHS = {
    "url", "keyfile", "credentialpath", "configpath", "cert_path", "key_path",
    "gdrive_user_credentials_file", "gdrive_service_account_json_file_path",
}  # fmt: skip
REMOTE_SECTION = "'remote "


def git(
    root: Path, *arguments: str, variables: Mapping[str, str] | None = None, timeout_seconds: float | None = None
) -> str:
    """Runs git.

    Args:
        root: a folder of the clone.
        *arguments: of git.
        variables: added to the environment.
        timeout_seconds: after so long it is stopped.

    Returns:
        Git's output, without the space around it.

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
    """Runs git as `git` does, and gives its output unchanged."""
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
        raise CommandError(f"{what}: git cannot be started: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"{what}: took more than {timeout_seconds:g} s and was stopped") from error
    if done.returncode != 0:
        raise CommandError(f"{what}:", _lines(done.stderr))
    return done.stdout


def git_bytes_up_to(max_bytes: int, root: Path, *arguments: str, variables: Mapping[str, str] | None = None) -> bytes:
    """Runs git as `git_bytes` does, and stops it if it prints too much.

    Raises:
        CommandError: it prints more than `max_bytes`, or fails.
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
    """Gives git's output; '' where it fails or is not installed."""
    try:
        return git(root, *arguments, timeout_seconds=timeout_seconds)
    except CommandError:
        return ""


def list_git(root: Path, command: str, *arguments: str) -> tuple[str, ...]:
    """Gives the names that a command of git lists with `-z`; none where git fails or is not installed."""
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
    return {**os.environ, **(variables or {}), "GIT_TERMINAL_PROMPT": "0"}  # a stage has no user who could answer


def _lines(stderr: bytes) -> tuple[str, ...]:
    return tuple(stderr.decode(errors="replace").strip().splitlines())


# Commits


def is_commit(text: str) -> bool:
    """Whether a text is the full sha of a commit, and so neither an option of git nor another name."""
    return re.fullmatch(r"[0-9a-f]{40}(?:[0-9a-f]{24})?", text) is not None


def is_published(root: Path, commit: str) -> bool:
    """Whether a branch or tag of the origin holds a commit; of this clone, if it has no origin.

    Fetches from the origin if no branch that was fetched before holds it.

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


def describe_places(root: Path) -> str:
    """Gives the name of the place whose branches count, for messages."""
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
        folder: absolute; must not exist, or be empty.

    Raises:
        CommandError: with git's own message.
    """
    top = git(root, "rev-parse", "--show-toplevel")
    git(root, "clone", "--quiet", "--no-checkout", top, str(folder))
    if not succeeds(folder, "cat-file", "-e", f"{commit}^{{commit}}"):  # from a shallow clone git copies only branches
        git(folder, "fetch", "--quiet", top, commit)
    git(folder, "checkout", "--quiet", "--detach", commit)


# DVC


def dvc(root: Path, *arguments: str, variables: Mapping[str, str] | None = None) -> str:
    """Reads a setting of DVC.

    Raises:
        CommandError: with DVC's own message, for example that it is not set.
    """
    done = subprocess.run([*DVC, *arguments], cwd=root, env={**os.environ, **(variables or {})}, capture_output=True)
    if done.returncode != 0:
        raise CommandError(f"dvc {' '.join(arguments)} in {root}:", _lines(done.stderr))
    return os.fsdecode(done.stdout).strip()


class DvcConfig(configparser.RawConfigParser):
    """DVC's settings, read from its files: names keep their case, `%` has no meaning.

    Args:
        root: of the DVC project. Its files are read directly, because starting DVC takes half a second.
        local: of the project whose settings outside git are read instead of its own.
    """

    def __init__(self, root: Path, local: Path | None = None) -> None:
        super().__init__(strict=False)
        self.read([root / ".dvc/config", (local or root) / ".dvc/config.local"], encoding="utf-8")

    def resolve_remotes(self, root: Path) -> None:
        """Makes the paths of remotes absolute, so that another clone finds the same places.

        Args:
            root: of the project for which they were written: they are relative to the folder of its settings.
        """
        for section in self.sections():
            for option, value in self[section].items() if section.startswith(REMOTE_SECTION) else ():
                path = value.strip('"')  # DVC quotes a path with a comma
                if option in DVC_PATHS and not re.match(r"\w+://|~", path):
                    quote = value[: value.find(path)]
                    self[section][option] = f"{quote}{(root / '.dvc' / path).resolve()}{quote}"

    def optionxform(self, optionstr: str) -> str:
        """Gives a name unchanged."""
        return optionstr
