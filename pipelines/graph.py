"""Reads each stage's `meta` in `dvc.yaml`: where it may run, how often it is tried, and how long it may take."""

from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipelines.errors import PipelineError
from segpipe.places import GRAPH_FILE

POOLS = ("cpu", "gpu")


@dataclass(frozen=True)
class Stage:
    """A stage's `meta`.

    Attributes:
        name: as in `dvc.yaml`.
        pool: the Prefect work pool whose workers run it.
        retries: further attempts after a failure; a crash is always tried again.
        timeout_hours: after so long it is stopped.
    """

    name: str
    pool: str
    retries: int = 0
    timeout_hours: float = 24.0


def read_stages(root: Path) -> dict[str, Stage]:
    """Reads the stages of a clone in the order in which they are written.

    Raises:
        PipelineError: `dvc.yaml` is missing or broken, or a stage's `meta` is.
    """
    path = root / GRAPH_FILE
    try:
        document = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
        stages = {name: Stage(name, **definition.get("meta", {})) for name, definition in document["stages"].items()}
    except (OSError, YAMLError, KeyError, TypeError, AttributeError) as error:
        raise PipelineError(f"{path}: {error}; a stage's meta holds pool, retries and timeout_hours") from error
    if wrong := [f"{stage.name}: {stage.pool!r}" for stage in stages.values() if stage.pool not in POOLS]:
        raise PipelineError(f"{path}: unknown pools: {', '.join(wrong)}; known are {', '.join(POOLS)}")
    return stages
