"""Where a run came from: the git commit and the hashes that DVC has noted, as MLflow tags."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

MAX_TAG_CHARS = 5000


def lineage_tags(root: Path = Path()) -> dict[str, str]:
    """Gives the tags of a repository: commit, whether it has changes that are not committed, DVC's hashes.

    What is not there (no git, no DVC) is left out: training does not depend on it.
    """
    tags = {}
    if commit := _git(root, "rev-parse", "HEAD"):
        tags["segpipe.git_commit"] = commit
        # dvc.lock changes with each stage that has run: it says nothing about the sources.
        changes = _git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", ":!dvc.lock")
        tags["segpipe.git_dirty"] = str(bool(changes)).lower()
    for pointer in sorted(root.glob("*.dvc")):
        tags |= _hashes_of_outs(pointer)
    for stage in ("download", "preprocess", "class_weights"):
        tags |= _hashes_of_outs(root / "dvc.lock", "stages", stage)
    return {name: value[:MAX_TAG_CHARS] for name, value in tags.items()}


def environment_tags(environment: Mapping[str, str]) -> dict[str, str]:
    """Gives what the weights' bits depend on as tags."""
    return {f"segpipe.environment.{name}": value for name, value in environment.items()}


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def _hashes_of_outs(path: Path, *keys: str) -> dict[str, str]:
    """Gives the hashes of the outs below some keys of a file of DVC's; none where the file is missing or broken."""
    try:
        document = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
        for key in keys:
            document = document[key]
        return {f"segpipe.dvc.{out['path']}": str(out["md5"]) for out in document["outs"]}
    except (OSError, ValueError, YAMLError, KeyError, TypeError):
        return {}
