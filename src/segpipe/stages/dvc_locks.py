"""DVC's record of who reads and writes what, removed where it is damaged and stops every later command of DVC.

DVC keeps the record in `rwlock` and writes it in place: a kill in that moment, or a full disk, leaves an empty or a cut
file, and from then on each command ends with "JSON structure is corrupted". The record says nothing but who works now,
so where nobody does it can go, and DVC begins a new one. Here DVC's locks are taken as DVC takes them (`dvc/lock.py`,
`dvc/rwlock.py`).
"""

import contextlib
import json
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import zc.lockfile

from segpipe.errors import StoreError
from segpipe.project import DvcConfig

TEMPORARY = Path(".dvc/tmp")
RECORDS = (TEMPORARY / "rwlock", TEMPORARY / "exps/rwlock")  # of the stages, and of the experiments
PROCESS_LOCK = TEMPORARY / "lock"
HARDLINK_SECONDS = 3
CLOCK_SECONDS = 2  # a file's time and a process's may be so far apart


def repair_locks(root: Path = Path()) -> list[str]:
    """Removes each record that is damaged, or names only processes that have ended.

    Args:
        root: of the DVC project.

    Returns:
        What was removed, and why; a line each.

    Raises:
        StoreError: a record is damaged and somebody works here; it is left as it is.
    """
    done: list[str] = []
    for record in (root / name for name in RECORDS):
        fault = _find_fault(record)
        if fault is None:
            continue
        if (worker := _find_worker(root)) is not None:
            raise StoreError(f"{record} {fault}, and DVC works here: {worker}; wait for its end, then `segpipe unlock`")
        use_hardlinks = _use_hardlinks(root)
        with (
            _hold(root / PROCESS_LOCK, record, use_hardlinks),
            _hold(record.with_suffix(".lock"), record, use_hardlinks),
        ):
            fault = _find_fault(record)  # now that nobody can write it
            if fault is not None:
                record.unlink()
                done.append(f"{record} {fault}: removed; DVC begins a new one")
    return done


def _find_fault(record: Path) -> str | None:
    """Says what is wrong with a record; None where nothing is, or there is none."""
    try:
        content = record.read_bytes()
        written = record.stat().st_mtime
    except FileNotFoundError:
        return None
    try:
        pids = _read_pids(json.loads(content))
    except (ValueError, TypeError, KeyError, AttributeError):
        return "is empty" if not content else "is damaged"
    if pids and not any(_is_alive(pid, written) for pid in pids):
        return "names only processes that have ended"
    return None


def _read_pids(document: Any) -> set[int]:
    """Gives the processes of a record; raises what its wrong form leads to."""
    if not isinstance(document, dict) or not document.keys() <= {"read", "write"}:
        raise TypeError("no record")
    holders = [
        holder
        for kind, paths in document.items()
        for found in paths.values()
        for holder in (found if kind == "read" else [found])
    ]
    if not all(isinstance(holder["cmd"], str) and isinstance(holder["pid"], int) for holder in holders):
        raise TypeError("no record")
    return {holder["pid"] for holder in holders}


def _is_alive(pid: int, written: float) -> bool:
    """Whether the process that a record names runs; one that began after the record was written has only its number."""
    try:
        return psutil.Process(pid).create_time() <= written + CLOCK_SECONDS
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True


def _find_worker(root: Path) -> str | None:
    """Gives a process of DVC in this project: while a stage runs, DVC holds no lock but waits for it."""
    ours = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    place = root.resolve()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            names = [Path(argument).name for argument in process.cmdline()[:3]]
            is_dvc = "dvc" in names and "daemon" not in process.cmdline()
            if is_dvc and process.pid not in ours and Path(process.cwd()).is_relative_to(place):
                return f"process {process.pid} ({' '.join(names)})"
    return None


def _use_hardlinks(root: Path) -> bool:
    return DvcConfig(root).getboolean("core", "hardlink_lock", fallback=False)


@contextlib.contextmanager
def _hold(lock: Path, record: Path, use_hardlinks: bool) -> Iterator[None]:
    """Holds a lock of DVC's.

    Raises:
        StoreError: somebody else holds it.
    """
    refusal = StoreError(f"{record} is damaged, and DVC's lock {lock} is held; wait, then `segpipe unlock`")
    if use_hardlinks:
        import flufl.lock

        held = flufl.lock.Lock(str(lock), lifetime=timedelta(minutes=1), default_timeout=HARDLINK_SECONDS)
        try:
            held.lock()
        except flufl.lock.TimeOutError as error:
            raise refusal from error
        release = held.unlock
    else:
        try:
            release = zc.lockfile.LockFile(str(lock)).close
        except zc.lockfile.LockError as error:
            raise refusal from error
    try:
        yield
    finally:
        release()
