"""Which commits are trusted: those that a branch or tag of the origin holds.

A registry names commits, and whoever may write to it may name any. Whoever may push to the origin's branches is trusted
with this machine anyway: their code is what everyone trains with.
"""

import os
import re
import subprocess
from pathlib import Path

ORIGIN = "origin"
FETCH_SECONDS = 120.0


def is_commit(text: str) -> bool:
    """Whether a text is the whole name of a commit, and so no option of git's and no other name."""
    return re.fullmatch(r"[0-9a-f]{40}(?:[0-9a-f]{24})?", text) is not None


def succeeds(root: Path, *arguments: str) -> bool:
    """Whether a command of git succeeds."""
    return _git(root, *arguments) is not None


def is_published(root: Path, commit: str) -> bool:
    """Whether a branch or tag of the origin holds a commit; of this clone, where it has no origin.

    Asks the origin where the branches that were fetched so far do not hold it.

    Args:
        root: a folder of the clone.
        commit: as `is_commit` allows.
    """
    has_origin = succeeds(root, "config", "--get", f"remote.{ORIGIN}.url")
    places = [f"refs/remotes/{ORIGIN}" if has_origin else "refs/heads", "refs/tags"]
    if _is_held(root, commit, places):
        return True
    branches = f"+refs/heads/*:refs/remotes/{ORIGIN}/*"
    return (
        has_origin and succeeds(root, "fetch", "--quiet", "--tags", ORIGIN, branches) and _is_held(root, commit, places)
    )


def tell_places(root: Path) -> str:
    """Names the place whose branches count, for messages."""
    return f"its {ORIGIN}" if succeeds(root, "config", "--get", f"remote.{ORIGIN}.url") else "this clone"


def _is_held(root: Path, commit: str, places: list[str]) -> bool:
    return bool(_git(root, "for-each-ref", "--count=1", "--format=%(refname)", f"--contains={commit}", *places))


def _git(root: Path, *arguments: str) -> str | None:
    """Gives what a command of git prints; None where it fails."""
    variables = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}  # a stage has nobody who would answer
    # What a user has put in a commit's place for himself is not what others have pushed.
    command = ["git", "--no-replace-objects", *arguments]
    try:
        done = subprocess.run(
            command,
            cwd=root,
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=FETCH_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
