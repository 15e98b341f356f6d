"""Files and folders that fsspec reaches, here in memory and on this disk."""

from __future__ import annotations

import errno
import hashlib
import math
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from segpipe.data.fetching import filesystems
from segpipe.data.fetching.filesystems import copy_remote_folder, open_remote_file
from segpipe.data.fetching.transfer import Patience, download
from segpipe.errors import SourceError

CONTENT = random.Random(0).randbytes(3 << 20)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FILES = {"images/a.png": b"a", "images/b.png": b"b", "dataset.yaml": b"classes"}


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryFileSystem]:
    """An empty memory://, whose files have a time of change that tells versions apart."""
    MemoryFileSystem.store.clear()
    yield MemoryFileSystem()
    MemoryFileSystem.store.clear()


@pytest.fixture
def patience() -> Patience:
    return Patience(num_tries=3, sleep=lambda _: None)


class _Breaking:
    """A file that notes where it is read from, and breaks once it has given a number of bytes."""

    def __init__(self, file: Any, offsets: list[int], left_bytes: float) -> None:
        self.file, self.offsets, self.left_bytes = file, offsets, left_bytes

    def __enter__(self) -> _Breaking:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int) -> None:
        self.offsets.append(offset)
        self.file.seek(offset)

    def read(self, num_bytes: int) -> bytes:
        if self.left_bytes <= 0:
            raise ConnectionResetError("reset")
        block: bytes = self.file.read(num_bytes)
        self.left_bytes -= len(block)
        return block


@pytest.fixture
def offsets(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Where each reading began; the first one breaks after a megabyte."""
    found: list[int] = []
    open_well = MemoryFileSystem.open

    def open_badly(self: MemoryFileSystem, path: str, mode: str = "rb", **options: Any) -> Any:
        file = open_well(self, path, mode, **options)
        return file if mode != "rb" else _Breaking(file, found, math.inf if found else 1 << 20)

    monkeypatch.setattr(MemoryFileSystem, "open", open_badly)
    return found


def test_a_broken_download_of_a_file_continues(
    memory: MemoryFileSystem, tmp_path: Path, patience: Patience, offsets: list[int]
) -> None:
    memory.pipe_file("/sets/a.zip", CONTENT)
    path = download(open_remote_file("memory://sets/a.zip"), "a", SHA256, tmp_path, patience)
    assert path.read_bytes() == CONTENT
    assert offsets == [0, 1 << 20]


def test_a_changed_file_begins_again(
    memory: MemoryFileSystem, tmp_path: Path, patience: Patience, offsets: list[int]
) -> None:
    memory.pipe_file("/sets/a.zip", bytes(len(CONTENT)))

    def change(seconds: float) -> None:
        memory.pipe_file("/sets/a.zip", CONTENT)

    changing = Patience(num_tries=3, sleep=change)
    path = download(open_remote_file("memory://sets/a.zip"), "a", SHA256, tmp_path, changing)
    assert path.read_bytes() == CONTENT
    assert offsets == [0, 0]


def test_a_file_of_this_disk(tmp_path: Path, patience: Patience) -> None:
    (tmp_path / "a.zip").write_bytes(CONTENT)
    path = download(open_remote_file(f"file://{tmp_path}/a.zip"), "a", SHA256, tmp_path / "cache", patience)
    assert path.read_bytes() == CONTENT


def test_a_folder_is_copied(memory: MemoryFileSystem, tmp_path: Path, patience: Patience) -> None:
    for name, content in FILES.items():
        memory.pipe_file(f"/sets/streets/{name}", content)
    memory.pipe_file("/sets/streets-2/other", b"")
    copy_remote_folder("memory://sets/streets", tmp_path / "out", patience)
    found = {p.relative_to(tmp_path / "out").as_posix(): p.read_bytes() for p in (tmp_path / "out").rglob("*.*")}
    assert found == FILES


def test_a_copy_that_breaks_is_tried_again(
    memory: MemoryFileSystem, tmp_path: Path, patience: Patience, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.pipe_file("/sets/streets/a", b"a")
    failures: list[Exception] = [TimeoutError("slow"), ConnectionResetError("reset")]
    copy_well = MemoryFileSystem.get_file

    def copy(self: MemoryFileSystem, *arguments: Any) -> None:
        if failures:
            raise failures.pop()
        copy_well(self, *arguments)

    monkeypatch.setattr(MemoryFileSystem, "get_file", copy)
    copy_remote_folder("memory://sets/streets", tmp_path / "out", patience)
    assert (tmp_path / "out/a").read_bytes() == b"a"


@pytest.mark.parametrize(("name", "message"), [("../../x", "leaves the folder"), ("C:x", "leaves the folder")])
def test_names_of_a_bucket_that_lead_out_are_refused(
    memory: MemoryFileSystem,
    tmp_path: Path,
    patience: Patience,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    message: str,
) -> None:
    """The keys of a bucket are any text."""
    memory.pipe_file("/sets/streets/a", b"a")
    monkeypatch.setattr(MemoryFileSystem, "find", lambda self, path: ["/sets/streets/a", f"/sets/streets/{name}"])
    with pytest.raises(SourceError, match=message):
        copy_remote_folder("memory://sets/streets", tmp_path / "out", patience)
    assert not (tmp_path / "out").exists()


def test_names_of_a_bucket_that_collide_are_refused(
    memory: MemoryFileSystem, tmp_path: Path, patience: Patience
) -> None:
    memory.pipe_file("/sets/streets/a.png", b"a")
    memory.pipe_file("/sets/streets/A.png", b"a")
    with pytest.raises(SourceError, match="only in capitals"):
        copy_remote_folder("memory://sets/streets", tmp_path / "out", patience)


def test_a_folder_and_a_file_are_told_apart(memory: MemoryFileSystem, tmp_path: Path, patience: Patience) -> None:
    memory.pipe_file("/sets/a.zip", CONTENT)
    with pytest.raises(SourceError, match=r"sets/a\.zip.*address.*`sha256:`.*`source:`"):
        copy_remote_folder("memory://sets/a.zip", tmp_path / "out", patience)
    with pytest.raises(SourceError, match=r"`sha256:`.*archive.*memory://sets"):
        download(open_remote_file("memory://sets"), "a", SHA256, tmp_path, patience)


def test_a_missing_file_or_folder(memory: MemoryFileSystem, tmp_path: Path, patience: Patience) -> None:
    with pytest.raises(SourceError, match=r"memory://sets/a\.zip.*no such"):
        download(open_remote_file("memory://sets/a.zip"), "a", SHA256, tmp_path, patience)
    with pytest.raises(SourceError, match=r"memory://sets.*no such"):
        copy_remote_folder("memory://sets", tmp_path / "out", patience)
    memory.mkdir("/empty")
    with pytest.raises(SourceError, match=r"memory://empty.*empty"):
        copy_remote_folder("memory://empty", tmp_path / "out", patience)


def test_a_scheme_that_no_package_reads(tmp_path: Path, patience: Patience) -> None:
    with pytest.raises(SourceError, match=r"gopher://.*addresses"):
        copy_remote_folder("gopher://server/a", tmp_path / "out", patience)


def test_a_package_that_is_missing_is_named(
    tmp_path: Path, patience: Patience, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(SourceError, match=r"gs://.*`pip install 'segpipe\[cloud\]'`"):
        copy_remote_folder("gs://bucket/a", tmp_path / "out", patience)


def test_a_chain_of_addresses_is_refused(tmp_path: Path, patience: Patience) -> None:
    """It would bypass the checks of web addresses."""
    with pytest.raises(SourceError, match=r"chain.*addresses"):
        copy_remote_folder("simplecache::http://10.0.0.1/a", tmp_path / "out", patience)


class _BackendError(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError("keys"), "may not be read: keys; check the keys in use"),
        (TimeoutError("slow"), "cannot be downloaded: slow; try again later"),
        (_BackendError("no credentials"), "cannot be read: _BackendError: no credentials; check the address"),
        (_BackendError("of me:pass-word, of pass-word"), r"_BackendError: of \*\*\*, of \*\*\*; check"),
    ],
)
def test_errors_of_a_backend(
    tmp_path: Path, patience: Patience, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def fail(address: str) -> None:
        raise error

    monkeypatch.setattr(filesystems.fsspec.core, "url_to_fs", fail)
    with pytest.raises(SourceError, match=message) as caught:
        copy_remote_folder("memory://me:pass-word@sets", tmp_path / "out", patience)
    assert "pass-word" not in str(caught.value)


def test_a_full_local_disk_is_an_error_of_the_system(
    memory: MemoryFileSystem, tmp_path: Path, patience: Patience, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.pipe_file("/sets/streets/a", b"a")

    def fill(self: MemoryFileSystem, *arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(MemoryFileSystem, "get_file", fill)
    with pytest.raises(OSError, match="No space left"):
        copy_remote_folder("memory://sets/streets", tmp_path / "out", patience)
