"""Ends a stage when the process that started it ends; otherwise it would train next to the one that replaces it.

`segpipe.stages` imports this first, so it imports little itself.
"""

import json
import os
import signal
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from segpipe.parent_death import die_with_parent
from segpipe.places import STAGE_MODULES

SYSTEMS = ("linux", "darwin")
RWLOCK = Path(".dvc/tmp/rwlock")  # in the project's root, where DVC lets its stages work


def begin_stage() -> None:
    """Ties this process to its parent where it is `python -m segpipe.stages.NAME`; else does nothing.

    Until the stage has its own handlers, SIGTERM and Ctrl-C end it immediately and without a traceback.
    """
    refuse_other_systems(sys.platform)
    if not started_stage():
        return
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # otherwise a shell has switched it off
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    die_with_parent()
    # The kernel does not report a parent that has ended already.
    if "DVC_STAGE" in os.environ and is_orphan(RWLOCK, os.getpid()):
        print("segpipe: the DVC that started this stage has ended, so the stage ends too", file=sys.stderr)
        os.kill(os.getpid(), signal.SIGTERM)


def started_stage() -> str:
    """Gives NAME where this process is `python -m segpipe.stages.NAME`; else ''."""
    modules = (module for flag, module in pairwise(sys.orig_argv) if flag == "-m")
    return next((name.removeprefix(STAGE_MODULES) for name in modules if name.startswith(STAGE_MODULES)), "")


def refuse_other_systems(system: str) -> None:
    """Ends the process with a message on a system that segpipe does not support.

    The stages and the command line import this module before the modules that such a system lacks.

    Args:
        system: as `sys.platform` names it.
    """
    if system not in SYSTEMS:
        print(
            f"segpipe: runs on Linux and macOS, not on {system!r}; on Windows, install WSL (`wsl --install` in "
            "PowerShell) and run segpipe in its shell",
            file=sys.stderr,
        )
        raise SystemExit(1)


def is_orphan(rwlock: Path, pid: int) -> bool:
    """Whether the DVC that started a process has ended.

    DVC writes its process id into this file before it starts a stage that writes outs. False where the file cannot be
    read: the stage continues.

    Args:
        rwlock: DVC's record of running commands.
        pid: of the process.
    """
    try:
        notes = json.loads(rwlock.read_text(encoding="utf-8"))
        writers = {int(entry["pid"]) for entry in notes["write"].values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return bool(writers) and writers.isdisjoint(_ancestors(pid))


def _ancestors(pid: int) -> Iterator[int]:
    """Gives the ids of a process's ancestors: a shell may be between DVC and the stage."""
    if not Path("/proc/self/stat").exists():
        yield os.getppid()
        return
    while pid > 1:
        try:
            # PID (NAME) STATE PPID ...; the name may hold anything.
            pid = int(
                Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1]
            )
        except (OSError, ValueError, IndexError):
            return
        yield pid
