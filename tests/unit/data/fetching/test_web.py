"""Which redirects are followed, and which parts of an address are shown."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator

import pytest
from web_server import Handler, Served, breaks_after, says, serve

from segpipe.data.fetching.transfer import TryAgainError
from segpipe.data.fetching.web import open_web_file
from segpipe.errors import SourceError


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server() -> Iterator[Served]:
    with serve(Served(b"content")) as served:
        yield served


def _read(address: str, allow_http: bool = True) -> bytes:
    with open_web_file(address, allow_http=allow_http)(0, None) as remote:
        return b"".join(remote.blocks)


def _leads_to(address: str) -> Callable[[Handler], None]:
    return says(302, Location=address)


def test_size_version_and_start_are_given(server: Served) -> None:
    with open_web_file(server.address + "/a.zip", allow_http=True)(0, None) as remote:
        assert (remote.start, remote.size_bytes, remote.version) == (0, 7, '"one"')
        assert b"".join(remote.blocks) == b"content"
    with open_web_file(server.address + "/a.zip", allow_http=True)(3, '"one"') as remote:
        assert (remote.start, remote.size_bytes, remote.version) == (3, 7, '"one"')
        assert b"".join(remote.blocks) == b"tent"


@pytest.mark.parametrize(
    ("content_range", "tag", "start"),
    [
        ("bytes 3-6/7", '"one"', 3),
        ("bytes 3-6/7", None, 3),
        ("bytes 2-6/7", '"one"', 0),
        ("bytes 3-5/7", '"one"', 0),
        ("bytes 3-6/*", '"one"', 0),
        (None, '"one"', 0),
        ("bytes 3-6/7", '"two"', 0),
    ],
)
def test_only_the_rest_of_the_same_file_is_taken_as_such(
    server: Served, content_range: str | None, tag: str | None, start: int
) -> None:
    server.script = [says(206, b"tent", Content_Range=content_range, ETag=tag)]
    with open_web_file(server.address, allow_http=True)(3, '"one"') as remote:
        assert remote.start == start
        assert b"".join(remote.blocks) == b"content"[start:]


def test_a_compressed_response_is_not_unpacked(server: Served) -> None:
    """Some servers send `Content-Encoding: gzip` with a .tar.gz; its sha256 is of the bytes as they are."""
    server.script = [says(200, b"not unpacked", Content_Encoding="gzip")]
    assert _read(server.address) == b"not unpacked"
    assert server.requests[0][1]["Accept-Encoding"] == "identity"


def test_plain_http_is_refused_unless_allowed(server: Served) -> None:
    with pytest.raises(SourceError, match=r"is not encrypted.*`allow_http: true`"):
        _read(f"{server.address}/a.zip", allow_http=False)
    assert server.requests == []


def test_redirects_are_followed(server: Served) -> None:
    server.script = [_leads_to("/b"), _leads_to(f"{server.address}/c")]
    assert _read(f"{server.address}/a") == b"content"
    assert [path for path, _ in server.requests] == ["/a", "/b", "/c"]


def test_a_redirect_in_a_circle_ends(server: Served) -> None:
    server.script = [_leads_to("/a")] * 100
    with pytest.raises(SourceError, match="circle"):
        _read(f"{server.address}/a")


@pytest.mark.parametrize("target", ["ftp://example.org/a.zip", "file:///etc/passwd"])
def test_a_redirect_to_another_scheme_is_refused(server: Served, target: str) -> None:
    server.script = [_leads_to(target)]
    with pytest.raises(SourceError, match=r"leads.*https"):
        _read(server.address)


def test_a_proxy_is_used(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.address)
    monkeypatch.setenv("no_proxy", "")
    assert _read("http://example.org/a.zip") == b"content"
    assert server.requests[0][0] == "http://example.org/a.zip"


def test_nothing_secret_is_in_a_message_or_a_log(server: Served, caplog: pytest.LogCaptureFixture) -> None:
    address = server.address.replace("http://", "http://me:pass-word@") + "/a.zip?token=to-ken"
    secrets = ("pass-word", "to-ken", "bWU6cGFzcy13b3Jk")
    with caplog.at_level(logging.DEBUG):
        for answer in (
            says(404),
            says(503),
            breaks_after(3),
            _leads_to("/b?token=to-ken"),
            _leads_to("ftp://me:pass-word@x"),
        ):
            server.script = [answer] * 20
            with pytest.raises((SourceError, TryAgainError)) as caught:
                _read(address)
            assert not any(secret in str(caught.value) for secret in secrets)
        server.script = []
        assert _read(address) == b"content"
    assert server.requests[0][1]["Authorization"] == "Basic bWU6cGFzcy13b3Jk"
    assert not any(secret in caplog.text for secret in secrets)


def test_a_password_does_not_go_to_another_server(server: Served) -> None:
    with serve(Served(b"other")) as other:
        server.script = [_leads_to(other.address)]
        assert _read(server.address.replace("http://", "http://me:pass-word@")) == b"other"
        assert "Authorization" not in other.requests[0][1]


def test_an_unreachable_server_is_a_temporary_error() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        with pytest.raises(TryAgainError, match="Connection refused"):
            _read(f"http://127.0.0.1:{probe.getsockname()[1]}/a.zip")


def test_an_unknown_server_name_is_not_a_temporary_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*arguments: object, **options: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(SourceError, match=r"server.*network"):
        _read("https://unknown.example.org/a.zip")


@pytest.mark.parametrize("address", ["https://", "https://[1/a", "https://a b/c", "http://exa\nmple.org/a"])
def test_no_address(address: str) -> None:
    with pytest.raises(SourceError):
        _read(address)
