"""Brings a source in as it is found: a folder, an archive, or the https address of an archive."""

import logging
import lzma
import os
import shutil
import stat
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from segpipe.errors import SourceError
from segpipe.files import sha256_of_file

log = logging.getLogger(__name__)

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
TIMEOUT_SECONDS = 60
BLOCK_BYTES = 1 << 20


def source_name(source: str) -> str:
    """Names a source by its folder's or archive's name, archive suffix removed; `source` where there is no name."""
    name = PurePosixPath(urlsplit(source).path if "://" in source else source).name
    for suffix in sorted(ARCHIVE_SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
    return "source" if name in {"", ".."} else name


def fetch(source: str, sha256: str | None, output: Path) -> None:
    """Brings a source into a new folder.

    Args:
        source: path of a folder or an archive, or https:// address of an archive.
        sha256: what the archive must hash to; None for a folder, optional for a local archive.
        output: the folder to fill; must not exist.

    Raises:
        SourceError: missing, unreachable, of another content than the sha256, no archive, or one whose entries
            leave the folder.
    """
    if "://" in source:
        assert sha256 is not None, "the configuration asks for it"
        archive = output.with_name(f"{output.name}.archive")
        _download(source, archive)
        _check_sha256(archive, sha256, source)
        _extract(archive, output)
        archive.unlink()
        return
    path = Path(source)
    if path.is_dir():
        if sha256 is not None:
            raise SourceError(f"download.sha256 is of an archive, and {path} is a folder; remove one of the two")
        _copy_folder(path, output)
    elif path.is_file():
        if sha256 is not None:
            _check_sha256(path, sha256, source)
        _extract(path, output)
    else:
        raise SourceError(f"{path}: no such folder or archive; see download.source in params.yaml")


def _copy_folder(path: Path, output: Path) -> None:
    # Not shutil.copytree: on a full disk it would try every other file too, and then hide what the system said.
    for folder, _, names in os.walk(path, followlinks=True):
        target = output / Path(folder).relative_to(path)
        target.mkdir(parents=True, exist_ok=True)
        for name in names:
            try:
                shutil.copy2(Path(folder, name), target / name)
            except FileNotFoundError as error:
                raise SourceError(f"{Path(folder, name)}: is a link to nothing; remove it") from error


def _download(address: str, output: Path) -> None:
    log.info("downloading %s", address)
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_SECONDS) as response, output.open("wb") as file:
            if not response.url.startswith("https://"):
                raise SourceError(f"{address}: leads to {response.url}, which is not https; name another address")
            expected = response.headers.get("Content-Length")
            shutil.copyfileobj(response, file, BLOCK_BYTES)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise SourceError(f"{address}: cannot be downloaded: {error}; try again, or download it by hand") from error
    if expected is not None and output.stat().st_size != int(expected):
        got = output.stat().st_size
        raise SourceError(f"{address}: the connection broke after {got} of {expected} bytes; try again")


def _check_sha256(path: Path, expected: str, source: str) -> None:
    found = sha256_of_file(path)
    if found != expected:
        raise SourceError(
            f"{source}: has another content than expected: sha256 {found}, and download.sha256 says {expected}; "
            "get the file again, or mend the sha256 if the new content is meant"
        )


def _extract(archive: Path, output: Path) -> None:
    log.info("unpacking %s", archive.name)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                _refuse_unsafe(archive, (_describe_zip_entry(info) for info in zipped.infolist()))
                zipped.extractall(output)
        elif tarfile.is_tarfile(archive):
            with tarfile.open(archive) as tarred:
                _refuse_unsafe(archive, ((m.name, m.isfile() or m.isdir()) for m in tarred.getmembers()))
                tarred.extractall(output, filter="data")
                _read_to_end(tarred)
        else:
            raise SourceError(f"{archive}: is neither a folder nor an archive ({', '.join(ARCHIVE_SUFFIXES)})")
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the system's: no space, no permission. gzip and bz2 raise without a number for damaged content
        raise SourceError(f"{archive}: is damaged: {error}; get the file again") from error
    except RuntimeError as error:
        raise SourceError(f"{archive}: cannot be unpacked: {error}; make the archive anew, not encrypted") from error


def _read_to_end(archive: tarfile.TarFile) -> None:
    """Lets the decompressor see its check sum, which stands behind the last entry."""
    assert archive.fileobj is not None
    while archive.fileobj.read(BLOCK_BYTES):
        pass


def _describe_zip_entry(info: zipfile.ZipInfo) -> tuple[str, bool]:
    # orig_filename: ZipInfo cuts the name at a NUL and rewrites separators.
    kind = stat.S_IFMT(info.external_attr >> 16)
    return info.orig_filename, kind in {0, stat.S_IFREG, stat.S_IFDIR}


def _refuse_unsafe(archive: Path, entries: Iterable[tuple[str, bool]]) -> None:
    """Refuses an archive in which any (name, is plain file or folder) could write outside its folder."""
    wrong = []
    for name, is_plain in entries:
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or "\0" in name or (path.parts and ":" in path.parts[0]):
            wrong.append(f"{name!r} leaves the folder")
        elif not is_plain:
            wrong.append(f"{name!r} is a link or a device")
    if wrong:
        shown = "; ".join(wrong[:10]) + (f"; and {len(wrong) - 10} more" if len(wrong) > 10 else "")
        raise SourceError(f"{archive}: will not be unpacked: {shown}. Make the archive anew from plain files")


def hash_files(root: Path) -> dict[str, str]:
    """Gives the sha256 of each file below a folder, by its path within it, in order of the paths."""
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): sha256_of_file(path) for path in paths}
