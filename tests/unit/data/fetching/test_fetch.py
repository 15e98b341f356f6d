"""Fetching sources: folders, archives, addresses, public sets."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
from facts import missing
from fsspec.implementations.memory import MemoryFileSystem
from web_server import Served, breaks_after, says, serve

from segpipe.data.fetching import fetch as fetch_module
from segpipe.data.fetching.fetch import fetch, hash_files, source_name
from segpipe.data.fetching.transfer import Patience
from segpipe.data.sources.public_sets import PublicArchive, PublicSet, find_public_set
from segpipe.errors import SourceError

FILES = {"images/a.txt": b"image", "dataset.yaml": b"classes"}


def _zip(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


ARCHIVE = _zip(FILES)


@pytest.fixture
def server() -> Iterator[Served]:
    with serve(Served(ARCHIVE)) as served:
        yield served


@pytest.fixture
def bring(tmp_path: Path) -> Callable[..., dict[str, bytes]]:
    """Fetches a source and gives its files; without waiting."""

    def bring(source: str, sha256: str | None = None, allow_http: bool = True) -> dict[str, bytes]:
        output = tmp_path / "raw" / source_name(source)
        patience = Patience(num_tries=3, sleep=lambda _: None)
        fetch(source, sha256, output, cache=tmp_path / "cache", allow_http=allow_http, patience=patience)
        return _contents(output)

    return bring


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("data", "data"),
        ("some/folder/", "folder"),
        ("a/streets.tar.gz", "streets"),
        ("streets.v2.zip", "streets.v2"),
        ("https://example.org/streets.zip", "streets"),
        ("https://example.org/streets.zip?token=secret", "streets"),
        ("https://example.org", "source"),
        ("s3://bucket/sets/streets", "streets"),
        ("public:voc2012", "voc2012"),
        ("sources/streets.yaml", "streets"),
        ("..", "source"),
    ],
)
def test_source_name(source: str, name: str) -> None:
    assert source_name(source) == name


def test_a_folder_is_copied(tmp_path: Path, bring: Callable[..., dict[str, bytes]]) -> None:
    (tmp_path / "in" / "images").mkdir(parents=True)
    for name, content in FILES.items():
        (tmp_path / "in" / name).write_bytes(content)
    assert bring(str(tmp_path / "in")) == FILES
    assert hash_files(tmp_path / "raw/in") == {name: _sha256(FILES[name]) for name in sorted(FILES)}


def test_a_folder_has_no_sha256(tmp_path: Path, bring: Callable[..., dict[str, bytes]]) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(SourceError, match=r"`sha256:`.*archive.*folder"):
        bring(str(tmp_path / "in"), "0" * 64)


def test_a_link_to_a_missing_file_is_named(tmp_path: Path, bring: Callable[..., dict[str, bytes]]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/link").symlink_to("nothing")
    with pytest.raises(SourceError, match=r"in/link: is a link"):
        bring(str(tmp_path / "in"))
    assert list((tmp_path / "raw").iterdir()) == []


def test_a_folder_that_cannot_be_listed_is_named(
    tmp_path: Path, bring: Callable[..., dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in/images").mkdir(parents=True)
    list_well = os.scandir

    def list_badly(path: Any = ".") -> Any:
        if str(path).endswith("in/images"):
            # Whom the system lets read everything, a chmod does not stop.
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return list_well(path)

    monkeypatch.setattr(os, "scandir", list_badly)
    with pytest.raises(SourceError, match=r"in/images.*Permission denied"):
        bring(str(tmp_path / "in"))
    assert list((tmp_path / "raw").iterdir()) == []


@pytest.mark.parametrize(
    "links",
    [{"loop": "."}, {"loop": "loop"}, {"a/up": "../.."}, {"a/across": "../b", "b/back": "../a"}],
    ids=["to its folder", "to itself", "to above the source", "by way of another"],
)
def test_a_link_that_leads_in_a_circle_is_named(
    tmp_path: Path, bring: Callable[..., dict[str, bytes]], links: dict[str, str]
) -> None:
    for name in ("a", "b"):
        (tmp_path / "in" / name).mkdir(parents=True)
    for name, target in links.items():
        (tmp_path / "in" / name).symlink_to(target)
    with pytest.raises(SourceError, match=r"in/.*(loop|up|across|back): is a link that leads in a circle; remove it"):
        bring(str(tmp_path / "in"))
    assert list((tmp_path / "raw").iterdir()) == []


def test_two_links_to_one_folder_are_no_circle(tmp_path: Path, bring: Callable[..., dict[str, bytes]]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/a.txt").write_bytes(b"a")
    for name in ("one", "two"):
        (tmp_path / "in" / name).symlink_to(tmp_path / "elsewhere")
    assert bring(str(tmp_path / "in")) == {"one/a.txt": b"a", "two/a.txt": b"a"}


def test_a_pipe_is_named(tmp_path: Path, bring: Callable[..., dict[str, bytes]]) -> None:
    (tmp_path / "in").mkdir()
    os.mkfifo(tmp_path / "in/pipe")
    with pytest.raises(SourceError, match=r"in/pipe: .*a pipe, a socket or a device.*remove it"):
        bring(str(tmp_path / "in"))
    assert list((tmp_path / "raw").iterdir()) == []


@pytest.mark.parametrize("sha256", [None, _sha256(ARCHIVE)], ids=["folder", "archive"])
def test_an_archive_is_unpacked(tmp_path: Path, bring: Callable[..., dict[str, bytes]], sha256: str | None) -> None:
    (tmp_path / "a.zip").write_bytes(ARCHIVE)
    assert bring(str(tmp_path / "a.zip"), sha256) == FILES
    assert not (tmp_path / "cache").exists()


def test_another_content_than_the_sha256_is_refused(tmp_path: Path, bring: Callable[..., dict[str, bytes]]) -> None:
    (tmp_path / "a.zip").write_bytes(ARCHIVE)
    with pytest.raises(SourceError, match=r"a\.zip.*content.*`sha256:`"):
        bring(str(tmp_path / "a.zip"), "0" * 64)
    assert list((tmp_path / "raw").iterdir()) == []


def test_a_failed_unpacking_leaves_nothing(tmp_path: Path, bring: Callable[..., dict[str, bytes]]) -> None:
    (tmp_path / "a.zip").write_bytes(ARCHIVE.replace(b"image", b"imagE", 2).replace(b"classes", b"clasSes"))
    with pytest.raises(SourceError, match="is damaged"):
        bring(str(tmp_path / "a.zip"))
    assert list((tmp_path / "raw").iterdir()) == []


def test_neither_folder_nor_archive(tmp_path: Path, bring: Callable[..., dict[str, bytes]]) -> None:
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(SourceError, match=r"folder.*archive"):
        bring(str(tmp_path / "a.txt"))
    with pytest.raises(SourceError, match=r"no such.*download\.source.*params\.yaml"):
        bring(str(tmp_path / "nothing"))


def test_an_address_is_fetched_once(tmp_path: Path, bring: Callable[..., dict[str, bytes]], server: Served) -> None:
    server.script = [breaks_after(20)]
    source = f"{server.address}/streets.zip?token=secret"
    assert bring(source, _sha256(ARCHIVE)) == FILES
    assert bring(source, _sha256(ARCHIVE)) == FILES
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["streets"]
    assert server.ranges() == [None, "bytes=20-"]


def test_an_address_needs_a_sha256(bring: Callable[..., dict[str, bytes]], server: Served) -> None:
    with pytest.raises(SourceError, match=r"address.*`sha256:`.*`source:`"):
        bring(f"{server.address}/streets.zip")
    assert server.requests == []


def test_plain_http_is_refused_unless_allowed(bring: Callable[..., dict[str, bytes]], server: Served) -> None:
    with pytest.raises(SourceError, match="is not encrypted"):
        bring(f"{server.address}/streets.zip", _sha256(ARCHIVE), allow_http=False)


@pytest.mark.parametrize("sha256", [None, _sha256(ARCHIVE)], ids=["folder", "archive"])
def test_plain_ftp_is_refused_unless_allowed(
    bring: Callable[..., dict[str, bytes]], monkeypatch: pytest.MonkeyPatch, sha256: str | None
) -> None:
    def connect(address: str) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(fsspec.core, "url_to_fs", connect)
    with pytest.raises(SourceError, match=r"a\.zip.*encrypted.*`allow_http: true`.*`source:`"):
        bring("ftp://127.0.0.1/a.zip", sha256, allow_http=False)
    with pytest.raises(SourceError, match=r"a\.zip.*no such"):
        bring("ftp://127.0.0.1/a.zip", sha256)


def test_an_address_that_fails_leaves_nothing(
    tmp_path: Path, bring: Callable[..., dict[str, bytes]], server: Served
) -> None:
    server.script = [says(404)]
    with pytest.raises(SourceError, match=r"streets\.zip\?\.\.\.:.*downloaded.*server.*says 404"):
        bring(f"{server.address}/streets.zip?token=secret", "0" * 64)
    assert list((tmp_path / "raw").iterdir()) == []


def test_an_archive_and_a_folder_by_fsspec(bring: Callable[..., dict[str, bytes]]) -> None:
    memory = MemoryFileSystem()
    memory.store.clear()
    memory.pipe_file("/sets/a.zip", ARCHIVE)
    for name, content in FILES.items():
        memory.pipe_file(f"/sets/streets/{name}", content)
    try:
        assert bring("memory://sets/a.zip", _sha256(ARCHIVE)) == FILES
        assert bring("memory://sets/streets") == FILES
    finally:
        memory.store.clear()
    # From the cache, although it is gone.
    assert bring("memory://sets/a.zip", _sha256(ARCHIVE)) == FILES


IMAGES = _zip({"a.png": b"image"})
LABELS = _zip({"labels/a.txt": b"label", "labels/inner.zip": _zip({"b.txt": b"inner"})})


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Declares a public set."""

    def publish(*archives: PublicArchive) -> None:
        terms = ("free", "Somebody, 2026", "https://example.org/get")
        public = PublicSet("pictures", "folder", archives, *terms, note="Some are dark.")
        monkeypatch.setattr(fetch_module, "find_public_set", {"pictures": public}.get)
        monkeypatch.setattr(fetch_module, "public_set_names", lambda: ["pictures"])

    return publish


def test_a_public_set_is_brought_into_one_folder(
    tmp_path: Path,
    bring: Callable[..., dict[str, bytes]],
    publish: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = {"images/a.png": b"image", "labels/a.txt": b"label", "labels/b.txt": b"inner"}
    with serve(Served(IMAGES)) as images, serve(Served(LABELS)) as labels:
        publish(
            PublicArchive(f"{images.address}/images.zip", len(IMAGES), _sha256(IMAGES), folder="images"),
            PublicArchive(f"{labels.address}/labels.zip", None, _sha256(LABELS), inner=("labels/inner.zip",)),
        )
        with caplog.at_level("INFO"):
            assert bring("public:pictures", allow_http=False) == expected
    assert not missing(caplog.text, "pictures", "licence", "free", "cite", "2026")
    assert "pictures: Some are dark." in caplog.text
    assert bring("public:pictures") == expected, "from the cache"


def test_a_public_set_of_another_size_is_refused(
    bring: Callable[..., dict[str, bytes]], publish: Callable[..., None], server: Served
) -> None:
    publish(PublicArchive(f"{server.address}/a.zip", 7, _sha256(ARCHIVE)))
    with pytest.raises(SourceError, match="7 are expected"):
        bring("public:pictures")


def test_an_archive_without_a_known_sha256_needs_the_users(
    bring: Callable[..., dict[str, bytes]], publish: Callable[..., None], server: Served
) -> None:
    publish(PublicArchive(f"{server.address}/a.zip", None, None))
    with pytest.raises(SourceError, match=r"sha256.*http.*/a\.zip.*segpipe.*`sha256:`"):
        bring("public:pictures")
    assert server.requests == []
    assert bring("public:pictures", _sha256(ARCHIVE)) == FILES


def test_a_public_set_has_its_own_sha256(
    bring: Callable[..., dict[str, bytes]], publish: Callable[..., None], server: Served
) -> None:
    publish(PublicArchive(f"{server.address}/a.zip", None, _sha256(ARCHIVE)))
    with pytest.raises(SourceError, match=r"sha256.*archives.*`sha256:`.*`source:`"):
        bring("public:pictures", "0" * 64)


def test_archives_behind_a_log_in_are_taken_from_the_cache(
    tmp_path: Path, bring: Callable[..., dict[str, bytes]], publish: Callable[..., None]
) -> None:
    images = PublicArchive(None, len(IMAGES), None, folder="images", file_name="images.zip")
    labels = PublicArchive(None, None, None, file_name="labels.zip")
    publish(images, labels)
    with pytest.raises(SourceError, match=r"images\.zip.*labels\.zip.*https://example\.org/get"):
        bring("public:pictures")

    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/labels.zip").write_bytes(LABELS)
    (tmp_path / "cache/images.zip").write_bytes(IMAGES[:-1])
    with pytest.raises(SourceError, match=rf"images\.zip has {len(IMAGES) - 1} bytes, and {len(IMAGES)} are expected"):
        bring("public:pictures")

    (tmp_path / "cache/images.zip").write_bytes(IMAGES)
    assert bring("public:pictures").keys() == {"images/a.png", "labels/a.txt", "labels/inner.zip"}


def test_cityscapes_says_what_to_get_and_where(bring: Callable[..., dict[str, bytes]]) -> None:
    with pytest.raises(SourceError) as caught:
        bring("public:cityscapes")
    for part in (
        "leftImg8bit_trainvaltest.zip",
        "gtFine_trainvaltest.zip",
        "cityscapes-dataset.com/downloads",
        "format",
    ):
        assert part in str(caught.value)


def test_an_unknown_public_set(bring: Callable[..., dict[str, bytes]]) -> None:
    with pytest.raises(SourceError, match=r"public:voc2021.*'voc2012'"):
        bring("public:voc2021")


def test_http_is_allowed_for_the_one_archive_without_https(
    monkeypatch: pytest.MonkeyPatch, bring: Callable[..., dict[str, bytes]], publish: Callable[..., None]
) -> None:
    allowed = {}

    def note(address: str, *, allow_http: bool) -> None:
        allowed[address] = allow_http
        raise SourceError("noted")

    monkeypatch.setattr(fetch_module, "open_web_file", note)
    voc = find_public_set("voc2012")
    assert voc is not None
    for address in ("https://example.org/a.zip", "http://example.org/a.zip"):
        publish(replace(voc.archives[0], address=address))
        with pytest.raises(SourceError, match="noted"):
            bring("public:pictures")
    assert allowed == {"https://example.org/a.zip": False, "http://example.org/a.zip": True}
