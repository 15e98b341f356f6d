"""Removes DVC's record of running commands where it is damaged and stops every later command of DVC.

DVC keeps the record in `rwlock` and writes it in place. A kill in that moment, or a full disk, leaves an empty or a cut
file, and then each command ends with "JSON structure is corrupted". The record holds only the running commands, so it
can be removed when none runs; DVC begins a new one. DVC's locks are taken here in the way of `dvc/lock.py` and
`dvc/rwlock.py`.
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
CLOCK_SECONDS = 2  # a file's time and a process's start may differ by so much


def repair_locks(root: Path = Path()) -> list[str]:
    """Removes each record that is damaged, or names only processes that have ended.

    Args:
        root: of the DVC project.

    Returns:
        A line for each removed record, with the reason.

    Raises:
        StoreError: a record is damaged and a process of DVC works here; the record stays.
    """
    done: list[str] = []
    for record in (root / name for name in RECORDS):
        fault = _find_fault(record)
        if fault is None:
            continue
        if (worker := _find_worker(root)) is not None:
            raise StoreError(f"{record} {fault}, but DVC is running: {worker}; wait for its end, then `segpipe unlock`")
        use_hardlinks = _use_hardlinks(root)
        with (
            _hold(root / PROCESS_LOCK, record, use_hardlinks),
            _hold(record.with_suffix(".lock"), record, use_hardlinks),
        ):
            fault = _find_fault(record)  # again, now that no other process can write it
            if fault is not None:
                record.unlink()
                done.append(f"{record} {fault}: removed; DVC begins a new one")
    return done


def _find_fault(record: Path) -> str | None:
    """Says what is wrong with a record; None where it is right or missing."""
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
    """Gives the process ids in a record; raises one of several errors if it has another form."""
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
    """Whether the process in a record runs; a process that began after the record only has the same number."""
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
        StoreError: another process holds it.
    """
    refusal = StoreError(
        f"{record} is damaged, and another process holds DVC's lock {lock}; wait for its end, then `segpipe unlock`"
    )
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
