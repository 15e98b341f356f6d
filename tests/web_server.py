"""A web server on this machine that answers well, or as badly as a test asks."""

from __future__ import annotations

import contextlib
import http.server
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

CONTENT_TYPE = "application/octet-stream"


@dataclass
class Served:
    """What the server holds and what it was asked.

    Args:
        content: the file, at every path.
        tag: its ETag; None for none.
        script: answers to the first requests, one each; then all are answered well.
        requests: path and headers of each request so far.
    """

    content: bytes = b""
    tag: str | None = '"one"'
    script: list[Callable[[Handler], None]] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    address: str = ""

    def ranges(self) -> list[str | None]:
        """The Range of each request."""
        return [headers.get("Range") for _, headers in self.requests]


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by the script of its `Served`."""

    protocol_version = "HTTP/1.1"
    served: Served

    def do_GET(self) -> None:
        self.served.requests.append((self.path, dict(self.headers)))
        self.close_connection = True
        (self.served.script.pop(0) if self.served.script else Handler.answer_well)(self)

    def answer(self, status: int, body: bytes = b"", **headers: str | None) -> None:
        """Sends a status, headers (`Retry_After` is Retry-After) and a body."""
        self.send_response(status)
        headers = {"Content_Length": str(len(body)), "ETag": self.served.tag, **headers}
        for name, value in headers.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def answer_well(self) -> None:
        """Honours Range and If-Range."""
        content, wanted = self.served.content, self.headers.get("Range")
        if wanted is None or self.headers.get("If-Range") not in {None, self.served.tag}:
            self.answer(200, content)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        if start >= len(content):
            self.answer(416, Content_Range=f"bytes */{len(content)}")
            return
        self.answer(206, content[start:], Content_Range=f"bytes {start}-{len(content) - 1}/{len(content)}")

    def log_message(self, *arguments: object) -> None:
        pass


def says(status: int, body: bytes = b"", **headers: str | None) -> Callable[[Handler], None]:
    """An answer for the script."""
    return lambda handler: handler.answer(status, body, **headers)


def breaks_after(num_bytes: int) -> Callable[[Handler], None]:
    """Announces the whole file and sends its beginning."""

    def answer(handler: Handler) -> None:
        content = handler.served.content
        handler.answer(200, content[:num_bytes], Content_Length=str(len(content)))

    return answer


@contextlib.contextmanager
def serve(served: Served, certificate: Path | None = None) -> Iterator[Served]:
    """Serves on a free port of 127.0.0.1, by https where there is a certificate; sets `served.address`."""
    handler = type("BoundHandler", (Handler,), {"served": served})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    # A short poll: shutdown() waits for it.
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    served.address = f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}"
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
