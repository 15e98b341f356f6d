"""Downloads a file into the cache of downloads and verifies it, even if the connection breaks often.

The cache is a folder that may be deleted at any time. Of each file, named by the sha256 that it must have, it holds

    SHA256             the whole file, verified when it was written, and verified again before each use
    SHA256.part        the bytes that have arrived so far
    SHA256.part.json   the version of the remote file that they belong to (`version`), and its size (`size_bytes`)
    SHA256.lock        held by the process that is fetching it
"""

import json
import logging
import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from filelock import FileLock
from tqdm import tqdm

from segpipe.errors import SourceError
from segpipe.files import sha256_of_file, write_json

log = logging.getLogger(__name__)

BLOCK_BYTES = 1 << 20
T = TypeVar("T")


@dataclass(frozen=True)
class Remote:
    """A remote file that is open for reading.

    Args:
        start: the offset of the first byte that comes: the one asked for, or 0 if the file changed or cannot be
            read from its middle.
        size_bytes: of the whole file; None if unknown.
        version: changes when the file does; None if unknown: then a broken download must begin again.
        blocks: the bytes.
    """

    start: int
    size_bytes: int | None
    version: str | None
    blocks: Iterator[bytes]


# Opens a file at an offset, if its version is unchanged. Raises TryAgainError for temporary errors, else SourceError.
OpenRemote = Callable[[int, str | None], AbstractContextManager[Remote]]


class TryAgainError(Exception):
    """A temporary error: another try may succeed.

    Args:
        reason: for the message.
        wait_seconds: how long the other side asks to wait; None if it does not say.
    """

    def __init__(self, reason: str, wait_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds


@dataclass(frozen=True)
class Patience:
    """How often and how long to wait after temporary errors.

    Args:
        num_tries: in a row, without a megabyte gained.
        first_wait_seconds: before the second try, with jitter of up to a half; doubled each time.
        longest_wait_seconds: bounds the waits, and what a server asks for.
        sleep: waits for a number of seconds.
    """

    num_tries: int = 5
    first_wait_seconds: float = 1.0
    longest_wait_seconds: float = 60.0
    sleep: Callable[[float], None] = time.sleep

    def wait(self, num_failures: int, asked_seconds: float | None) -> None:
        """Waits after so many failures in a row."""
        doubled = self.first_wait_seconds * 2 ** (num_failures - 1)
        # Jitter, so that many clients do not come back together.
        seconds = doubled * random.uniform(0.5, 1) if asked_seconds is None else asked_seconds
        self.sleep(min(seconds, self.longest_wait_seconds))


def persist(
    action: Callable[[], T], name: str, patience: Patience, num_bytes: Callable[[], int] = lambda: 0, rest: str = ""
) -> T:
    """Calls `action` until it does not raise TryAgainError.

    Args:
        action: what is tried.
        name: of the source, in messages.
        patience: how long.
        num_bytes: how many bytes have arrived so far; a gain starts the count of tries again.
        rest: ends the message after the last try.

    Raises:
        SourceError: the last try failed, or `action` raises it.
    """
    num_failures, most_bytes = 0, num_bytes()
    while True:
        try:
            return action()
        except TryAgainError as error:
            # Only new bytes count: a server that always begins again and breaks would be asked for ever.
            gained = num_bytes() >= most_bytes + BLOCK_BYTES
            most_bytes = max(most_bytes, num_bytes())
            num_failures = 1 if gained else num_failures + 1
            if num_failures >= patience.num_tries:
                raise SourceError(f"{name}: cannot be downloaded: {error}; try again later{rest}") from error
            log.warning("%s: %s; trying again", name, error)
            patience.wait(num_failures, error.wait_seconds)


class _Part:
    """A partly downloaded file, and its state."""

    def __init__(self, path: Path) -> None:
        self.path, self._state_path = path, path.with_name(f"{path.name}.json")

    def num_bytes(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def begin(self, remote: Remote) -> None:
        # The bytes first: a state without them is harmless, bytes with another version's state are not.
        self.path.unlink(missing_ok=True)
        write_json(self._state_path, {"version": remote.version, "size_bytes": remote.size_bytes})

    def resume_point(self) -> tuple[int, str | None]:
        version, _ = self._state()
        return (self.num_bytes(), version) if version else (0, None)

    def is_complete(self) -> bool:
        return self.path.exists() and self._state()[1] == self.num_bytes()

    def clear_left_overs(self) -> None:
        # Of a process that was killed while it wrote: only the holder of the lock writes.
        for left_over in self.path.parent.glob(f".{self.path.stem}.*.part"):
            left_over.unlink()

    def sync(self) -> None:
        with self.path.open("rb") as file:
            os.fsync(file.fileno())

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self._state_path.unlink(missing_ok=True)

    def _state(self) -> tuple[str | None, int | None]:
        try:
            state = json.loads(self._state_path.read_text(encoding="utf-8"))
            return state["version"], state["size_bytes"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None, None


def download(
    open_remote: OpenRemote,
    name: str,
    sha256: str,
    cache: Path,
    patience: Patience,
    *,
    size_bytes: int | None = None,
) -> Path:
    """Downloads a remote file into the cache, or finds it there.

    Args:
        open_remote: opens the remote file.
        name: of the source, in messages; holds no secrets.
        sha256: that the file must have.
        cache: the folder of the cache; made if there is none.
        patience: with a bad connection.
        size_bytes: what its size must be; None if unknown.

    Returns:
        The verified file, in the cache.

    Raises:
        SourceError: the file is unreachable, or has another sha256; then it is removed.
    """
    cache.mkdir(parents=True, exist_ok=True)
    whole, part = cache / sha256, _Part(cache / f"{sha256}.part")
    with FileLock(cache / f"{sha256}.lock"):
        if _is_in_cache(whole, sha256, name):
            return whole
        part.clear_left_overs()
        log.info("downloading %s", name)
        was_pieced = _fill(part, open_remote, name, size_bytes, patience)
        if was_pieced and sha256_of_file(part.path) != sha256:
            # The cause is a power failure, or a server that changed the file but not its version.
            log.warning("%s: the pieces of an interrupted download do not fit together; downloading it again", name)
            part.remove()
            _fill(part, open_remote, name, size_bytes, patience)
        _move_if_right(part, whole, sha256, name)
        return whole


def _is_in_cache(whole: Path, sha256: str, name: str) -> bool:
    if not whole.exists():
        return False
    if sha256_of_file(whole) == sha256:
        log.info("%s: is in the cache: %s", name, whole)
        return True
    log.warning("%s: its copy in the cache is damaged and is removed: %s", name, whole)
    whole.unlink()
    return False


def _fill(part: _Part, open_remote: OpenRemote, name: str, size_bytes: int | None, patience: Patience) -> bool:
    """Returns whether the file was put together from more than one piece."""
    was_pieced = False

    def go_on() -> None:
        nonlocal was_pieced
        if part.is_complete():
            was_pieced = True
            return
        with open_remote(*part.resume_point()) as remote:
            _check_size(remote, size_bytes, name)
            was_pieced = remote.start > 0
            if remote.start == 0:
                part.begin(remote)
            _check_room(part.path, remote, name)
            _append(part, remote, name, size_bytes)

    persist(go_on, name, patience, part.num_bytes, "; the downloaded part is kept, and the next run continues it")
    return was_pieced


def _append(part: _Part, remote: Remote, name: str, size_bytes: int | None) -> None:
    # An answer without a length may never end.
    known = size_bytes if remote.size_bytes is None else remote.size_bytes
    with (
        part.path.open("ab") as file,
        tqdm(
            desc=name.rpartition("/")[2][:40],
            total=known,
            initial=remote.start,
            unit="B",
            unit_scale=True,
            disable=not sys.stderr.isatty(),
        ) as bar,
    ):
        for block in remote.blocks:
            if known is not None and file.tell() + len(block) > known:
                part.remove()
                who = "are expected" if remote.size_bytes is None else "it announced"
                raise SourceError(f"{name}: sends more than the {known:,} bytes that {who}; name another address")
            file.write(block)
            bar.update(len(block))
    if remote.size_bytes is not None and part.num_bytes() != remote.size_bytes:
        raise TryAgainError(f"the connection broke after {part.num_bytes():,} of {remote.size_bytes:,} bytes")


def _check_size(remote: Remote, size_bytes: int | None, name: str) -> None:
    if None not in (size_bytes, remote.size_bytes) and size_bytes != remote.size_bytes:
        raise SourceError(
            f"{name}: has {remote.size_bytes:,} bytes, and {size_bytes:,} are expected: the file was changed, or this "
            "is a web page, such as a log-in; open the address in a browser"
        )


def _check_room(path: Path, remote: Remote, name: str) -> None:
    missing_bytes = (remote.size_bytes or 0) - remote.start
    if missing_bytes > (free := shutil.disk_usage(path.parent).free):
        raise SourceError(f"{name}: {missing_bytes:,} bytes are needed, and {path.parent} has {free:,} free; make room")


def _move_if_right(part: _Part, whole: Path, sha256: str, name: str) -> None:
    found = sha256_of_file(part.path)
    if found == sha256:
        # In one step: after a kill between two steps, the bytes would have a name that is never looked up.
        part.sync()
        part.path.replace(whole)
        part.remove()
        return
    with part.path.open("rb") as file:
        start = file.read(512).lstrip().lower()
    hint = "it is a web page, perhaps a log-in" if start.startswith((b"<!doctype", b"<html")) else ""
    part.remove()
    raise SourceError(other_content(name, found, sha256, hint))


def other_content(name: str, found: str, expected: str, hint: str = "") -> str:
    """The message of a file whose sha256 is not the expected one."""
    return (
        f"{name}: its content is not the expected one: its sha256 is {found}, and `sha256:` is {expected}"
        f"{f' ({hint})' if hint else ''}; get the file again, or, if you want the new content, write "
        f"`sha256: {found}` next to `source:`"
    )
