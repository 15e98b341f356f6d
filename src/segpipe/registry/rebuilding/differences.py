"""What is recorded of a version, and what of it is not as it was in a project where its stages ran again."""

import importlib.metadata
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segpipe.addresses import redact
from segpipe.places import MODEL, MODEL_FILE, PARAMS_FILE, RAW, SOURCE_FILE
from segpipe.tracking.lineage import read_yaml
from segpipe.tracking.run import flatten

# What describes the machine in model.json's environment; all else there are versions of packages.
MACHINE_PARTS = {
    "cpu_capability": "CPU capability",
    "num_threads": "threads",
    "device": "device",
    "platform": "platform",
}


@dataclass(frozen=True)
class Record:
    """What is recorded of a version.

    Attributes:
        version: its number in the registry.
        tags: the version's, or its run's.
        lineage_folder: what its run keeps below `lineage/`, downloaded; what is missing there is not compared.
        model: its model.json.
    """

    version: str
    tags: Mapping[str, str]
    lineage_folder: Path
    model: Mapping[str, Any]


@dataclass(frozen=True)
class Difference:
    """One thing that is not as it was.

    Attributes:
        part: 'code', 'data', 'params', 'initial weights', 'class weights', 'wheels', 'CPU capability', 'threads',
            'device', 'platform' or 'chance'.
        what: the file, parameter or package, with both values.
    """

    part: str
    what: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.part}: {self.what}"


def compare(record: Record, project: Path) -> tuple[Difference, ...]:
    """Names all that is not as it was, as far as the stages have come in `project`."""
    there, here = record.model, read_json(project / MODEL / MODEL_FILE)
    differences = _compare_data(record, project, here)
    params_there = flatten(read_yaml(record.lineage_folder / PARAMS_FILE))
    params_here = flatten(read_yaml(project / PARAMS_FILE)) if params_there else {}
    params_here = {name: redact(value) for name, value in params_here.items()}  # as they are kept
    if here:
        if here.get("code") != there.get("code"):
            what = "the training loaded other sources than those of the commit that the version names"
            differences.append(Difference("code", what))
        params_there |= flatten({"train": there["params"]["train"]})
        params_here |= flatten({"train": here["params"]["train"]})
        if "initial_weights" in there and "initial_weights" in here:
            began = (flatten(model["initial_weights"]) for model in (there, here))
            differences += [Difference("initial weights", what) for what in _changes(*began).values()]
        weights = (flatten(model["params"]["class_weights"]) for model in (there, here))
        differences += [Difference("class weights", what) for what in _changes(*weights).values()]
    differences += [Difference("params", what) for what in _changes(params_there, params_here).values()]
    environment = here["environment"] if here else _installed(there["environment"])
    for name, what in _changes(there["environment"], environment).items():
        differences.append(Difference(MACHINE_PARTS.get(name, "wheels"), what))
    return tuple(differences)


def _compare_data(record: Record, project: Path, model: Mapping[str, Any]) -> list[Difference]:
    """Compares the source file by file, and the data set that was made from it as a whole."""
    there, here = read_json(record.lineage_folder / SOURCE_FILE), read_json(project / RAW / SOURCE_FILE)
    found = []
    if there and here:
        before, now = there["sha256"], here["sha256"]
        found += [f"{name}: missing" for name in before.keys() - now.keys()]
        found += [f"{name}: new" for name in now.keys() - before.keys()]
        for name in before.keys() & now.keys():
            if before[name] != now[name]:
                found.append(f"{name}: another content (sha256 {before[name]}, here {now[name]})")
        found.sort()
        found += [f"{key}: {there[key]}, here {here[key]}" for key in ("format", "classes") if there[key] != here[key]]
    if model and not found and model["dataset"] != record.model["dataset"]:
        known = "the source's files are the same" if there else "the source's files were not recorded"
        digests = f"digest {record.model['dataset']['digest']}, here {model['dataset']['digest']}"
        found.append(f"the data set has another content ({digests}); {known}")
    return [Difference("data", what) for what in found]


def _changes(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """Gives what differs by name, both values in words."""
    return {
        name: f"{name} {before.get(name, 'not there')}, here {now.get(name, 'not there')}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    }


def _installed(environment: Mapping[str, str]) -> dict[str, str]:
    """Gives an environment as far as it is known before a training: the versions of Python and the packages."""
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


def read_json(path: Path) -> dict[str, Any]:
    """Reads a file that a stage wrote; gives nothing where none came so far."""
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return document
