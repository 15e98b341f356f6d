"""Writes files in one step: a reader finds the whole file or none."""

import contextlib
import errno
import fcntl
import glob
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

LEFT_OVER_SECONDS = 3600
NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def sha256_of_file(path: Path) -> str:
    """Gives the sha256 of a file's content, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Adds the path to the error of a full disk: the system's own error of a `write` does not name it."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_SPACE or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a path to write to; on success its content takes the place of `path`, synced to disk, in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_overs(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with naming(path):
            yield temporary
            _sync(temporary)
            temporary.replace(path)
            _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _remove_left_overs(path: Path) -> None:
    """Removes temporary files of killed processes: a running process never waits an hour between two writes.

    The process id cannot tell: the process may run on another machine that shares the folder.
    """
    for left_over in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with contextlib.suppress(FileNotFoundError):
            if left_over.is_file() and time.time() - left_over.stat().st_mtime > LEFT_OVER_SECONDS:
                left_over.unlink()


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Gives an empty folder to fill; on success it takes the place of `path`, files synced to disk.

    If the body raises, what was at `path` stays as it was and nothing else is left. A link stays, and leads to the new
    folder. Where two processes fill it at once, the last one wins.
    """
    target = path.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_over_folders(target)
    temporary, old = (
        Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)) for _ in range(2)
    )
    try:
        temporary.chmod(0o755)
        with naming(path), _held(temporary):
            yield temporary
            for file in sorted(temporary.rglob("*")):
                _sync(file)
        if target.exists():
            target.replace(old)
        temporary.replace(target)
        _sync(target.parent)
    finally:
        for left_over in (temporary, old):
            shutil.rmtree(left_over, ignore_errors=True)


def _remove_left_over_folders(target: Path) -> None:
    """Removes the unfinished folders of killed processes; that of a running one is held."""
    for left_over in target.parent.iterdir():
        if left_over.is_dir() and re.fullmatch(rf"\.{re.escape(target.name)}\.[a-z0-9_]+\.part", left_over.name):
            with contextlib.suppress(FileNotFoundError), _held(left_over) as is_ours:
                if is_ours:
                    shutil.rmtree(left_over)


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Holds a folder until the end of the body or of the process; gives False where another process holds it."""
    descriptor, is_ours = os.open(folder, os.O_RDONLY), True
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            is_ours = False
        except OSError:  # a network's file system may know no such locks
            pass
        yield is_ours
    finally:
        os.close(descriptor)


def open_private(path: Path) -> TextIO:
    """Opens a text file for secrets, new or emptied: other users of the machine cannot read it (mode 0600)."""

    def open_it(name: str, flags: int) -> int:
        descriptor = os.open(name, flags, 0o600)
        os.fchmod(descriptor, 0o600)  # the file may have existed
        return descriptor

    # Path.open takes no opener.
    return open(path, "w", encoding="utf-8", opener=open_it)


def write_json(path: Path, document: Any) -> None:
    """Writes readable JSON."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
