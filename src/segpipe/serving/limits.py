"""The limits of the service, and the refusals that a client gets."""

from dataclasses import dataclass
from http import HTTPStatus

MAX_BYTES_PER_PX = 16  # of a picture with deep values or many bands
MAX_RETRY_SECONDS = 30


@dataclass(frozen=True)
class Limits:
    """What the service takes.

    Attributes:
        max_bytes: of one request's body.
        max_px: of one picture.
        max_files: of one request.
        max_queue: pictures that are accepted and not answered yet, of all requests.
        max_batch: pictures of one size that the network gets at once.
        max_wait_ms: how long a batch waits for pictures that are being decoded.
        timeout_seconds: for a request from its last byte to its answer.
        body_seconds: for a request from its first byte to its last.
        header_seconds: for a connection until a request has begun.
        unread_seconds: for a client to take at least a byte of an answer that waits for it.
    """

    max_bytes: int = 32 << 20
    max_px: int = 1 << 22
    max_files: int = 16
    max_queue: int = 64
    max_batch: int = 8
    max_wait_ms: int = 5
    timeout_seconds: float = 30.0
    body_seconds: float = 10.0
    header_seconds: float = 10.0
    unread_seconds: float = 10.0

    @property
    def max_held_bytes(self) -> int:
        """Of the bodies of all requests that are being received."""
        return 8 * self.max_bytes

    @property
    def max_held_px(self) -> int:
        """Of the pictures that are accepted and not answered yet."""
        return 16 * self.max_px


class RefusedError(Exception):
    """A request that is not answered as it wished.

    Args:
        status: of HTTP.
        reason: what is wrong, and what to do.
        retry_seconds: after which the same request may be taken; None if it never will be.
    """

    def __init__(self, status: HTTPStatus, reason: str, retry_seconds: int | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.retry_seconds = status, reason, retry_seconds

    @property
    def headers(self) -> dict[str, str]:
        """Those that HTTP asks for with such a status."""
        if self.retry_seconds is not None:
            return {"Retry-After": str(self.retry_seconds)}
        return {"WWW-Authenticate": "Bearer"} if self.status == HTTPStatus.UNAUTHORIZED else {}
