"""Opens a file on a web server at any offset.

Only redirects to https are followed (docs/decisions/0019-threat-model-of-downloads.md). Messages and logs never hold
the parts of an address that may be secret.
"""

import email.utils
import functools
import logging
import re
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from segpipe.addresses import redact
from segpipe.data.fetching.transfer import OpenRemote, Remote, TryAgainError
from segpipe.errors import SourceError

# Both log whole addresses with the query, which may hold a signature.
logging.getLogger("httpx").setLevel(logging.WARNING)
logging.getLogger("httpcore").setLevel(logging.WARNING)

MAX_REDIRECTS = 10
CONNECT_SECONDS, READ_SECONDS = 20.0, 60.0
PASSING_STATUSES = {408, 425, 429, 500, 502, 503, 504}
_WHERE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


def open_web_file(address: str, *, allow_http: bool = False) -> OpenRemote:
    """Gives a function that opens an http(s) address.

    Args:
        address: http:// or https://; may hold a user and a password.
        allow_http: whether http is allowed, for the address and its redirects.

    Raises:
        SourceError: (when opened) plain http, a redirect that must not be followed, a file that does not exist or may
            not be read, or an untrusted certificate.
    """

    @contextmanager
    def open_at(start: int, version: str | None) -> Iterator[Remote]:
        timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
        hooks = {"request": [lambda request: _refuse_plain(request.url, address, allow_http)]}
        try:
            with httpx.Client(
                verify=_trusted_authorities(),
                timeout=timeout,
                headers=_HEADERS,
                follow_redirects=True,
                max_redirects=MAX_REDIRECTS,
                limits=_ONE_CONNECTION_A_REQUEST,
                event_hooks=hooks,
            ) as client:
                response = _ask(client, address, start, version)
                if start > 0 and not _goes_on(response, start, version):
                    response.close()
                    start = 0
                    response = _ask(client, address, start, version)
                _check_status(response, start, redact(address))
                yield Remote(start, _size_of(response), _version_of(response), response.iter_raw())
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise SourceError(f"{redact(address)}: cannot be opened: {error}; fix the address") from error
        except httpx.TooManyRedirects as error:
            raise SourceError(f"{redact(address)}: leads in a circle ({error}); name another address") from error
        except httpx.TransportError as error:
            raise _judge(error, address) from error

    return open_at


# identity: the server must not compress the file, because the sha256 is of the file as it is.
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "segpipe"}


# A server may close a connection before it is used again.
_ONE_CONNECTION_A_REQUEST = httpx.Limits(max_keepalive_connections=0)


@functools.cache
def _trusted_authorities() -> ssl.SSLContext:
    """The system's authorities, not httpx's list: a company adds its authority there, or by SSL_CERT_FILE."""
    return ssl.create_default_context()


def _ask(client: httpx.Client, address: str, start: int, version: str | None) -> httpx.Response:
    headers = {"Range": f"bytes={start}-", "If-Range": version} if start and version else {}
    return client.send(client.build_request("GET", address, headers=headers), stream=True)


def _refuse_plain(url: httpx.URL, address: str, allow_http: bool) -> None:
    """Refuses http, for the address itself and for each redirect."""
    if url.scheme == "https" or (url.scheme == "http" and allow_http):
        return
    here, origin = redact(str(url)), redact(address)
    if here == origin:
        raise SourceError(not_encrypted(here, "name an https:// address"))
    raise SourceError(
        f"{origin}: leads to {here}, which is not https; name another address"
        + (", or set `allow_http: true` next to `source:`" if url.scheme == "http" else "")
    )


def not_encrypted(name: str, fix: str) -> str:
    """The message for an address whose protocol is not encrypted."""
    return (
        f"{name}: is not encrypted, so that others could read and change the data; {fix}, "
        "or set `allow_http: true` next to `source:`"
    )


def _goes_on(response: httpx.Response, start: int, version: str | None) -> bool:
    """Whether the response is the rest of the same version of the file, from `start`."""
    where = _WHERE.fullmatch(response.headers.get("Content-Range", ""))
    if response.status_code != 206 or where is None:
        # Statuses that do not concern the range are reported, not asked for again.
        return response.status_code not in {200, 206, 412, 416}
    first, last, size = (int(number) for number in where.groups())
    tag = response.headers.get("ETag")
    is_changed = version is not None and version.startswith('"') and tag is not None and tag != version
    return first == start and last == size - 1 and not is_changed


def _check_status(response: httpx.Response, start: int, name: str) -> None:
    status = response.status_code
    if status == (206 if start > 0 else 200):
        return
    said = f"the server says {status} {response.reason_phrase}".rstrip()
    if status in PASSING_STATUSES:
        raise TryAgainError(said, _seconds_of(response.headers.get("Retry-After")))
    fix = {401: "it needs a log-in", 403: "it needs a log-in or has expired", 404: "fix the address"}
    raise SourceError(f"{name}: cannot be downloaded: {said}; {fix.get(status, 'open it in a browser')}")


def _seconds_of(retry_after: str | None) -> float | None:
    """Reads a Retry-After: seconds, or a date."""
    if retry_after is None:
        return None
    if retry_after.isdecimal():
        return float(retry_after)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return None


def _size_of(response: httpx.Response) -> int | None:
    if where := _WHERE.fullmatch(response.headers.get("Content-Range", "")):
        return int(where[3])
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _version_of(response: httpx.Response) -> str | None:
    """A strong ETag, or the time of the last change: what If-Range takes."""
    tag: str = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified")


def _judge(error: httpx.TransportError, address: str) -> Exception:
    """Separates temporary errors from others; httpx's own texts hold no address."""
    name = redact(address)
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return SourceError(
            f"{name}: cannot be downloaded: {error}; if a company's own authority signed the certificate, name its "
            "file in the environment variable SSL_CERT_FILE"
        )
    if any(isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME for cause in causes):
        return SourceError(f"{name}: cannot be downloaded: no such server, or no network ({error}); fix the address")
    return TryAgainError(str(error) or type(error).__name__)
