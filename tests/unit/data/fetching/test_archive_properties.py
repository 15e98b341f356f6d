"""Archives of any names: nothing is written outside the folder, and what is unpacked is what was packed."""

from __future__ import annotations

import io
import tarfile
import tempfile
import warnings
import zipfile
from pathlib import Path, PurePosixPath

from hypothesis import strategies as st
from properties import holds_for_all

from segpipe.data.fetching.archive import unpack
from segpipe.errors import SourceError

# What paths are made of, and what programs stumble over.
PARTS = st.one_of(
    st.sampled_from(["a", "b", "A", "é", "e\u0301", "..", ".", "", "C:", "a\\b", "..\\x", "\0", "~", "-", "x" * 300]),
    st.text(st.characters(codec="utf-8"), max_size=6),
)
NAMES = st.lists(PARTS, min_size=1, max_size=4).map("/".join).filter(bool)
ENTRIES = st.lists(st.tuples(NAMES, st.binary(max_size=40)), min_size=1, max_size=5)


def write_zip(path: Path, entries: list[tuple[str, bytes]]) -> None:
    # zipfile warns of a name that it writes twice.
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings(action="ignore"):
        for name, content in entries:
            info = zipfile.ZipInfo("x")
            info.filename = name  # the constructor would cut it at a NUL
            archive.writestr(info, content)


def write_tar(path: Path, entries: list[tuple[str, bytes]], mode: str) -> None:
    with tarfile.open(path, mode) as archive:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def unpacked(archive: Path, output: Path) -> bool:
    try:
        unpack(archive, output)
    except SourceError as error:
        assert archive.name in str(error)
        return False
    return True


@holds_for_all(60, kind=st.sampled_from(["zip", "w:", "w:gz"]), entries=ENTRIES)
def test_an_archive_is_unpacked_exactly_or_refused(kind: str, entries: list[tuple[str, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        archive, output = folder / "packed/archive", folder / "output/data"
        for made in (archive.parent, output):
            made.mkdir(parents=True)
        write_zip(archive, entries) if kind == "zip" else write_tar(archive, entries, kind)
        packed = archive.read_bytes()

        is_unpacked = unpacked(archive, output)

        found = files_below(folder)
        assert found.pop("packed/archive") == packed
        assert all(path.startswith("output/data/") for path in found)
        if is_unpacked:
            expected = {
                PurePosixPath(entry.replace("\\", "/")).as_posix(): content
                for entry, content in entries
                if not (kind == "zip" and entry.endswith("/"))
            }
            assert files_below(output) == expected


@holds_for_all(
    40,
    link=st.sampled_from([tarfile.SYMTYPE, tarfile.LNKTYPE]),
    name=NAMES,
    target=NAMES,
    behind=NAMES,
)
def test_a_link_is_refused_wherever_it_leads(link: bytes, name: str, target: str, behind: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        archive, output = Path(folder) / "archive", Path(folder) / "output"
        output.mkdir()
        with tarfile.open(archive, "w") as tarred:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = link, target
            tarred.addfile(info)
            tarred.addfile(tarfile.TarInfo(f"{name}/{behind}"))
        assert not unpacked(archive, output)
        assert list(output.iterdir()) == []
