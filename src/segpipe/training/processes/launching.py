"""Starts the processes that share a training, by torch's elastic launcher.

How many there are is a matter of the machine, so it is in the environment and not in `params.yaml`: `SEGPIPE_PROCESSES`
of each machine, and for several machines `SEGPIPE_MACHINES`, `SEGPIPE_MACHINE` and `SEGPIPE_MEETING`.
"""

import logging
import os
import re
import signal
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from segpipe.errors import ConfigError, TrainingError
from segpipe.places import MACHINE, MACHINES, MEETING, PROCESSES, RANK, STAGE_MODULES

log = logging.getLogger(__name__)

NUM_LINES_SHOWN = 20
EXIT_BAD_INPUT, EXIT_LOST = 1, 3  # lost: another process has ended before
GO_ON = "run it again to go on from the checkpoint"
# A rank that is asked to stop finishes its step and writes a checkpoint. Less than a stage has (segpipe.process).
STOP_SECONDS = 20
# The other machines may still run earlier stages, or wait for theirs to start.
MEETING_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Placement:
    """Where a training runs.

    Attributes:
        processes: on each machine.
        machines: that share the training.
        machine: the number of this one, from 0; machine 0 leads: it runs the stage.
        meeting: `HOST:PORT` of the machine that leads; empty for one machine.
    """

    processes: int = 1
    machines: int = 1
    machine: int = 0
    meeting: str = ""

    @staticmethod
    def of(environment: Mapping[str, str], device: str) -> "Placement":
        """Reads the placement from environment variables.

        Args:
            environment: the variables.
            device: `train.device`.

        Raises:
            ConfigError: values are wrong, or do not fit each other or the machine; one message for all.
        """
        values = {name: environment.get(name, "").strip() for name in (PROCESSES, MACHINES, MACHINE, MEETING)}
        num_gpus = torch.cuda.device_count() if device in {"auto", "cuda"} else 0
        lines = []
        if values[PROCESSES] not in {"", "auto"} and not re.fullmatch("[1-9][0-9]*", values[PROCESSES]):
            lines.append(f"{PROCESSES}={values[PROCESSES]}: must be a whole number from 1, or auto for one on each GPU")
        if values[MACHINES] and not re.fullmatch("[1-9][0-9]*", values[MACHINES]):
            lines.append(f"{MACHINES}={values[MACHINES]}: must be a whole number from 1")
        if values[MACHINE] and not re.fullmatch("[0-9]+", values[MACHINE]):
            lines.append(f"{MACHINE}={values[MACHINE]}: must be the number of this machine, from 0; 0 leads")
        if values[MEETING] and not re.fullmatch(r"[^:\s]+:[0-9]+", values[MEETING]):
            lines.append(f"{MEETING}={values[MEETING]}: must be HOST:PORT of the machine that leads, node1:29500")
        if lines:
            raise ConfigError("\n".join(lines))
        automatic = max(1, num_gpus)
        processes = automatic if values[PROCESSES] == "auto" else int(values[PROCESSES] or 1)
        placement = Placement(processes, int(values[MACHINES] or 1), int(values[MACHINE] or 0), values[MEETING])
        if placement.machines > 1 and not placement.meeting:
            lines.append(f"{MACHINES}={placement.machines} needs {MEETING}=HOST:PORT, of the machine that leads")
        if placement.machine >= placement.machines:
            lines.append(f"{MACHINE}={placement.machine}: must be below {MACHINES}={placement.machines}")
        if placement.is_shared and device not in {"auto", "cpu", "cuda"}:
            lines.append(f"train.device: {device} is for one process; write auto, or unset {PROCESSES}")
        if num_gpus and placement.processes > num_gpus:
            lines.append(f"{PROCESSES}={placement.processes}: this machine shows {num_gpus} GPUs; write auto")
        if lines:
            raise ConfigError("\n".join(lines))
        return placement

    @property
    def is_shared(self) -> bool:
        """Whether more than one process trains."""
        return self.processes * self.machines > 1


def launch(placement: Placement) -> None:
    """Starts this machine's processes, and waits for their end. If one ends, all end: a checkpoint is the retry.

    SIGTERM, Ctrl-C and the end of this process reach all of them.

    Raises:
        SystemExit: with 1 after a message of the training, or with 128 + N after signal N.
        TrainingError: a process was killed, or has a defect.
    """
    is_alone = placement.machines == 1
    is_ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # as for a job in the background
    signals = [signal.SIGTERM] if is_ignored else [signal.SIGTERM, signal.SIGINT]
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # of the processes: torch's advice on speed
    with tempfile.TemporaryDirectory() as folder:
        others = {number: Std.ALL for number in range(placement.processes) if number or placement.machine}
        config = LaunchConfig(
            min_nodes=placement.machines,
            max_nodes=placement.machines,
            nproc_per_node=placement.processes,
            run_id="segpipe",
            # Alone it takes a free port; with others the numbers of the machines decide which rank is the first.
            rdzv_backend="c10d" if is_alone else "static",
            rdzv_endpoint="localhost:0" if is_alone else placement.meeting,
            rdzv_configs={} if is_alone else {"rank": placement.machine, "timeout": MEETING_SECONDS},
            local_addr="localhost" if is_alone else None,
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder, redirects=others),
            signals_to_handle=",".join(signum.name for signum in signals),
            shutdown_timeout=STOP_SECONDS,
        )
        if not is_alone:
            log.info("waiting for %d machines at %s", placement.machines, placement.meeting)
            # torch waits outside of Python, where no handler would run; there is nothing to save yet.
            for signum in signals:
                signal.signal(signum, signal.SIG_DFL)
        logging.disable()  # the launcher's own lines say nothing to a user
        try:
            elastic_launch(config, sys.executable)("-m", f"{STAGE_MODULES}{RANK}")
        except SignalException as error:
            sys.exit(128 + int(error.sigval))
        except ChildFailedError as error:
            _tell(error.failures, Path(folder), is_alone)
        except dist.DistError as error:
            raise TrainingError(f"{MEETING}={placement.meeting}: the machines do not meet: {error}") from error
        finally:
            logging.disable(logging.NOTSET)


def _tell(failures: Mapping[int, ProcessFailure], folder: Path, is_alone: bool) -> None:
    """Ends the stage with what is known of the process that ended first, and not because of the others."""
    because_of_others = {EXIT_LOST, -signal.SIGTERM}
    own = [(rank, failure) for rank, failure in failures.items() if failure.exitcode not in because_of_others]
    if not own:
        who = "the processes have lost each other" if is_alone else "a process on another machine has ended"
        raise TrainingError(f"{who}, so all ended; {GO_ON}")
    rank, failure = own[0]
    if rank == 0 and failure.exitcode == EXIT_BAD_INPUT:
        sys.exit(EXIT_BAD_INPUT)  # it has said why
    how = f"was ended by signal {-failure.exitcode}" if failure.exitcode < 0 else f"ended with {failure.exitcode}"
    said = [line for path in folder.glob(f"**/{failure.local_rank}/stderr.log") for line in _last_lines(path)]
    raise TrainingError("\n".join([f"process {rank} of the training {how}, so all ended; {GO_ON}", *said]))


def _last_lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines()[-NUM_LINES_SHOWN:]
