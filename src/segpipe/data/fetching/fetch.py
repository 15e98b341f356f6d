"""Fetches a source of any kind: a folder, an archive, an address of either, or a public set by its name."""

import errno
import logging
import os
import shutil
import stat
from pathlib import Path, PurePosixPath
from typing import NoReturn
from urllib.parse import urlsplit

from segpipe.addresses import redact
from segpipe.choices import nearest
from segpipe.data.fetching.archive import strip_suffix, unpack
from segpipe.data.fetching.filesystems import copy_remote_folder, no_sha256, open_remote_file
from segpipe.data.fetching.transfer import Patience, download, other_content
from segpipe.data.fetching.web import open_web_file
from segpipe.data.sources.public_sets import PublicArchive, PublicSet, find_public_set, public_set_names
from segpipe.errors import SourceError
from segpipe.files import sha256_of_file, whole_folder

log = logging.getLogger(__name__)

PUBLIC = "public:"
PATIENCE = Patience()


def source_name(source: str) -> str:
    """Names a source by its folder, archive, public set or .yaml file, without the suffix; otherwise `source`."""
    if source.startswith(PUBLIC):
        return source.removeprefix(PUBLIC)
    name = strip_suffix(PurePosixPath(urlsplit(source).path if "://" in source else source).name).removesuffix(".yaml")
    return "source" if name in {"", ".."} else name


def fetch(
    source: str,
    sha256: str | None,
    output: Path,
    *,
    cache: Path,
    allow_http: bool = False,
    patience: Patience = PATIENCE,
) -> None:
    """Copies a source into a new folder: all of it, or nothing.

    Args:
        source: path of a folder or an archive; https:// (or http://) address of an archive; address of a folder or an
            archive that fsspec reads (s3://, gs://, ssh://, ...); or public:NAME, a set of `public_sets`.
        sha256: that the archive must have; None for a folder, optional for a local archive and for a public set, for
            which segpipe mostly knows it.
        output: the folder to fill; must not exist.
        cache: the folder in which downloaded archives stay, so that a second run needs no network.
        allow_http: whether http:// and ftp:// are allowed.
        patience: with a bad connection.

    Raises:
        SourceError: the source is missing or unreachable, has another sha256, is no archive, or is unsafe.
    """
    with whole_folder(output) as temporary:
        if source.startswith(PUBLIC):
            _fetch_public(source.removeprefix(PUBLIC), sha256, temporary, cache, patience)
        elif "://" in source:
            _fetch_address(source, sha256, temporary, cache, allow_http, patience)
        else:
            _fetch_local(Path(source), sha256, temporary)


def _fetch_local(path: Path, sha256: str | None, output: Path) -> None:
    if path.is_dir():
        if sha256 is not None:
            raise SourceError(
                f"`sha256:` is for an archive, and {path} is a folder; remove `sha256:` or name an archive"
            )
        _copy_folder(path, output)
    elif path.is_file():
        if sha256 is not None and (found := sha256_of_file(path)) != sha256:
            raise SourceError(other_content(str(path), found, sha256))
        unpack(path, output)
    else:
        raise SourceError(f"{path}: no such folder or archive; see download.source and download.join in params.yaml")


def _copy_folder(path: Path, output: Path) -> None:
    # Not shutil.copytree: on a full disk it would try every other file too, and then hide what the system said.
    for folder, _, names in os.walk(path, followlinks=True, onerror=_refuse):
        below = Path(folder).relative_to(path)
        _refuse_circle(path, below)
        (output / below).mkdir(parents=True, exist_ok=True)
        for name in names:
            _refuse_special(Path(folder, name))
            shutil.copy2(Path(folder, name), output / below / name)


def _refuse(error: OSError) -> NoReturn:
    # os.walk alone skips such a folder without a message.
    raise SourceError(f"{error.filename}: cannot be listed: {error.strerror}; check its permissions") from error


def _refuse_circle(path: Path, below: Path) -> None:
    """Refuses a link to a folder that contains the link: the folder would be copied into itself."""
    real = (path / below).resolve()
    if any((path / parent).resolve().is_relative_to(real) for parent in below.parents):
        raise SourceError(f"{path / below}: is a link that leads in a circle; remove it")


def _refuse_special(file: Path) -> None:
    try:
        mode = file.stat().st_mode
    except FileNotFoundError as error:
        raise SourceError(f"{file}: is a link to a file that does not exist; remove it") from error
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise SourceError(f"{file}: is a link that leads in a circle; remove it") from error
    if not stat.S_ISREG(mode):
        # Reading a pipe waits for ever, and reading a device may never end.
        raise SourceError(f"{file}: is a pipe, a socket or a device, not a file; remove it")


def _fetch_address(
    address: str, sha256: str | None, output: Path, cache: Path, allow_http: bool, patience: Patience
) -> None:
    is_web = address.startswith(("https://", "http://"))
    if sha256 is not None:
        opener = open_web_file if is_web else open_remote_file
        open_remote = opener(address, allow_http=allow_http)
        unpack(download(open_remote, redact(address), sha256, cache, patience), output, name=redact(address))
    elif is_web:
        raise SourceError(no_sha256(address))
    else:
        copy_remote_folder(address, output, patience, allow_http=allow_http)


def _fetch_public(name: str, sha256: str | None, output: Path, cache: Path, patience: Patience) -> None:
    public = find_public_set(name)
    if public is None:
        raise SourceError(f"{PUBLIC}{name}: no such public set; {nearest(name, public_set_names())}")
    _check_public(public, sha256, cache)
    log.info("%s: licence: %s; please cite: %s", name, public.licence, public.citation)
    if public.note:
        log.info("%s: %s", name, public.note)
    for archive in public.archives:
        path = cache / archive.name
        if archive.address is not None:
            expected = archive.sha256 or sha256
            assert expected is not None, "checked above"
            # Some sets are offered by http only; the sha256 proves that the content is the published one.
            open_remote = open_web_file(archive.address, allow_http=archive.address.startswith("http://"))
            path = download(open_remote, archive.name, expected, cache, patience, size_bytes=archive.size_bytes)
        folder = output / archive.folder
        unpack(path, folder, name=archive.name)
        for inner in archive.inner:
            unpack(folder / inner, (folder / inner).parent, name=f"{archive.name}: {inner}")
            (folder / inner).unlink()


def _check_public(public: PublicSet, sha256: str | None, cache: Path) -> None:
    """Finds all that the user has to do, before anything is fetched."""
    problems = []
    unpinned = [archive for archive in public.archives if archive.address is not None and archive.sha256 is None]
    if unpinned and sha256 is None:
        names = ", ".join(redact(archive.address or "") for archive in unpinned)
        problems.append(f"the sha256 of {names} is not known to segpipe; give it as `sha256:` next to `source:`")
    elif sha256 is not None and len(unpinned) != 1:
        problems.append("segpipe knows the sha256 of its archives; remove `sha256:` next to `source:`")
    by_hand = [archive for archive in public.archives if archive.address is None]
    if missing := [archive for archive in by_hand if not (cache / archive.name).is_file()]:
        names = " and ".join(archive.name for archive in missing)
        problems.append(
            f"its licence needs a log-in: get {names} from {public.homepage} and put them into {cache}/; or unpack "
            f"them into one folder and name that folder in download.source, with download.format: {public.format}"
        )
    problems += [wrong for archive in by_hand if (wrong := _wrong_size(cache / archive.name, archive))]
    if problems:
        raise SourceError("\n".join(f"{PUBLIC}{public.name}: {problem}" for problem in problems))


def _wrong_size(path: Path, archive: PublicArchive) -> str | None:
    if not path.is_file() or archive.size_bytes in {None, path.stat().st_size}:
        return None
    return f"{path} has {path.stat().st_size:,} bytes, and {archive.size_bytes:,} are expected; get it again"


def hash_files(root: Path) -> dict[str, str]:
    """Gives the sha256 of each file below a folder, by its path within it, in order of the paths."""
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): sha256_of_file(path) for path in paths}
