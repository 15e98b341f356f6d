"""From an address to a verified file in the cache, from a server that misbehaves in many ways."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from facts import missing
from web_server import Served, breaks_after, says, serve

from segpipe.data.fetching.transfer import BLOCK_BYTES, Patience, Remote, TryAgainError, download, persist
from segpipe.data.fetching.web import open_web_file
from segpipe.errors import SourceError

CONTENT = random.Random(0).randbytes(300_000)
OTHER = random.Random(1).randbytes(300_000)
HALF = 150_000


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def server() -> Iterator[Served]:
    with serve(Served(CONTENT)) as served:
        yield served


@pytest.fixture
def waits() -> list[float]:
    """The seconds that were waited, without waiting."""
    return []


@pytest.fixture
def get(server: Served, waits: list[float], tmp_path: Path) -> Callable[..., bytes]:
    """Downloads what the server has, and gives the file's content."""

    def get(content: bytes = CONTENT, size_bytes: int | None = None) -> bytes:
        patience = Patience(num_tries=4, sleep=waits.append)
        open_remote = open_web_file(f"{server.address}/set.zip", allow_http=True)
        name = f"{server.address}/set.zip"
        return download(
            open_remote, name, _sha256(content), tmp_path / "cache", patience, size_bytes=size_bytes
        ).read_bytes()

    return get


def _cache(tmp_path: Path) -> set[str]:
    """What is in the cache, the locks left out."""
    return {path.name for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"}


def test_a_file_is_downloaded_once_and_kept(get: Callable[..., bytes], server: Served, tmp_path: Path) -> None:
    assert get() == CONTENT
    assert get() == CONTENT
    assert len(server.requests) == 1
    assert _cache(tmp_path) == {_sha256(CONTENT)}


def test_a_broken_download_continues_where_it_broke(
    get: Callable[..., bytes], server: Served, waits: list[float]
) -> None:
    server.script = [breaks_after(HALF)]
    assert get() == CONTENT
    assert server.ranges() == [None, f"bytes={HALF}-"]
    assert server.requests[1][1]["If-Range"] == '"one"'
    assert len(waits) == 1


def test_a_later_run_continues_the_download(get: Callable[..., bytes], server: Served) -> None:
    server.script = [breaks_after(HALF)] + [says(503)] * 3
    with pytest.raises(SourceError, match=r"503.*kept"):
        get()
    assert get() == CONTENT
    assert server.ranges()[-1] == f"bytes={HALF}-"


def test_the_time_of_the_last_change_is_the_version_without_a_strong_tag(
    get: Callable[..., bytes], server: Served
) -> None:
    changed = "Sat, 21 Nov 2026 12:00:00 GMT"
    server.script = [
        says(200, CONTENT[:HALF], Content_Length=str(len(CONTENT)), ETag='W/"weak"', Last_Modified=changed)
    ]
    assert get() == CONTENT
    assert server.requests[1][1]["If-Range"] == changed


def test_without_a_version_it_begins_again(get: Callable[..., bytes], server: Served) -> None:
    server.tag = None
    server.script = [breaks_after(HALF)]
    assert get() == CONTENT
    assert server.ranges() == [None, None]


def test_a_server_that_ignores_the_range(get: Callable[..., bytes], server: Served) -> None:
    server.script = [breaks_after(HALF), says(200, CONTENT)]
    assert get() == CONTENT


def test_a_file_that_changed_between_two_tries(get: Callable[..., bytes], server: Served) -> None:
    def change(handler: object) -> None:
        breaks_after(HALF)(handler)  # type: ignore[arg-type]
        server.content, server.tag = OTHER, '"two"'

    server.script = [change]
    assert get(OTHER) == OTHER


@pytest.mark.parametrize(
    "headers",
    [
        {"Content_Range": f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}"},
        {"Content_Range": f"bytes {HALF}-{len(CONTENT) - 2}/{len(CONTENT)}"},
        {"Content_Range": "nonsense"},
        {"Content_Range": None},
        {"Content_Range": f"bytes {HALF}-{len(CONTENT) - 1}/{len(CONTENT)}", "ETag": '"two"'},
    ],
    ids=["from the start", "not to the end", "unreadable", "none", "of another version"],
)
def test_a_response_that_is_not_the_rest_begins_again(
    get: Callable[..., bytes], server: Served, headers: dict[str, str | None]
) -> None:
    server.script = [breaks_after(HALF), says(206, OTHER[HALF:], **headers)]
    assert get() == CONTENT
    assert server.ranges() == [None, f"bytes={HALF}-", None]


def test_a_refused_range_begins_again(get: Callable[..., bytes], server: Served) -> None:
    server.script = [breaks_after(HALF), says(416, Content_Range=f"bytes */{HALF}")]
    assert get() == CONTENT
    assert server.ranges() == [None, f"bytes={HALF}-", None]


def test_a_length_that_is_too_great(get: Callable[..., bytes], server: Served, tmp_path: Path) -> None:
    server.script = [says(200, CONTENT, Content_Length=str(len(CONTENT) + 7))] * 10
    with pytest.raises(SourceError, match=r"set\.zip.*peer closed connection"):
        get()
    server.script = []
    assert get() == CONTENT


def test_a_length_that_is_too_small_is_another_content(get: Callable[..., bytes], server: Served) -> None:
    server.script = [says(200, CONTENT, Content_Length=str(HALF))]
    with pytest.raises(SourceError, match="content"):
        get()


def test_without_a_length(get: Callable[..., bytes], server: Served) -> None:
    server.script = [says(200, CONTENT, Content_Length=None, Connection="close")]
    assert get() == CONTENT


def test_another_size_than_declared_is_refused_before_the_download(get: Callable[..., bytes], server: Served) -> None:
    with pytest.raises(SourceError, match=r"300,000 bytes.*19,000,000"):
        get(size_bytes=19_000_000)
    assert get(size_bytes=len(CONTENT)) == CONTENT


def test_another_content_is_removed(get: Callable[..., bytes], server: Served, tmp_path: Path) -> None:
    server.content = OTHER
    with pytest.raises(SourceError, match=rf"sha256 is {_sha256(OTHER)}, and `sha256:` is {_sha256(CONTENT)}"):
        get()
    assert _cache(tmp_path) == set()
    server.content = CONTENT
    assert get() == CONTENT


def test_a_web_page_instead_of_an_archive_is_recognised(get: Callable[..., bytes], server: Served) -> None:
    server.content = b"\n<!DOCTYPE html><p>please log in"
    with pytest.raises(SourceError, match=r"web page.*log-?in"):
        get()


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_temporary_error_is_tried_again(
    get: Callable[..., bytes], server: Served, waits: list[float], status: int
) -> None:
    server.script = [says(status)] * 3
    assert get() == CONTENT
    assert len(waits) == 3
    # Doubled each time, with jitter of up to a half.
    for number, wait in enumerate(waits):
        assert 0.5 * 2**number <= wait <= 2**number


@pytest.mark.parametrize(
    ("asked", "waited"), [("7", 7), ("100000", 60), ("Sat, 21 Nov 2020 12:00:00 GMT", 0), ("soon", None)]
)
def test_a_server_may_ask_to_wait_within_bounds(
    get: Callable[..., bytes], server: Served, waits: list[float], asked: str, waited: float | None
) -> None:
    server.script = [says(429, Retry_After=asked)]
    assert get() == CONTENT
    assert waits == [waited] if waited is not None else 0.5 <= waits[0] <= 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 501])
def test_a_permanent_error_is_not_tried_again(
    get: Callable[..., bytes], server: Served, waits: list[float], status: int
) -> None:
    server.script = [says(status)]
    with pytest.raises(SourceError, match=rf"set\.zip: cannot be downloaded: the server says {status}"):
        get()
    assert len(server.requests) == 1
    assert waits == []


def test_the_number_of_tries_is_limited(get: Callable[..., bytes], server: Served, waits: list[float]) -> None:
    server.script = [says(503)] * 100
    with pytest.raises(SourceError, match=r"says 503.*Unavailable"):
        get()
    assert len(server.requests) == 4
    assert len(waits) == 3


def test_a_new_megabyte_resets_the_tries_but_a_new_byte_does_not() -> None:
    def act(gain_bytes: int) -> int:
        calls = 0

        def action() -> None:
            nonlocal calls
            calls += 1
            if calls < 50:
                raise TryAgainError("broke")

        persist(action, "x", Patience(num_tries=3, sleep=lambda _: None), lambda: calls * gain_bytes)
        return calls

    assert act(BLOCK_BYTES) == 50
    with pytest.raises(SourceError, match=r"downloaded.*broke"):
        act(1)


def test_a_damaged_copy_in_the_cache_is_fetched_again(
    get: Callable[..., bytes], server: Served, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    get()
    path = tmp_path / "cache" / _sha256(CONTENT)
    path.write_bytes(CONTENT[:-1] + b"?")
    assert get() == CONTENT
    assert not missing(caplog.text, "damaged", "removed")


def test_damaged_bytes_of_an_earlier_run_are_fetched_again(
    get: Callable[..., bytes], server: Served, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """After a power failure a file of the right length may hold zeros."""
    server.script = [breaks_after(HALF)] + [says(503)] * 3
    with pytest.raises(SourceError):
        get()
    (tmp_path / "cache" / f"{_sha256(CONTENT)}.part").write_bytes(bytes(HALF))
    assert get() == CONTENT
    assert server.ranges()[-2:] == [f"bytes={HALF}-", None]
    assert not missing(caplog.text, "interrupted", "download")


def test_an_unreadable_state_begins_again(get: Callable[..., bytes], server: Served, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    part = tmp_path / "cache" / f"{_sha256(CONTENT)}.part"
    part.write_bytes(OTHER[:HALF])
    part.with_name(f"{part.name}.json").write_text("{")
    assert get() == CONTENT
    assert server.ranges() == [None]


def test_a_download_that_was_complete_before_a_kill_is_not_repeated(
    get: Callable[..., bytes], server: Served, tmp_path: Path
) -> None:
    (tmp_path / "cache").mkdir()
    part = tmp_path / "cache" / f"{_sha256(CONTENT)}.part"
    part.write_bytes(CONTENT)
    part.with_name(f"{part.name}.json").write_text(json.dumps({"version": '"one"', "size_bytes": len(CONTENT)}))
    assert get() == CONTENT
    assert server.requests == []
    assert _cache(tmp_path) == {_sha256(CONTENT)}


def test_more_than_announced_is_refused(tmp_path: Path) -> None:
    """httpx cuts at the length, other file systems may not."""

    @contextmanager
    def open_at(start: int, version: str | None) -> Iterator[Remote]:
        yield Remote(0, 10, "one", iter([bytes(8), bytes(8)]))

    with pytest.raises(SourceError, match=r"10 bytes.*announced"):
        download(open_at, "x", "0" * 64, tmp_path, Patience())


def test_an_answer_without_a_length_ends_at_the_declared_size(tmp_path: Path) -> None:
    taken = 0

    def send() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(100):  # and for ever
            taken += 1
            yield b"0"

    @contextmanager
    def open_at(start: int, version: str | None) -> Iterator[Remote]:
        yield Remote(0, None, "one", send())

    with pytest.raises(SourceError, match=r"sends.*10 bytes"):
        download(open_at, "x", "0" * 64, tmp_path, Patience(), size_bytes=10)
    assert taken == 11
    assert [path.suffix for path in tmp_path.iterdir()] in ([], [".lock"])


def test_an_answer_without_a_length_but_of_the_declared_size(get: Callable[..., bytes], server: Served) -> None:
    server.script = [says(200, CONTENT, Content_Length=None, Connection="close")]
    assert get(size_bytes=len(CONTENT)) == CONTENT


def test_less_than_announced_is_asked_for_again(tmp_path: Path) -> None:
    """httpx notices it, other file systems may end early without an error."""
    starts = []

    @contextmanager
    def open_at(start: int, version: str | None) -> Iterator[Remote]:
        starts.append(start)
        yield Remote(start, 10, "one", iter([b"0123456789"[start : start + 8]]))

    path = download(open_at, "x", _sha256(b"0123456789"), tmp_path, Patience(sleep=lambda _: None))
    assert path.read_bytes() == b"0123456789"
    assert starts == [0, 8]


def test_a_file_for_which_there_is_no_room_is_refused(tmp_path: Path) -> None:
    @contextmanager
    def open_at(start: int, version: str | None) -> Iterator[Remote]:
        yield Remote(0, 10**18, "one", iter([bytes(8)]))

    with pytest.raises(SourceError, match=r"1,000,000,000,000,000,000 bytes.*free"):
        download(open_at, "x", "0" * 64, tmp_path, Patience())


def test_a_kill_while_the_file_is_moved_loses_nothing(
    get: Callable[..., bytes], server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception that nothing catches stands for the kill."""

    class KilledError(BaseException):
        pass

    replace_well = Path.replace

    def replace_and_die(path: Path, target: Path) -> None:
        replace_well(path, target)
        if path.name == f"{_sha256(CONTENT)}.part":
            raise KilledError

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(Path, "replace", replace_and_die)
        get()
    assert get() == CONTENT
    assert len(server.requests) == 1


def test_left_overs_of_a_killed_process_are_removed(get: Callable[..., bytes], tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    others = f".{_sha256(OTHER)}.part.json.7.part"
    for name in (f".{_sha256(CONTENT)}.part.json.7.part", f".{_sha256(CONTENT)}.7.part", others):
        (tmp_path / "cache" / name).write_text("{")
    assert get() == CONTENT
    assert _cache(tmp_path) == {_sha256(CONTENT), others}


DOWNLOAD = """
import sys
from pathlib import Path
from segpipe.data.fetching.transfer import Patience, download
from segpipe.data.fetching.web import open_web_file
address, sha256, cache = sys.argv[1:]
download(open_web_file(address, allow_http=True), address, sha256, Path(cache), Patience())
"""


def test_a_killed_download_continues(server: Served, tmp_path: Path) -> None:
    def send_half_and_hang(handler: object) -> None:
        breaks_after(HALF)(handler)  # type: ignore[arg-type]
        handler.wfile.flush()  # type: ignore[attr-defined]
        killed.wait(30)

    killed = threading.Event()
    server.script = [send_half_and_hang]
    arguments = [f"{server.address}/set.zip", _sha256(CONTENT), str(tmp_path / "cache")]
    process = subprocess.Popen([sys.executable, "-c", DOWNLOAD, *arguments])
    part = tmp_path / "cache" / f"{_sha256(CONTENT)}.part"
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed.set()
    num_bytes = part.stat().st_size
    assert 0 < num_bytes <= HALF

    open_remote = open_web_file(arguments[0], allow_http=True)
    path = download(open_remote, "set.zip", arguments[1], tmp_path / "cache", Patience())
    assert path.read_bytes() == CONTENT
    assert server.ranges() == [None, f"bytes={num_bytes}-"]
