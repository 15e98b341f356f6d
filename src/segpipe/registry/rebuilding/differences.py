"""The record of a version, and how a project in which its stages ran again differs from it."""

import importlib.metadata
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from segpipe.addresses import redact
from segpipe.documents import ModelDescription, SourceDescription
from segpipe.places import MODEL, MODEL_FILE, PARAMS_FILE, RAW, SOURCE_FILE, WEIGHTS_FILE
from segpipe.tracking.lineage import read_yaml
from segpipe.tracking.run import flatten
from segpipe.tracking.tags import WEIGHTS_SHA256

# The names in model.json's environment that describe the machine; all others are versions of packages.
MACHINE_PARTS = {
    "cpu": "CPU",
    "cpu_capability": "CPU capability",
    "num_threads": "threads",
    "device": "device",
    "platform": "platform",
}


@dataclass(frozen=True)
class Record:
    """The record of a version.

    Attributes:
        version: its number in the registry.
        tags: the version's, or its run's.
        lineage_folder: the downloaded folder `lineage/` of its run; a file that is missing there is not compared.
        model: its model.json.
        held_sha256: of the weights' file that the registry holds now; None where it holds none.
    """

    version: str
    tags: Mapping[str, str]
    lineage_folder: Path
    model: ModelDescription
    held_sha256: str | None = None


@dataclass(frozen=True)
class Difference:
    """One difference.

    Attributes:
        part: 'registry', 'code', 'data', 'params', 'initial weights', 'class weights', 'memory', 'wheels', 'CPU',
            'CPU capability', 'threads', 'device', 'platform' or 'chance'.
        what: the file, parameter or package, with both values.
    """

    part: str
    what: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.part}: {self.what}"


def compare(record: Record, project: Path) -> tuple[Difference, ...]:
    """Lists all differences, as far as the stages in `project` have run."""
    there, here = record.model, read_model(project)
    differences = compare_registry(record) + _compare_data(record, project, here)
    params_there = flatten(read_yaml(record.lineage_folder / PARAMS_FILE))
    params_here = flatten(read_yaml(project / PARAMS_FILE)) if params_there else {}
    params_here = {name: redact(value) for name, value in params_here.items()}  # as the run keeps them
    if here is not None:
        if here.code != there.code:
            what = "the training loaded other sources than those of the commit that the version names"
            differences.append(Difference("code", what))
        params_there |= flatten({"train": there.params.train})
        params_here |= flatten({"train": here.params.train})
        for whose, model in (("original", there), ("rebuild", here)):
            if model.halved_to is not None:
                what = f"became too short for the {whose}, which went on with {model.halved_to} samples at once"
                differences.append(Difference("memory", what))
        if there.initial_weights is not None and here.initial_weights is not None:
            began = (flatten(asdict(weights)) for weights in (there.initial_weights, here.initial_weights))
            differences += [Difference("initial weights", what) for what in _changes(*began).values()]
        weights = (flatten(model.params.class_weights) for model in (there, here))
        differences += [Difference("class weights", what) for what in _changes(*weights).values()]
    differences += [Difference("params", what) for what in _changes(params_there, params_here).values()]
    environment = here.environment if here is not None else _installed(there.environment)
    for name, what in _changes(there.environment, environment).items():
        differences.append(Difference(MACHINE_PARTS.get(name, "wheels"), what))
    return tuple(differences)


def compare_registry(record: Record) -> list[Difference]:
    """Lists what in the registry is about other weights than the version's model.json: one of the two was changed."""
    found = {
        f"the tag {WEIGHTS_SHA256} says": record.tags.get(WEIGHTS_SHA256),
        f"{WEIGHTS_FILE} has": record.held_sha256,
    }
    named = record.model.weights_sha256
    return [
        Difference("registry", f"{what} sha256 {sha256}, {MODEL_FILE} names {named}")
        for what, sha256 in found.items()
        if sha256 not in {None, named}
    ]


def _compare_data(record: Record, project: Path, model: ModelDescription | None) -> list[Difference]:
    """Compares the source file by file; if all are equal, the digest of the data set made from them."""
    there, here = _read_source(record.lineage_folder / SOURCE_FILE), _read_source(project / RAW / SOURCE_FILE)
    found = []
    if there is not None and here is not None:
        before, now = there.sha256, here.sha256
        found += [f"{name}: missing" for name in before.keys() - now.keys()]
        found += [f"{name}: new" for name in now.keys() - before.keys()]
        for name in before.keys() & now.keys():
            if before[name] != now[name]:
                found.append(f"{name}: another content (sha256 {before[name]}, here {now[name]})")
        found.sort()
        if there.format != here.format:
            found.append(f"format: {there.format}, here {here.format}")
        if there.classes != here.classes:
            found.append(f"classes: {there.classes.to_json()}, here {here.classes.to_json()}")
    if model is not None and not found and model.dataset != record.model.dataset:
        known = "the source's files were not recorded" if there is None else "the source's files are the same"
        digests = f"digest {record.model.dataset.digest}, here {model.dataset.digest}"
        found.append(f"the data set has another content ({digests}); {known}")
    return [Difference("data", what) for what in found]


def _changes(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """Gives the names whose values differ, each with both values in words."""
    return {
        name: f"{name} {before.get(name, 'not there')}, here {now.get(name, 'not there')}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    }


def _installed(environment: Mapping[str, str]) -> dict[str, str]:
    """Gives the part of the environment that is known before a training: the versions of Python and packages."""
    known = {**environment, "python": platform.python_version()}
    for name in environment.keys() - MACHINE_PARTS.keys() - {"python"}:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            del known[name]
            continue
        # torch says of itself for which CUDA it was built (2.0+cu130); its package may not.
        if version.partition("+")[0] != environment[name].partition("+")[0]:
            known[name] = version
    return known


def read_model(project: Path) -> ModelDescription | None:
    """Reads the training's `model.json`; None where there is none yet."""
    path = project / MODEL / MODEL_FILE
    return ModelDescription.read(path, "run the stage train there") if path.exists() else None


def _read_source(path: Path) -> SourceDescription | None:
    return SourceDescription.read(path, "run the stage download there") if path.exists() else None
