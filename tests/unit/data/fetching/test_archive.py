"""Good, damaged and harmful archives."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import re
import stat
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from segpipe.data.fetching import archive as archive_module
from segpipe.data.fetching.archive import strip_suffix, unpack
from segpipe.errors import SourceError

FILES = {"images/a.txt": b"image", "images/b.txt": b"", "dataset.yaml": b"classes"}


def write_zip(path: Path, entries: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
        for name, target in (links or {}).items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, target)
    return path


def write_tar(
    path: Path, entries: dict[str, bytes], links: dict[str, str] | None = None, kind: bytes = tarfile.SYMTYPE
) -> Path:
    compression = path.suffix.removeprefix(".")
    with tarfile.open(path, f"w:{compression if compression in {'gz', 'bz2', 'xz'} else ''}") as archive:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    return path


def write_repeated(path: Path, entries: list[tuple[str, bytes]]) -> Path:
    """Like the two above, with names that are there twice."""
    if path.suffix == ".zip":
        # zipfile warns of a name that it writes twice.
        with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings(action="ignore"):
            for name, content in entries:
                archive.writestr(zipfile.ZipInfo(name), content)
        return path
    with tarfile.open(path, "w") as archive:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            archive.addfile(info, io.BytesIO(content))
    return path


WRITERS: dict[str, Callable[..., Path]] = {
    "a.zip": write_zip,
    "a.tar": write_tar,
    "a.tar.gz": write_tar,
    "a.tar.bz2": write_tar,
    "a.tar.xz": write_tar,
}
each_archive = pytest.mark.parametrize("name", WRITERS)
zip_and_tar = pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    ("name", "bare"),
    [
        ("streets.tar.gz", "streets"),
        ("streets.v2.ZIP", "streets.v2"),
        ("a.tgz", "a"),
        ("a.gz", "a.gz"),
        ("data", "data"),
    ],
)
def test_strip_suffix(name: str, bare: str) -> None:
    assert strip_suffix(name) == bare


@each_archive
def test_an_archive_is_unpacked(tmp_path: Path, name: str) -> None:
    unpack(WRITERS[name](tmp_path / name, FILES), tmp_path / "out")
    assert contents(tmp_path / "out") == FILES


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_negative_size_does_not_lead_in_a_circle(tmp_path: Path, name: str, is_first: bool) -> None:
    """tarfile of Python 3.11.7 looks for the next header where this one began (CVE-2025-8194)."""
    before, wrong = tarfile.TarInfo("before"), tarfile.TarInfo("wrong")
    wrong.size = -512
    headers = ([] if is_first else [before]) + [wrong]
    content = b"".join(header.tobuf(tarfile.GNU_FORMAT) for header in headers) + bytes(1024)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    with pytest.raises(SourceError, match=r"a\.tar.*damaged.*-512 bytes"):
        unpack(tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_name_of_the_file_does_not_matter(tmp_path: Path) -> None:
    for name in WRITERS:
        path = WRITERS[name](tmp_path / name, FILES)
        unpack(path.rename(tmp_path / "0123abcd"), tmp_path / f"out-{name}")
        assert contents(tmp_path / f"out-{name}") == FILES


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path: Path) -> None:
    inner = write_zip(tmp_path / "inner.zip", {"x": b"x"}).read_bytes()
    unpack(write_tar(tmp_path / "a.tar", {"a.txt": b"a", "inner.zip": inner}), tmp_path / "out")
    assert contents(tmp_path / "out") == {"a.txt": b"a", "inner.zip": inner}


def test_backslashes_separate_folders_as_slashes_do(tmp_path: Path) -> None:
    entries = {"images\\": b"", "images\\a.txt": b"a", "./b.txt": b"b"}
    unpack(write_zip(tmp_path / "a.zip", entries), tmp_path / "out")
    assert contents(tmp_path / "out") == {"images/a.txt": b"a", "b.txt": b"b"}


def test_modes_and_folders_are_ours(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind in {".": tarfile.DIRTYPE, "d": tarfile.DIRTYPE, "d/f": tarfile.REGTYPE}.items():
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.uid = kind, 0o4777 if kind == tarfile.REGTYPE else 0, 12345
            archive.addfile(info, io.BytesIO())
    unpack(tmp_path / "a.tar", tmp_path / "out")
    assert (tmp_path / "out/d/f").stat().st_mode & 0o7111 == 0
    assert (tmp_path / "out/d").stat().st_mode & 0o700 == 0o700


def test_a_second_archive_joins_the_first_but_replaces_nothing(tmp_path: Path) -> None:
    unpack(write_zip(tmp_path / "a.zip", {"images/a": b"a"}), tmp_path / "out")
    unpack(write_zip(tmp_path / "b.zip", {"images/b": b"b"}), tmp_path / "out")
    assert contents(tmp_path / "out") == {"images/a": b"a", "images/b": b"b"}
    for entry in ("images/a", "images"):
        with pytest.raises(SourceError, match=rf"c\.zip: holds '{entry}', which an earlier archive"):
            unpack(write_zip(tmp_path / "c.zip", {entry: b"c"}), tmp_path / "out")
    with pytest.raises(SourceError, match="which an earlier archive"):
        unpack(write_zip(tmp_path / "d.zip", {"images/a/d": b"d"}), tmp_path / "out")


@zip_and_tar
@pytest.mark.parametrize("entry", ["../x", "a/../../x", "/x", "..\\x", "\\x", "C:/x", "C:\\x", "C:x", "a/..", ".."])
def test_an_entry_that_leaves_the_folder_is_refused_before_anything_is_written(
    tmp_path: Path, name: str, entry: str
) -> None:
    path = WRITERS[name](tmp_path / name, {"first.txt": b"x", entry: b"x"})
    with pytest.raises(SourceError, match=r"unpacked.*leaves"):
        unpack(path, tmp_path / "out")
    assert [p.name for p in tmp_path.rglob("*")] == [name]


def test_a_name_with_a_nul_is_refused(tmp_path: Path) -> None:
    """The name would be cut at the NUL: the checked name is not the written one."""
    path = write_zip(tmp_path / "a.zip", {"a?b": b"x"})
    path.write_bytes(path.read_bytes().replace(b"a?b", b"a\0b"))
    with pytest.raises(SourceError, match="leaves the folder"):
        unpack(path, tmp_path / "out")


@zip_and_tar
@pytest.mark.parametrize("entry", ["n" * 256, "é" * 128, "/".join(["name"] * 300)], ids=["name", "bytes", "path"])
def test_too_long_a_name_is_refused(tmp_path: Path, name: str, entry: str) -> None:
    with pytest.raises(SourceError, match=r"long.*name"):
        unpack(WRITERS[name](tmp_path / name, {entry: b"x"}), tmp_path / "out")


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("a\udcff"))
    with pytest.raises(SourceError, match="is not UTF-8"):
        unpack(tmp_path / "a.tar", tmp_path / "out")


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_zip(path, FILES, links={"link": "/etc/passwd"}),
        lambda path: write_tar(path, FILES, links={"link": "/etc/passwd"}),
        lambda path: write_tar(path, FILES, links={"link": "images/a.txt"}),
        lambda path: write_tar(path, FILES, links={"link": "images/a.txt"}, kind=tarfile.LNKTYPE),
        lambda path: write_tar(path, FILES, links={"pipe": ""}, kind=tarfile.FIFOTYPE),
        lambda path: write_tar(path, FILES, links={"device": ""}, kind=tarfile.CHRTYPE),
        lambda path: write_tar(path, FILES, links={"disk": ""}, kind=tarfile.BLKTYPE),
        lambda path: write_tar(path, FILES, links={"sparse": ""}, kind=tarfile.GNUTYPE_SPARSE),
    ],
    ids=["zip symlink", "symlink", "inner symlink", "hard link", "pipe", "device", "disk", "sparse"],
)
def test_links_and_devices_are_refused(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    with pytest.raises(SourceError, match=r"link.*device"):
        unpack(write(tmp_path / "a"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (["a", "a"], "'a' is there twice"),
        (["a", "./a"], "'./a' is there twice"),
        (["a/b", "a\\b"], "is there twice"),
        (["IMG.png", "img.png"], "'img.png' differs from 'IMG.png' only in capitals"),
        (["Train/a", "train/b"], "'train/b' differs from 'Train' only in capitals"),
        (["caf\u00e9", "cafe\u0301"], "differs from 'caf\u00e9' only in capitals or in the form of its letters"),
        (["stra\u00dfe", "STRASSE"], "only in capitals"),
        (["a", "a/b"], "'a/b' needs 'a' to be both a file and a folder"),
        (["a/b", "a"], "'a' needs 'a' to be both a file and a folder"),
        (["a/", "a"], "needs 'a' to be both"),
    ],
)
def test_names_that_collide_are_refused(tmp_path: Path, name: str, entries: list[str], message: str) -> None:
    path = write_repeated(tmp_path / name, [(entry, b"") for entry in entries])
    with pytest.raises(SourceError, match=re.escape(message)):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folders_may_be_there_twice(tmp_path: Path) -> None:
    unpack(write_repeated(tmp_path / "a.tar", [("a/", b""), ("a/", b""), ("a/b", b"b"), ("a/", b"")]), tmp_path / "out")
    assert contents(tmp_path / "out") == {"a/b": b"b"}


def test_of_many_wrong_entries_ten_are_named(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {f"../{i}": b"" for i in range(13)})
    with pytest.raises(SourceError, match=r"'\.\./9' leaves the folder.*3 more"):
        unpack(path, tmp_path / "out")


def test_a_file_gets_no_more_bytes_than_it_declares(tmp_path: Path) -> None:
    """A header may declare less than there is; today's libraries notice it, later ones may not."""
    entry = archive_module._Entry("a", False, 1000, None, lambda: io.BytesIO(bytes(5000)))
    with pytest.raises(SourceError, match=r"'a'.*declares"):
        archive_module._write_entry(entry, tmp_path, "a.tar")
    assert (tmp_path / "a").stat().st_size == 0


def test_a_zip_that_declares_less_than_it_holds_is_damaged(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"a": bytes(100_000)})
    path.write_bytes(path.read_bytes().replace(struct.pack("<L", 100_000), struct.pack("<L", 100)))
    with pytest.raises(SourceError, match="is damaged"):
        unpack(path, tmp_path / "out")


def test_a_tar_whose_header_claims_gigabytes_is_not_read_into_memory(tmp_path: Path) -> None:
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 1 << 34
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20)))
    with pytest.raises(SourceError, match=r"header.*17,179,869,184 bytes"):
        unpack(path, tmp_path / "out")


@zip_and_tar
def test_an_archive_for_which_there_is_no_room_is_refused_before_it_is_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    class Usage:
        free = 11

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage)
    with pytest.raises(SourceError, match=r"12 bytes.*11 free"):
        unpack(WRITERS[name](tmp_path / name, FILES), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def _damage(path: Path, at: float, num_bytes: int = 8) -> None:
    content = bytearray(path.read_bytes())
    start = int(len(content) * at)
    content[start : start + num_bytes] = bytes(byte ^ 0xFF for byte in content[start : start + num_bytes])
    path.write_bytes(content)


NOISE = {f"{i}.bin": random.Random(i).randbytes(20_000) for i in range(3)}


@pytest.mark.parametrize("at", [0.05, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.tar.bz2", "a.tar.xz"])
def test_a_damaged_archive_is_named(tmp_path: Path, name: str, at: float) -> None:
    path = WRITERS[name](tmp_path / name, NOISE)
    _damage(path, at)
    with pytest.raises(SourceError, match=r"a\.\S+ is (damaged|neither)"):
        unpack(path, tmp_path / "out")


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tar.bz2", "a.tar.xz"])
def test_a_damaged_end_of_a_compressed_tar_is_noticed_before_anything_is_written(tmp_path: Path, name: str) -> None:
    """The checksum is after the last entry, in a part that unpacking need not read."""
    path = WRITERS[name](tmp_path / name, NOISE)
    _damage(path, 1 - 6 / path.stat().st_size)
    with pytest.raises(SourceError, match="is damaged"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("share", [0.3, 0.99])
@each_archive
def test_a_truncated_archive_is_named(tmp_path: Path, name: str, share: float) -> None:
    path = WRITERS[name](tmp_path / name, NOISE)
    content = path.read_bytes()
    # A tar ends with empty blocks, without which it is whole too.
    end = len(content) - 12_000 if name == "a.tar" else len(content)
    path.write_bytes(content[: int(end * share)])
    with pytest.raises(SourceError, match=r"is (damaged|neither)"):
        unpack(path, tmp_path / "out")


@each_archive
def test_any_flipped_byte_gives_a_message_or_the_right_files(tmp_path: Path, name: str) -> None:
    """No crash, no hang, and where a check sum protects the content, never another content."""
    content = WRITERS[name](tmp_path / name, FILES).read_bytes()
    chance = random.Random(0)
    for number in range(25):
        damaged = bytearray(content)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        (tmp_path / name).write_bytes(damaged[: chance.choice([len(damaged), chance.randrange(1, len(damaged))])])
        output = tmp_path / f"out{number}"
        try:
            unpack(tmp_path / name, output)
        except SourceError:
            continue
        found = set(contents(output).values()) if output.exists() else set()
        assert name == "a.tar" or found <= set(FILES.values())


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (b"text", r"is neither a folder nor an archive; give one of \.zip"),
        (b"", "is neither a folder nor an archive"),
        (b"7z\xbc\xaf\x27\x1c", "is a 7z archive, which cannot be read here"),
        (b"Rar!\x1a\x07\x00", "is a rar archive"),
        (b"\x28\xb5\x2f\xfd", "is compressed by zstd"),
        (gzip.compress(b"one file " * 200), "its unpacked content is no tar"),
        (bz2.compress(b"one file " * 200), "its unpacked content is no tar"),
        (lzma.compress(b"one file " * 200), "its unpacked content is no tar"),
        (gzip.compress(b""), "its unpacked content is no tar"),
    ],
    ids=["text", "empty", "7z", "rar", "zstd", "gz", "bz2", "xz", "empty gz"],
)
def test_a_file_that_is_no_archive_is_named(tmp_path: Path, start: bytes, message: str) -> None:
    (tmp_path / "a").write_bytes(start)
    with pytest.raises(SourceError, match=message):
        unpack(tmp_path / "a", tmp_path / "out")


@pytest.mark.parametrize(
    ("offset_local", "offset_directory", "value", "message"),
    [(6, 8, 1, "'a' is encrypted"), (8, 10, 9, "'a' is packed by method 9, which cannot be read here")],
)
def test_a_zip_that_python_cannot_read_is_named(
    tmp_path: Path, offset_local: int, offset_directory: int, value: int, message: str
) -> None:
    path = write_zip(tmp_path / "a.zip", {"a": b"x"})
    content = bytearray(path.read_bytes())
    content[offset_local] = value
    content[content.index(b"PK\x01\x02") + offset_directory] = value
    path.write_bytes(content)
    with pytest.raises(SourceError, match=message):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
