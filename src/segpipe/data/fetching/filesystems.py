"""Opens files and copies folders that fsspec can reach: s3://, gs://, ssh://, sftp://, file:// and more.

Each backend finds its keys and endpoints in its usual places (AWS_* variables, ~/.ssh, FSSPEC_* variables).
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec

from segpipe.addresses import redact
from segpipe.data.fetching.archive import path_parts, refuse_unsafe
from segpipe.data.fetching.transfer import BLOCK_BYTES, OpenRemote, Patience, Remote, TryAgainError, persist
from segpipe.data.fetching.web import not_encrypted
from segpipe.errors import SourceError

CLOUD = "'segpipe[cloud]'"
PACKAGE_OF_PROTOCOL = {
    "gs": CLOUD,
    "gcs": CLOUD,
    "az": "adlfs",
    "abfs": "adlfs",
    "s3": CLOUD,
    "ssh": CLOUD,
    "sftp": CLOUD,
}
# The backends' names for the mark of a file's version, the surest first.
_VERSION_KEYS = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "mtime", "updated", "created")


def open_remote_file(address: str, *, allow_http: bool = False) -> OpenRemote:
    """Gives a function that opens a file at an offset, if its size and mark are still those of the version.

    Args:
        address: of a scheme that fsspec knows; may hold a user and a password.
        allow_http: whether ftp, which is not encrypted either, is allowed.

    Raises:
        SourceError: (when opened) plain ftp, or no package reads that scheme; or the file does not exist, may not be
            read, or is a folder.
    """

    @contextmanager
    def open_at(start: int, version: str | None) -> Iterator[Remote]:
        file_system, path = _connect(address, allow_http)
        with _errors_named(address):
            info = file_system.info(path)
        if info["type"] == "directory":
            name = redact(address)
            raise SourceError(
                f"`sha256:` is for an archive, and {name} is a folder; remove `sha256:` or name an archive"
            )
        with _errors_named(address):
            file = file_system.open(path, "rb")
        with file:
            found = _version_of(info)
            start = start if found == version and file.seekable() else 0
            file.seek(start)
            yield Remote(start, info.get("size"), found, _blocks_of(file, address))

    return open_at


def copy_remote_folder(address: str, output: Path, patience: Patience, *, allow_http: bool = False) -> None:
    """Copies a folder file by file; a file whose copy breaks is copied again.

    Args:
        address: of a scheme that fsspec knows.
        output: an existing folder.
        patience: for each file.
        allow_http: whether ftp, which is not encrypted either, is allowed.

    Raises:
        SourceError: plain ftp, no folder, an empty one, unreachable, or with names that leave it or collide.
    """
    name = redact(address)

    def list_files() -> tuple[Any, str, list[str]]:
        file_system, path = _connect(address, allow_http)
        with _errors_named(address):
            if file_system.info(path)["type"] != "directory":
                raise SourceError(no_sha256(address))
            return file_system, path, sorted(file_system.find(path))

    def copy(remote: str, local: Path) -> None:
        with _errors_named(address):
            file_system.get_file(remote, str(local))

    file_system, path, files = persist(list_files, name, patience)
    if not files:
        raise SourceError(f"{name}: is an empty folder; fix `source:`")
    names = [file.removeprefix(path.rstrip("/") + "/") for file in files]
    refuse_unsafe(name, ((below, False, None) for below in names))
    for file, below in zip(files, names, strict=True):
        local = output.joinpath(*path_parts(below))
        local.parent.mkdir(parents=True, exist_ok=True)
        persist(partial(copy, file, local), f"{name}: {below}", patience)


def no_sha256(address: str) -> str:
    """The message of an archive's address without a sha256."""
    return f"{redact(address)}: an archive's address needs `sha256:` next to `source:`, so that a change is noticed"


def _connect(address: str, allow_http: bool) -> tuple[Any, str]:
    name, scheme = redact(address), address.partition("://")[0]
    if "::" in address:
        raise SourceError(f"{name}: is a chain of addresses; name the file or folder itself")
    if scheme == "ftp" and not allow_http:
        raise SourceError(not_encrypted(name, "name an address of another kind"))
    try:
        fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        package = PACKAGE_OF_PROTOCOL.get(scheme, scheme)
        raise SourceError(
            f"{name}: {scheme}:// needs a package that is not installed ({error}); run `pip install {package}`"
        ) from error
    except ValueError as error:
        raise SourceError(f"{name}: no package reads {scheme}:// addresses; fix `source:`") from error
    with _errors_named(address):
        file_system, path = fsspec.core.url_to_fs(address)
        # The cached listing may be out of date.
        file_system.invalidate_cache()
        return file_system, path


def _version_of(info: dict[str, Any]) -> str | None:
    mark = next((str(info[key]) for key in _VERSION_KEYS if info.get(key) is not None), None)
    return None if mark is None else f"{mark} {info.get('size')}"


def _blocks_of(file: Any, address: str) -> Iterator[bytes]:
    while True:
        with _errors_named(address):
            block = file.read(BLOCK_BYTES)
        if not block:
            return
        yield block


@contextmanager
def _errors_named(address: str) -> Iterator[None]:
    name = redact(address)
    try:
        yield
    except (SourceError, TryAgainError):
        raise
    except FileNotFoundError as error:
        raise SourceError(f"{name}: no such file or folder; fix `source:`") from error
    except PermissionError as error:
        raise SourceError(f"{name}: may not be read: {_scrub(error, address)}; check the keys in use") from error
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}:
            raise  # of our own disk
        raise TryAgainError(_scrub(error, address)) from error
    except Exception as error:
        # Each backend has errors of its own: of botocore, asyncssh, google, ...
        what = f"{type(error).__name__}: {_scrub(error, address)}"
        raise SourceError(f"{name}: cannot be read: {what}; check the address and the keys in use") from error


def _scrub(error: Exception, address: str) -> str:
    """An error's text without the secrets of the address."""
    parts = urlsplit(address)
    text = str(error) or type(error).__name__
    for secret in (parts.netloc.rpartition("@")[0], parts.password, parts.query):
        text = text.replace(secret, "***") if secret else text
    return text
