"""Describes the processes that `make down` stops: servers, workers, and the stages below them."""

import collections
import contextlib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from segpipe.places import CHECKPOINTS, RANK, STAGE_MODULES

# honcho sets this variable to the name of the process in the Procfile, with a number; child processes inherit it.
NAME = "HONCHO_PROCESS_NAME"
SERVERS = {"prefect": "Prefect", "mlflow": "MLflow", "serve": "segpipe serve"}


@dataclass(frozen=True)
class RunningStage:
    """A stage that runs.

    Attributes:
        name: in dvc.yaml.
        root: the clone in which it runs.
    """

    name: str
    root: Path

    def describe_end(self, asked: float) -> str:
        """Says how it has ended.

        Args:
            asked: when it got its signal, in seconds since 1970.
        """
        if self.name != "train":
            return f"{self.name} in {self.root} was stopped; the next retraining runs it again"
        written = [path.stat().st_mtime for path in (self.root / CHECKPOINTS).glob("*/checkpoint*")]
        if max(written, default=0.0) >= asked:
            return f"train in {self.root} wrote its checkpoint; the next retraining continues from it"
        if written:
            return f"train in {self.root} wrote no new checkpoint; the next retraining continues from its last one"
        return f"train in {self.root} was stopped before its first checkpoint; the next retraining starts it again"


def is_flow_run(process: psutil.Process, of_a_retraining: bool) -> bool:
    """Whether it is a flow run's process, which ends its commands and then reports its own end to the server.

    Args:
        process: any.
        of_a_retraining: True finds those of retrainings and watches, False those that compute.
    """
    with contextlib.suppress(psutil.Error):
        is_control = str(process.environ().get(NAME, "")).startswith("control.")
        return "prefect.engine" in process.cmdline() and is_control == of_a_retraining
    return False


def find_services(processes: Iterable[psutil.Process]) -> list[str]:
    """Gives the names of the running services for a user: the servers, then the workers by pools."""
    found = set()
    for process in processes:
        with contextlib.suppress(psutil.Error):
            found.add(process.environ().get(NAME, ""))
    numbers = collections.Counter(name.partition(".")[0] for name in found if name)
    servers = [called for name, called in SERVERS.items() if name in numbers]
    pools = [(name, number) for name, number in sorted(numbers.items()) if name not in SERVERS]
    return servers + [f"worker {name}" if number == 1 else f"{number} workers {name}" for name, number in pools]


def find_stages(processes: Iterable[psutil.Process]) -> list[RunningStage]:
    """Gives the stages that run."""
    found = set()
    for process in processes:
        with contextlib.suppress(psutil.Error):
            command = process.cmdline()
            modules = [module for option, module in itertools.pairwise(command) if option == "-m"]
            if modules and modules[0].startswith(STAGE_MODULES) and "python" in Path(command[0]).name:
                name = modules[0].removeprefix(STAGE_MODULES)
                found.add(RunningStage("train" if name == RANK else name, Path(process.cwd())))
    return sorted(found, key=lambda stage: (str(stage.root), stage.name))
