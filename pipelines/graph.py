"""Reads the stages of `dvc.yaml`: which waits for which, and their `meta`: pool, retries, time limit."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipelines.errors import PipelineError
from segpipe.places import GRAPH_FILE, LOCK_FILE

POOLS = ("cpu", "gpu")


@dataclass(frozen=True)
class Stage:
    """A stage: its `meta`, and its place in the graph.

    Attributes:
        name: as in `dvc.yaml`.
        pool: the Prefect work pool whose workers run it.
        retries: further attempts after a failure; a crash is always tried again.
        timeout_hours: after so long it is stopped.
        after: the stages whose outs it reads, in the order of the file.
    """

    name: str
    pool: str
    retries: int = 0
    timeout_hours: float = 24.0
    after: tuple[str, ...] = ()


def read_stages(root: Path) -> dict[str, Stage]:
    """Reads the stages of a clone in the order in which they are written.

    Raises:
        PipelineError: `dvc.yaml` is missing or broken, or a stage's `meta` is.
    """
    path = root / GRAPH_FILE
    try:
        document = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
        definitions = document["stages"]
        parents = _find_parents(definitions)
        stages = {name: Stage(name, **one.get("meta", {}), after=parents[name]) for name, one in definitions.items()}
    except (OSError, YAMLError, KeyError, TypeError, AttributeError) as error:
        raise PipelineError(f"{path}: {error}; a stage's meta holds pool, retries and timeout_hours") from error
    if wrong := [f"{stage.name}: {stage.pool!r}" for stage in stages.values() if stage.pool not in POOLS]:
        raise PipelineError(f"{path}: unknown pools: {', '.join(wrong)}; known are {', '.join(POOLS)}")
    return stages


def _find_parents(definitions: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Gives, for each stage, the stages with an out that is one of its dependencies, holds one, or lies in one."""
    places = {
        name: tuple([PurePosixPath(p) for p in _paths(one.get(key) or ())] for key in ("deps", "outs"))
        for name, one in definitions.items()
    }
    return {
        name: tuple(
            other
            for other, (_, outs) in places.items()
            if other != name and any(dep.is_relative_to(out) or out.is_relative_to(dep) for dep in deps for out in outs)
        )
        for name, (deps, _) in places.items()
    }


def _paths(listed: Iterable[Any]) -> list[str]:
    """Gives the paths in a list of `deps` or `outs`; an entry with options is a mapping with the path as its key."""
    return [str(next(iter(entry))) if isinstance(entry, Mapping) else str(entry) for entry in listed]


def ancestors_of(stages: Mapping[str, Stage], name: str) -> set[str]:
    """Gives the stages that must be up to date before a stage can be looked at."""
    found: set[str] = set()
    waiting = list(stages[name].after)
    while waiting:
        parent = waiting.pop()
        if parent not in found:
            found.add(parent)
            waiting += stages[parent].after
    return found


def read_dependencies(root: Path) -> list[str]:
    """Gives the files and folders that the results in a clone's `dvc.lock` depend on; none where it cannot be read."""
    try:
        stages = YAML(typ="safe", pure=True).load((root / LOCK_FILE).read_text(encoding="utf-8"))["stages"].values()
        return sorted({dep for one in stages for dep in (*(d["path"] for d in one["deps"]), *one.get("params", {}))})
    except (OSError, YAMLError, KeyError, TypeError, AttributeError):
        return []
