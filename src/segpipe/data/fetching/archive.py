"""Unpacks zip and tar archives, and refuses unsafe ones.

An archive is checked before anything is written: all names and sizes that it declares, and that its compressed stream
is complete. Then each file is written under the name that was checked, with no more bytes than were declared. Links and
devices are refused; owners, modes and times are not kept. Which attacks are prevented, and which are not:
docs/decisions/0019-threat-model-of-downloads.md.
"""

import bz2
import errno
import gzip
import io
import logging
import lzma
import shutil
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from segpipe.errors import SourceError

log = logging.getLogger(__name__)

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
MAX_ENTRIES_NAMED = 10
# The limit of common file systems, and one below the system's 4,096, so that the path of the output fits before it.
MAX_NAME_BYTES, MAX_PATH_BYTES = 255, 1024

_BLOCK_BYTES = 1 << 20
# A tar header is read into memory as a whole, and may declare any length.
_MAX_HEADER_BYTES = 16 << 20
_ENCRYPTED_FLAG = 1
_ZIP_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
_DECOMPRESSORS: dict[bytes, Callable[[Path], io.BufferedIOBase]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
_OTHER_FORMATS = {
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a rar archive",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
}
_DAMAGES = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    # From numbers and names of a damaged directory, which the libraries use unchecked.
    ValueError,
    IndexError,
    OverflowError,
)


@dataclass(frozen=True)
class _Entry:
    name: str
    is_folder: bool
    num_bytes: int
    fault: str | None
    open: Callable[[], IO[bytes]]


def strip_suffix(name: str) -> str:
    """Gives an archive's name without the suffix that says how it is packed."""
    longest_first = sorted(ARCHIVE_SUFFIXES, key=len, reverse=True)
    suffix = next((suffix for suffix in longest_first if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)]


def unpack(archive: Path, output: Path, *, name: str | None = None) -> None:
    """Unpacks an archive into a folder.

    Args:
        archive: a zip or tar (plain, gzip, bzip2, xz) file with any name.
        output: the folder; may exist and hold other files. If unpacking fails half-way it keeps what was written, so it
            should be a temporary one.
        name: what messages call the archive; its path if not given.

    Raises:
        SourceError: it is no archive, damaged, encrypted, packed by an unknown method, or too large for the disk; or an
            entry leaves the folder, is no plain file or folder, collides with another, or holds more than it declares.
        OSError: the system's: no space, no permission.
    """
    name = name or str(archive)
    log.info("unpacking %s", name)
    with _damages_named(name), _open_entries(archive, name) as (list_entries, read_to_end):
        entries, num_bytes = [], 0
        for entry in list_entries():
            # Checked before the next header is read: to reach it, a tar reader decompresses this entry.
            num_bytes += entry.num_bytes
            _check_room(name, num_bytes, output)
            entries.append(entry)
        for _ in read_to_end():
            pass
        refuse_unsafe(name, ((entry.name, entry.is_folder, entry.fault) for entry in entries))
        for entry in entries:
            _write_entry(entry, output, name)


def refuse_unsafe(name: str, entries: Iterable[tuple[str, bool, str | None]]) -> None:
    """Refuses names that leave their folder, and names that are the same file on some systems.

    Args:
        name: what the message calls the archive (or folder) that holds the entries.
        entries: the path of each, whether it is a folder, and its fault if one is known already.

    Raises:
        SourceError: with the first ten wrong entries, and how many more there are.
    """
    wrong: list[str] = []
    known: dict[str, tuple[str, bool]] = {}
    for path, is_folder, fault in entries:
        fault = fault or _fault_of_path(path) or _fault_of_collision(path_parts(path), is_folder, known)
        if fault is not None:
            wrong.append(f"{path!r} {fault}")
    if wrong:
        more = len(wrong) - MAX_ENTRIES_NAMED
        shown = "; ".join(wrong[:MAX_ENTRIES_NAMED]) + (f"; and {more:,} more" if more > 0 else "")
        raise SourceError(f"{name}: will not be unpacked: {shown}. Make the archive again from plain files")


def path_parts(path: str) -> list[str]:
    r"""Splits an entry's path at `/` and at `\`, which some programs write instead."""
    return [part for part in path.replace("\\", "/").split("/") if part not in {"", "."}]


def _fault_of_path(path: str) -> str | None:
    parts = path_parts(path)
    if path.startswith(("/", "\\")) or ".." in parts or "\0" in path or (parts and ":" in parts[0]):
        return "leaves the folder"
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        return "is not UTF-8"
    if max(sizes, default=0) > MAX_NAME_BYTES or sum(sizes) + len(sizes) > MAX_PATH_BYTES:
        return "has too long a name"
    return None


def _fault_of_collision(parts: list[str], is_folder: bool, known: dict[str, tuple[str, bool]]) -> str | None:
    for depth in range(1, len(parts) + 1):
        spelling, is_end = "/".join(parts[:depth]), depth == len(parts)
        needs_folder = is_folder or not is_end
        key = unicodedata.normalize("NFC", spelling).casefold()
        if key not in known:
            known[key] = spelling, needs_folder
            continue
        other, other_is_folder = known[key]
        if other != spelling:
            return f"differs from {other!r} only in capitals or in the form of its letters"
        if other_is_folder != needs_folder:
            return f"needs {other!r} to be both a file and a folder"
        if not needs_folder:
            return "is there twice"
    return None


def _check_room(name: str, num_bytes: int, output: Path) -> None:
    folder = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
    if num_bytes > (free := shutil.disk_usage(folder).free):
        raise SourceError(f"{name}: unpacks to {num_bytes:,} bytes, and {folder} has {free:,} free; make room")


def _write_entry(entry: _Entry, output: Path, name: str) -> None:
    path = output.joinpath(*path_parts(entry.name))
    try:
        if entry.is_folder:
            path.mkdir(parents=True, exist_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("xb")
    except (FileExistsError, NotADirectoryError) as error:
        raise SourceError(f"{name}: holds {entry.name!r}, which an earlier archive of the set holds too") from error
    with file, entry.open() as packed:
        while block := packed.read(_BLOCK_BYTES):
            if file.tell() + len(block) > entry.num_bytes:
                raise SourceError(f"{name}: is damaged: {entry.name!r} holds more than it declares; get the file again")
            file.write(block)


_Opened = tuple[Callable[[], Iterator[_Entry]], Callable[[], Iterator[bytes]]]


@contextmanager
def _open_entries(archive: Path, name: str) -> Iterator[_Opened]:
    """Gives a function that lists the entries, and one that reads the rest of the stream, to verify its checksum."""
    with archive.open("rb") as file:
        start = file.read(16)
    decompress = next((opened for magic, opened in _DECOMPRESSORS.items() if start.startswith(magic)), None)
    with ExitStack() as stack:
        if decompress is not None:
            stream = stack.enter_context(decompress(archive))
            tarred = stack.enter_context(_open_tar(stream, name))
            yield lambda: _list_tar(tarred), lambda: _blocks_of(stream)
        elif tarfile.is_tarfile(archive):
            # Tested before zip: a plain tar that ends with a zip looks like one.
            tarred = stack.enter_context(_open_tar(stack.enter_context(archive.open("rb")), name))
            yield lambda: _list_tar(tarred), lambda: iter(())
        elif zipfile.is_zipfile(archive):
            zipped = stack.enter_context(zipfile.ZipFile(archive))
            yield lambda: _list_zip(zipped), lambda: iter(())
        else:
            other = next((what for magic, what in _OTHER_FORMATS.items() if start.startswith(magic)), None)
            is_what = f"{other}, which cannot be read here" if other else "neither a folder nor an archive"
            raise SourceError(f"{name}: is {is_what}; give one of {', '.join(ARCHIVE_SUFFIXES)}")


class _Bounded(io.RawIOBase):
    """A stream that refuses to read more bytes at once than a header may have."""

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self._stream = stream

    def read(self, num_bytes: int = -1) -> bytes:
        if not 0 <= num_bytes <= _MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header says that it has {num_bytes:,} bytes")
        return self._stream.read(num_bytes)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._stream.tell()


def _open_tar(stream: io.BufferedIOBase, name: str) -> tarfile.TarFile:
    try:
        return tarfile.open(fileobj=_Bounded(stream), mode="r:")
    except tarfile.ReadError as error:
        what = f"its unpacked content is no tar: {error}"
        raise SourceError(f"{name}: is neither a folder nor an archive: {what}") from error


def _list_tar(tarred: tarfile.TarFile) -> Iterator[_Entry]:
    for member in tarred:
        if member.size < 0:
            # The search for the next header would go back to this one without an end (CVE-2025-8194).
            raise tarfile.ReadError(f"a header says that it has {member.size:,} bytes")
        is_plain = (member.isfile() or member.isdir()) and not member.issparse()
        fault = None if is_plain else "is a link or a device"
        yield _Entry(member.name, member.isdir(), member.size, fault, _tar_opener(tarred, member))


def _tar_opener(tarred: tarfile.TarFile, member: tarfile.TarInfo) -> Callable[[], IO[bytes]]:
    def open_member() -> IO[bytes]:
        file = tarred.extractfile(member)
        assert file is not None, "links and devices were refused"
        return file

    return open_member


def _list_zip(zipped: zipfile.ZipFile) -> Iterator[_Entry]:
    for info in zipped.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        fault = None
        if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
            fault = "is a link or a device"
        elif info.flag_bits & _ENCRYPTED_FLAG:
            fault = "is encrypted"
        elif info.compress_type not in _ZIP_METHODS:
            fault = f"is packed by method {info.compress_type}, which cannot be read here (deflate can)"
        # orig_filename: ZipInfo cuts the name at a NUL and rewrites separators.
        name = info.orig_filename
        yield _Entry(name, name.endswith(("/", "\\")), info.file_size, fault, _zip_opener(zipped, info))


def _zip_opener(zipped: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], IO[bytes]]:
    return lambda: zipped.open(info)


def _blocks_of(stream: io.BufferedIOBase) -> Iterator[bytes]:
    while block := stream.read(_BLOCK_BYTES):
        yield block


@contextmanager
def _damages_named(name: str) -> Iterator[None]:
    try:
        yield
    except (*_DAMAGES, OSError) as error:
        # Errors without a number are gzip's and bz2's for damaged content; EINVAL is a seek to an impossible place.
        if isinstance(error, OSError) and error.errno not in {None, errno.EINVAL}:
            raise
        raise SourceError(f"{name}: is damaged: {error or type(error).__name__}; get the file again") from error
    except RuntimeError as error:
        raise SourceError(f"{name}: cannot be unpacked: {error}; make the archive again, not encrypted") from error
