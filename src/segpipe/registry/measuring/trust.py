"""Chooses the code that runs a registered model: this package, a published commit, or, if a person allows it, its own.

MLflow loads a model by executing the Python files in its folder, so everyone who may write to the registry could run
code on every machine that measures a model. But a model of ours is weights and a description, and its code is a copy of
sources that we have. So these sources run it, after they were compared with the copy byte for byte. Python files of the
registry are imported only if a person allows it.
"""

import io
import json
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities.model_registry import ModelVersion

from segpipe.code import PACKAGE
from segpipe.errors import CommandError, IncomparableError
from segpipe.places import MODEL_FILE, WEIGHTS_FILE
from segpipe.project import describe_places, git_bytes, is_commit, is_published
from segpipe.tracking.tags import GIT_COMMIT

# In a model's folder, as `publish` writes it.
FILES, COPIED_PACKAGE = Path("artifacts/model"), Path("code/segpipe")
# The files of the package that turn an image into a mask, in addition to the model's own file.
PREDICTING = (
    "choices.py",
    "classes.py",
    "documents.py",
    "config/evaluate.py",
    "inference/crf.py",
    "inference/device.py",
    "inference/instructions.py",
    "inference/lattice.py",
    "inference/logits.py",
    "inference/network.py",
    "inference/predictor.py",
    "inference/tiles.py",
    "models/__init__.py",
)
PREDICTING_FOLDER = "models/parts/"
LOADER = "served_model.py"  # the file that MLflow runs


@dataclass(frozen=True)
class Runnable:
    """A model, and the code that may run it.

    Attributes:
        model: folder of a downloaded MLflow model; with `sources` any folder that holds `model.json` and its weights.
        sources: folder that holds the package `segpipe`; None where the model brings its own code.
        is_export: whether `model` is the folder of an export; `sources` then only start what computes it.
    """

    model: Path
    sources: Path | None = None
    is_export: bool = False


def by_this_package(files: Path) -> Runnable:
    """Gives a model in a folder of `model.json` and weights, run by today's code."""
    return Runnable(files, PACKAGE.parent)


def by_export(folder: Path) -> Runnable:
    """Gives an export, which holds no Python code, loaded by today's code."""
    return Runnable(folder, PACKAGE.parent, is_export=True)


def find_code(version: ModelVersion, model: Path, place: Path, root: Path, is_trusted: bool) -> Runnable:
    """Finds trusted code that is equal to the code that a version was registered with.

    Args:
        version: of the registry.
        model: its downloaded files.
        place: a folder for the sources of a commit; must not exist.
        root: a clone of the project.
        is_trusted: whether a person allows the model's own code to run if no trusted code is equal to it.

    Raises:
        IncomparableError: no trusted code is equal to it, and its own code is not allowed to run.
    """
    files = model / FILES
    name = _read_model_name(files)
    if name is not None:
        today = by_this_package(files)
        if today.sources is not None and _is_same(model / COPIED_PACKAGE, today.sources / "segpipe", name):
            return today
        commit = version.tags.get(GIT_COMMIT, "")
        if is_commit(commit) and is_published(root, commit) and _unpack_commit(root, commit, place):
            for package in place.rglob("segpipe"):
                if _is_same(model / COPIED_PACKAGE, package, name):
                    return Runnable(files, package.parent)
    if is_trusted:
        return Runnable(model)
    raise IncomparableError(_explain(version, root))


def _read_model_name(files: Path) -> str | None:
    """Gives the name of the network in `model.json`; None where the model has another format."""
    try:
        name = json.loads((files / MODEL_FILE).read_text(encoding="utf-8"))["model"]["name"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    is_name = isinstance(name, str) and re.fullmatch(r"\w+", name) is not None
    return name if is_name and (files / WEIGHTS_FILE).is_file() else None


def _is_same(copy: Path, package: Path, model_name: str) -> bool:
    """Whether two packages have equal files that decide a mask, or, where these were moved, equal files altogether."""
    for select in (_predicting_files, _all_files):
        theirs, ours = select(copy, model_name), select(package, model_name)
        if ours and ours == theirs and any(Path(name).name == LOADER for name in ours):
            return True
    return False


def _predicting_files(package: Path, model_name: str) -> dict[str, bytes]:
    names = [*PREDICTING, f"models/{model_name}.py", f"serving/{LOADER}"]
    names += [name for name in _all_files(package, model_name) if name.startswith(PREDICTING_FOLDER)]
    if not all((package / name).is_file() for name in names):
        return {}
    return {name: (package / name).read_bytes() for name in names}


def _all_files(package: Path, model_name: str) -> dict[str, bytes]:
    paths = (path for path in package.rglob("*.py") if path.is_file())
    return {path.relative_to(package).as_posix(): path.read_bytes() for path in paths}


def _unpack_commit(root: Path, commit: str, place: Path) -> bool:
    """Unpacks the sources of a commit; the project may lie below the repository's top."""
    try:
        archive = git_bytes(root, "archive", "--format=tar", commit, "src/segpipe")
    except CommandError:
        return False
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(place, filter="data")
    return True


def _explain(version: ModelVersion, root: Path) -> str:
    who = version.tags.get("mlflow.user") or version.user_id or "somebody"
    address = f"models:/{version.name}/{version.version}"
    return (
        f"the Python code that {who} stored with it (source {version.source}) is not run, because it differs from this "
        f"package and from the commit of the version's tag {GIT_COMMIT}, or no branch or tag of "
        f"{describe_places(root)} holds that commit; read the code "
        f"(`mlflow artifacts download --artifact-uri {address} --dst-path FOLDER`, below code/), then measure it by "
        f"`segpipe registry compare {version.version} OTHER --trust`, and choose by `segpipe registry promote`"
    )
