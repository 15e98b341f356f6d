"""Sources as they come in: folders, archives, addresses, and archives that mean harm. No test uses the network."""

from __future__ import annotations

import email.message
import hashlib
import io
import random
import stat
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from segpipe.data.fetch import fetch, hash_files, source_name
from segpipe.errors import SourceError

FILES = {"images/a.txt": b"image", "dataset.yaml": b"classes"}
ADDRESS = "https://example.org/streets.zip"


def _write_zip(path: Path, entries: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(name), content)
        for name, target in (links or {}).items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, target)
    return path


def _write_tar(
    path: Path, entries: dict[str, bytes], links: dict[str, str] | None = None, kind: bytes = tarfile.SYMTYPE
) -> Path:
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    return path


WRITERS = {"a.zip": _write_zip, "a.tar": _write_tar, "a.tar.gz": _write_tar}
each_archive = pytest.mark.parametrize("name", WRITERS)


def _contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("data", "data"),
        ("some/folder/", "folder"),
        ("a/streets.tar.gz", "streets"),
        ("streets.v2.zip", "streets.v2"),
        (ADDRESS, "streets"),
    ],
)
def test_source_name(source: str, name: str) -> None:
    assert source_name(source) == name


def test_a_folder_is_copied(tmp_path: Path) -> None:
    (tmp_path / "in" / "images").mkdir(parents=True)
    for name, content in FILES.items():
        (tmp_path / "in" / name).write_bytes(content)
    fetch(str(tmp_path / "in"), None, tmp_path / "out")
    assert _contents(tmp_path / "out") == FILES
    assert hash_files(tmp_path / "out") == {name: hashlib.sha256(FILES[name]).hexdigest() for name in sorted(FILES)}


def test_a_folder_has_no_sha256(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(SourceError, match=r"download.sha256 is of an archive, and .*in is a folder"):
        fetch(str(tmp_path / "in"), "0" * 64, tmp_path / "out")


@each_archive
def test_an_archive_is_unpacked(tmp_path: Path, name: str) -> None:
    path = WRITERS[name](tmp_path / name, FILES)
    for number, sha256 in enumerate([None, hashlib.sha256(path.read_bytes()).hexdigest()]):
        fetch(str(path), sha256, tmp_path / f"out{number}")
        assert _contents(tmp_path / f"out{number}") == FILES


@each_archive
def test_another_content_than_the_sha256_is_refused(tmp_path: Path, name: str) -> None:
    path = WRITERS[name](tmp_path / name, FILES)
    with pytest.raises(SourceError, match=r"has another content than expected: sha256 .* get the file again"):
        fetch(str(path), "0" * 64, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@each_archive
@pytest.mark.parametrize("entry", ["../x", "a/../../x", "/x", "..\\x", "\\x", "C:/x", "C:\\x", "a/.."])
def test_an_entry_that_leaves_the_folder_is_refused_before_anything_is_written(
    tmp_path: Path, name: str, entry: str
) -> None:
    (tmp_path / "inside").mkdir()
    path = WRITERS[name](tmp_path / "inside" / name, {"first.txt": b"x", entry: b"x"})
    with pytest.raises(SourceError, match=r"will not be unpacked: .* leaves the folder"):
        fetch(str(path), None, tmp_path / "inside" / "out")
    assert [p.name for p in tmp_path.rglob("*")] == ["inside", name]


def test_a_name_with_a_nul_is_refused(tmp_path: Path) -> None:
    """What follows the NUL would be cut off: the name that was checked is not the one that is written."""
    path = _write_zip(tmp_path / "a.zip", {"a?b": b"x"})
    path.write_bytes(path.read_bytes().replace(b"a?b", b"a\0b"))
    with pytest.raises(SourceError, match="leaves the folder"):
        fetch(str(path), None, tmp_path / "out")


@pytest.mark.parametrize(
    "write",
    [
        lambda path: _write_zip(path, FILES, links={"link": "/etc/passwd"}),
        lambda path: _write_tar(path, FILES, links={"link": "/etc/passwd"}),
        lambda path: _write_tar(path, FILES, links={"link": "images/a.txt"}),
        lambda path: _write_tar(path, FILES, links={"link": "/etc/passwd"}, kind=tarfile.LNKTYPE),
        lambda path: _write_tar(path, FILES, links={"pipe": ""}, kind=tarfile.FIFOTYPE),
        lambda path: _write_tar(path, FILES, links={"device": ""}, kind=tarfile.CHRTYPE),
    ],
    ids=["zip symlink", "tar symlink", "tar inner symlink", "tar hard link", "tar pipe", "tar device"],
)
def test_links_and_devices_are_refused(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    path = write(tmp_path / "a")
    with pytest.raises(SourceError, match="is a link or a device"):
        fetch(str(path), None, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_of_many_unsafe_entries_ten_are_named(tmp_path: Path) -> None:
    path = _write_tar(tmp_path / "a.tar", {f"../{i}": b"" for i in range(13)})
    with pytest.raises(SourceError, match=r"'\.\./9' leaves the folder; and 3 more\. Make the archive anew"):
        fetch(str(path), None, tmp_path / "out")


def _damage(path: Path, at: float, num_bytes: int = 8) -> None:
    content = bytearray(path.read_bytes())
    start = int(len(content) * at)
    content[start : start + num_bytes] = bytes(byte ^ 0xFF for byte in content[start : start + num_bytes])
    path.write_bytes(content)


NOISE = {f"{i}.bin": random.Random(i).randbytes(20_000) for i in range(3)}


@pytest.mark.parametrize("at", [0.05, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_a_damaged_archive_is_named(tmp_path: Path, name: str, at: float) -> None:
    path = WRITERS[name](tmp_path / name, NOISE)
    _damage(path, at)
    with pytest.raises(SourceError, match=r"a\.\S+ is (damaged|neither)"):
        fetch(str(path), None, tmp_path / "out")


@pytest.mark.parametrize("share", [0.3, 0.99])
@each_archive
def test_a_truncated_archive_is_named(tmp_path: Path, name: str, share: float) -> None:
    path = WRITERS[name](tmp_path / name, NOISE)
    content = path.read_bytes()
    # A tar ends with empty blocks, without which it is whole too.
    end = len(content) - 12_000 if name == "a.tar" else len(content)
    path.write_bytes(content[: int(end * share)])
    with pytest.raises(SourceError, match=r"is (damaged|neither)"):
        fetch(str(path), None, tmp_path / "out")


def test_an_encrypted_archive_is_named(tmp_path: Path) -> None:
    path = _write_zip(tmp_path / "a.zip", {"a": b"x"})
    content = bytearray(path.read_bytes())
    content[6] |= 1  # 'encrypted' in the local header ...
    content[content.index(b"PK\x01\x02") + 8] |= 1  # ... and in the directory
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"a\.zip"):
        fetch(str(path), None, tmp_path / "out")


def test_neither_folder_nor_archive(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(SourceError, match="is neither a folder nor an archive"):
        fetch(str(tmp_path / "a.txt"), None, tmp_path / "out")
    with pytest.raises(SourceError, match=r"no such folder or archive; see download\.source in params\.yaml"):
        fetch(str(tmp_path / "nothing"), None, tmp_path / "out")


class _Response(io.BytesIO):
    def __init__(self, content: bytes, url: str, length: int | None) -> None:
        super().__init__(content)
        self.url = url
        self.headers = email.message.Message()
        if length is not None:
            self.headers["Content-Length"] = str(length)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Answers the next request."""

    def serve(content: bytes, url: str = ADDRESS, length: int | None = None) -> None:
        monkeypatch.setattr(urllib.request, "urlopen", lambda address, timeout: _Response(content, url, length))

    return serve


@pytest.mark.parametrize("has_length", [True, False])
def test_an_address_is_downloaded_checked_and_unpacked(
    tmp_path: Path, serve: Callable[..., None], has_length: bool
) -> None:
    content = _write_zip(tmp_path / "a.zip", FILES).read_bytes()
    serve(content, length=len(content) if has_length else None)
    (tmp_path / "raw").mkdir()
    fetch(ADDRESS, hashlib.sha256(content).hexdigest(), tmp_path / "raw" / "streets")
    assert _contents(tmp_path / "raw" / "streets") == FILES
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["streets"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({}, "has another content than expected"),
        ({"length": 100}, "the connection broke after 7 of 100 bytes; try again"),
        ({"url": "http://example.org/a.zip"}, "leads to http://example.org/a.zip, which is not https"),
    ],
)
def test_a_bad_answer(tmp_path: Path, serve: Callable[..., None], answer: dict[str, object], message: str) -> None:
    serve(b"content", **answer)
    with pytest.raises(SourceError, match=message):
        fetch(ADDRESS, "0" * 64, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "error", [urllib.error.URLError("no route"), TimeoutError("slow"), ConnectionResetError("cut")]
)
def test_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(address: str, timeout: float) -> None:
        raise error

    monkeypatch.setattr(urllib.request, "urlopen", fail)
    with pytest.raises(SourceError, match=r"cannot be downloaded: .*; try again"):
        fetch(ADDRESS, "0" * 64, tmp_path / "out")
