"""The lineage of a run, complete enough to train it again: as MLflow tags, and as files that are kept with the run.

The tags name the commit, the recipe, the device and the lock: what people search by. All of DVC's hashes and the
environment are in one file, `lineage.json`. The other files are the parameters, DVC's lock and pointers, and the
description of the data; changes that were not committed are kept as a patch.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from segpipe.addresses import redact
from segpipe.data.store import MANIFEST
from segpipe.documents import Document
from segpipe.errors import CommandError
from segpipe.places import (
    DATASET,
    LOCK_FILE,
    PARAMS_FILE,
    RECIPES,
    REPORT_FILE,
    RESULT_FILES,
    SOURCE_FILE,
)
from segpipe.project import ask_git, git_bytes, git_bytes_up_to, list_git
from segpipe.tracking.default_store import current_experiment
from segpipe.tracking.tags import (
    DVC_LOCK_SHA256,
    DVC_PREFIX,
    ENVIRONMENT_PREFIX,
    EXPERIMENT,
    GIT_COMMIT,
    GIT_DIRTY,
    RECIPE,
    tags_below,
)

LINEAGE = "lineage"  # a folder of a run's files
LINEAGE_FILE = "lineage.json"
PATCH, NO_PATCH = "uncommitted.patch", "uncommitted.txt"

# `git apply` ignores this text, because it stands before the first file.
REDACTED = (
    b"Users, passwords and queries were removed from the addresses in this patch: lines that held one cannot be\n"
    b"applied as they are.\n\n"
)

DEVICE = "device"  # the part of the environment that people search by
MAX_TAG_CHARS = 5000
MAX_PATCH_BYTES = 10_000_000
NUM_CHANGES_SHOWN = 1000
# The stages whose outs the training reads, and the last one, whose out holds the decision of this clone's registry.
DATA_STAGES, LAST_STAGE = ("download", "preprocess", "class_weights"), "register"
WITHOUT_RESULTS = (".", *(f":!{name}" for name in RESULT_FILES))
# An untracked file in these places can decide a result: it is imported, chosen by name, or names data.
DECISIVE_PLACES = ("src", RECIPES.name, "*.dvc")


def lineage_tags(root: Path = Path()) -> dict[str, str]:
    """Gives the tags of a repository: commit, recipe, whether it has changes that are not committed, DVC's hashes.

    A `params.yaml` that is one of the commit's recipes does not count as a change: `segpipe.recipe` names the recipe.
    `segpipe.experiment` names the DVC experiment, where it is one.

    Without git or DVC, their tags are left out: training does not need them.
    """
    experiment = current_experiment()
    tags = {EXPERIMENT: experiment} if experiment else {}
    if commit := ask_git(root, "rev-parse", "HEAD"):
        changes = _find_changes(root)
        tags[GIT_COMMIT] = commit
        tags[GIT_DIRTY] = str(changes.is_dirty).lower()
        if changes.recipe:
            tags[RECIPE] = changes.recipe
    for pointer in _find_pointers(root):
        tags |= _hashes_of_outs(read_yaml(root / pointer))
    stages = read_yaml(root / LOCK_FILE).get("stages")
    if isinstance(stages, dict):
        for stage in DATA_STAGES:
            tags |= _hashes_of_outs(stages.get(stage))
        entries = {name: entry for name, entry in stages.items() if name != LAST_STAGE}
        tags[DVC_LOCK_SHA256] = hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()
    return {name: value[:MAX_TAG_CHARS] for name, value in tags.items()}


def lineage_files(root: Path = Path()) -> dict[str, bytes]:
    """Gives the files of `lineage/`, by name: parameters, DVC's lock and pointers, the description of the data.

    Where files differ from the commit there is also `uncommitted.patch`, for `git apply` on that commit; a patch of
    more than 10 MB is not kept, and `uncommitted.txt` says so. Missing files are left out. Secrets in addresses are
    removed, in a patch too.
    """
    written = {name: root / name for name in (PARAMS_FILE.name, LOCK_FILE.name, *_find_pointers(root))}
    made = {name: root / DATASET / name for name in (SOURCE_FILE, MANIFEST, REPORT_FILE)}
    files = {name: path.read_bytes() for name, path in (written | made).items() if path.is_file()}
    files |= {name: _redact_bytes(files[name]) for name in written.keys() & files.keys()}
    changes = _find_changes(root)
    if changes.is_dirty:
        try:
            patch = _make_patch(root, changes.untracked)
            shown = _redact_bytes(patch)
            files[PATCH] = shown if shown == patch else REDACTED + shown
        except CommandError as error:
            names = sorted([*changes.tracked, *changes.untracked])
            more = [f"and {len(names) - NUM_CHANGES_SHOWN} more"] if len(names) > NUM_CHANGES_SHOWN else []
            head = f"The uncommitted changes are not kept: {error}. These files were changed:"
            files[NO_PATCH] = "\n".join([head, *names[:NUM_CHANGES_SHOWN], *more, ""]).encode()
    return files


def _redact_bytes(content: bytes) -> bytes:
    # surrogateescape: bytes that are no text stay as they are.
    return redact(content.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def environment_tags(environment: Mapping[str, str]) -> dict[str, str]:
    """Gives the environment, on which the bits of the weights depend, as tags."""
    return {f"{ENVIRONMENT_PREFIX}{name}": value for name, value in environment.items()}


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a mapping; gives an empty one where the file is missing or broken."""
    try:
        document = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, YAMLError):
        return {}
    return document if isinstance(document, dict) else {}


@dataclass(frozen=True, kw_only=True)
class RunLineage(Document):
    """`lineage/lineage.json` of a run: what would be too many tags.

    Attributes:
        data: the hashes by which DVC names the inputs and outs, by path.
        environment: versions of packages and properties of the machine.
    """

    data: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def of(tags: Mapping[str, str]) -> "RunLineage":
        """Collects it from tags, as runs of earlier releases have all of them."""
        return RunLineage(data=tags_below(tags, DVC_PREFIX), environment=tags_below(tags, ENVIRONMENT_PREFIX))

    def to_tags(self) -> dict[str, str]:
        """Gives it as the tags of earlier releases."""
        hashes = {f"{DVC_PREFIX}{path}": value for path, value in self.data.items()}
        return {**hashes, **environment_tags(self.environment)}


def searched_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Gives the tags that a run gets of all its lineage: not the many that are in `lineage.json`."""
    kept = f"{ENVIRONMENT_PREFIX}{DEVICE}"
    return {n: value for n, value in tags.items() if n == kept or not n.startswith((DVC_PREFIX, ENVIRONMENT_PREFIX))}


@dataclass(frozen=True)
class _Changes:
    """How a working tree differs from its commit.

    Attributes:
        tracked: changed, added and removed files; without `RESULT_FILES`, which each stage that has run changes, and
            without a `params.yaml` that is a recipe.
        untracked: new files that could decide a result.
        recipe: the recipe whose text `params.yaml` has, if it differs from the commit's `params.yaml`.
    """

    tracked: tuple[str, ...]
    untracked: tuple[str, ...]
    recipe: str | None

    @property
    def is_dirty(self) -> bool:
        return bool(self.tracked or self.untracked)


def _find_changes(root: Path) -> _Changes:
    tracked = list_git(root, "diff", "--name-only", "--no-renames", "--relative", "HEAD", "--", *WITHOUT_RESULTS)
    untracked = list_git(root, "ls-files", "--others", "--exclude-standard", "--", *DECISIVE_PLACES)
    recipe = _find_recipe(root) if PARAMS_FILE.name in tracked else None
    if recipe:
        tracked = tuple(name for name in tracked if name != PARAMS_FILE.name)
    return _Changes(tracked, untracked, recipe)


def _find_recipe(root: Path) -> str | None:
    """Gives the name of the commit's recipe that `params.yaml` is equal to."""
    blob = ask_git(root, "hash-object", PARAMS_FILE.name)
    for line in list_git(root, "ls-tree", "HEAD", f"{RECIPES}/"):
        described, _, path = line.partition("\t")
        if blob and described.split()[-1] == blob and path.endswith(".yaml"):
            return Path(path).stem
    return None


def _find_pointers(root: Path) -> tuple[str, ...]:
    """Gives DVC's pointer files; without git, only those directly in `root`."""
    listed = list_git(root, "ls-files", "--cached", "--others", "--exclude-standard", "--", "*.dvc")
    found = listed or tuple(path.name for path in root.glob("*.dvc"))
    return tuple(sorted({name for name in found if (root / name).is_file()}))


def _make_patch(root: Path, untracked: tuple[str, ...]) -> bytes:
    """Gives the difference to the commit, new files included.

    Raises:
        CommandError: it is longer than `MAX_PATCH_BYTES`, or git fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        # New files are added to a copy of the index, so that the user's index does not change.
        index = Path(folder) / "index"
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(root / ask_git(root, "rev-parse", "--git-path", "index"), index)
        variables = {"GIT_INDEX_FILE": str(index)}
        if untracked:
            announce = [
                "--literal-pathspecs",
                "add",
                "--intent-to-add",
                "--pathspec-from-file=-",
                "--pathspec-file-nul",
            ]
            names = b"\0".join(os.fsencode(name) for name in untracked)
            git_bytes(root, *announce, stdin=names, variables=variables)
        # Explicit, because a user's git may have colours, other prefixes or own programs in its settings.
        options = ["--binary", "--no-renames", "--no-color", "--no-ext-diff", "--no-textconv"]
        options += ["--src-prefix=a/", "--dst-prefix=b/"]
        diff = ["diff", *options, "HEAD", "--", *WITHOUT_RESULTS]
        return git_bytes_up_to(MAX_PATCH_BYTES, root, *diff, variables=variables)


def _hashes_of_outs(entry: Any) -> dict[str, str]:
    """Gives the hashes of the outs in a pointer, or in a stage's entry of the lock file."""
    try:
        return {f"{DVC_PREFIX}{out['path']}": str(out["md5"]) for out in entry["outs"]}
    except (KeyError, TypeError):
        return {}
