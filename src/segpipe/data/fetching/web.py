"""Opens a file on a web server at any offset, and refuses where an address must not lead.

Redirects are followed here, hop by hop, because each may lead from https to http, or from a public server into the
network behind the user's firewall. Messages and logs never hold the parts of an address in which secrets travel.
"""

import email.utils
import functools
import ipaddress
import logging
import re
import socket
import ssl
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from segpipe.addresses import redact
from segpipe.data.fetching.transfer import OpenRemote, Remote, TryAgainError
from segpipe.errors import SourceError

# Both write whole addresses, query included, which may be signed.
logging.getLogger("httpx").setLevel(logging.WARNING)
logging.getLogger("httpcore").setLevel(logging.WARNING)

MAX_REDIRECTS = 10
CONNECT_SECONDS, READ_SECONDS = 20.0, 60.0
PASSING_STATUSES = {408, 425, 429, 500, 502, 503, 504}
_WHERE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


def open_web_file(address: str, *, allow_http: bool = False) -> OpenRemote:
    """Gives what opens an http(s) address.

    Args:
        address: http:// or https://; may hold a user and a password.
        allow_http: whether http is allowed, of the address and of what it leads to.

    Raises:
        SourceError: (when opened) plain http, a redirect that must not be followed, a file that is not there or not
            allowed, a certificate that nobody vouches for.
    """

    @contextmanager
    def open_at(start: int, version: str | None) -> Iterator[Remote]:
        timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
        try:
            with httpx.Client(verify=_trusted_authorities(), timeout=timeout, headers=_HEADERS) as client:
                response = _follow(client, address, allow_http, start, version)
                if start > 0 and not _goes_on(response, start, version):
                    response.close()
                    start = 0
                    response = _follow(client, address, allow_http, start, version)
                _check_status(response, start, redact(address))
                yield Remote(start, _size_of(response), _version_of(response), response.iter_raw())
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise SourceError(f"{redact(address)}: cannot be opened: {error}; mend the address") from error
        except httpx.TransportError as error:
            raise _judge(error, address) from error

    return open_at


# identity: what the sha256 is of must not be compressed on the way.
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "segpipe"}


@functools.cache
def _trusted_authorities() -> ssl.SSLContext:
    """The system's, not a list of httpx's own: a company adds its authority there, or by SSL_CERT_FILE."""
    return ssl.create_default_context()


def _follow(client: httpx.Client, address: str, allow_http: bool, start: int, version: str | None) -> httpx.Response:
    headers = {"Range": f"bytes={start}-", "If-Range": version} if start and version else {}
    origin = url = httpx.URL(address)
    is_from_inside = _is_inside(origin)
    for _ in range(MAX_REDIRECTS + 1):
        _refuse_plain(url, origin, allow_http)
        if url.host != origin.host and not is_from_inside and _is_inside(url):
            raise SourceError(_leads_inside(origin, url, "is in a private network"))
        response = client.send(client.build_request("GET", url, headers=headers), stream=True)
        peer = _peer_of(response)
        if not (is_from_inside or _goes_through_proxy(url) or peer is None or _is_public(peer)):
            # A name may mean another address than a moment ago, when it was looked up.
            response.close()
            raise SourceError(_leads_inside(origin, url, f"is {peer}, in a private network"))
        if not response.has_redirect_location:
            return response
        response.close()
        url = response.url.join(response.headers["Location"])
    raise SourceError(f"{redact(address)}: leads on more than {MAX_REDIRECTS} times, perhaps in a circle; name another")


def _refuse_plain(url: httpx.URL, origin: httpx.URL, allow_http: bool) -> None:
    if url.scheme == "https" or (url.scheme == "http" and allow_http):
        return
    here = redact(str(url))
    if url == origin:
        raise SourceError(not_encrypted(here, "name an https:// address"))
    raise SourceError(
        f"{redact(str(origin))}: leads to {here}, which is not https; name another address"
        + (", or set `allow_http: true` beside `source:`" if url.scheme == "http" else "")
    )


def not_encrypted(name: str, mend: str) -> str:
    """The message of an address of a protocol that anyone on the way can read and change."""
    return (
        f"{name}: is not encrypted, so that others could read and change it on the way; {mend}, "
        "or set `allow_http: true` beside `source:`"
    )


def _leads_inside(origin: httpx.URL, url: httpx.URL, what: str) -> str:
    return (
        f"{redact(str(origin))}: leads to {url.host}, which {what}: a public server must not reach in there through "
        "us; if it is right, name that address itself as `source:`"
    )


def _addresses_of(host: str) -> set[str]:
    """Looks a name up; an empty set if there is none."""
    try:
        return {str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (socket.gaierror, UnicodeError):
        return set()


def _peer_of(response: httpx.Response) -> str | None:
    """The address at the other end of the connection; None if it cannot be known."""
    stream = response.extensions.get("network_stream")
    peer = stream.get_extra_info("server_addr") if stream is not None else None
    return str(peer[0]) if peer else None


def _is_inside(url: httpx.URL) -> bool:
    """Whether any address of the host is private, loopback, link-local or otherwise not of the public network."""
    return not all(_is_public(address) for address in _addresses_of(url.host))


def _is_public(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_global


def _goes_through_proxy(url: httpx.URL) -> bool:
    # The other end of the connection is then the proxy, which may well be private.
    proxies = urllib.request.getproxies()
    return bool(proxies.get(url.scheme) or proxies.get("all")) and not urllib.request.proxy_bypass(url.host)


def _goes_on(response: httpx.Response, start: int, version: str | None) -> bool:
    """Whether what comes is the rest, from `start`, of the file of that version."""
    where = _WHERE.fullmatch(response.headers.get("Content-Range", ""))
    if response.status_code != 206 or where is None:
        # Statuses that say nothing about the range are judged as they are, not asked for again.
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
    mend = {401: "it wants a log-in", 403: "it wants a log-in or has a term", 404: "mend the address"}
    raise SourceError(f"{name}: cannot be downloaded: {said}; {mend.get(status, 'look at it in a browser')}")


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
    """Tells what may pass from what will not; httpx's own texts hold no address."""
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
        return SourceError(f"{name}: cannot be downloaded: no such server, or no network ({error}); mend the address")
    return TryAgainError(str(error) or type(error).__name__)
