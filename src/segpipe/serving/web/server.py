"""Runs the service: the socket, limits of connections, and an end without a lost request."""

import asyncio
import contextlib
import logging
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import Any, ClassVar

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from segpipe.errors import ServingError
from segpipe.serving.limits import Limits

MAX_CONNECTIONS = 2000
BACKLOG = 2048
KEEP_ALIVE_SECONDS = 15
MAX_UNSENT_BYTES = 1 << 16  # in the kernel, of a connection; behind megabytes there a slow reader looks like none
SPARE_SECONDS = 5.0  # of the end, after the last request may take its longest
SWITCH_SECONDS = 0.002  # a thread that decodes gives the event loop its turn after so long; Python's own is 5 ms


def bind_socket(host: str, port: int) -> socket.socket:
    """Takes the address, before a model is loaded; connections are refused until `run_server` listens.

    Raises:
        ServingError: it cannot be had.
    """
    bound: socket.socket | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # With the protocol's number, or asyncio leaves TCP_NODELAY off and an answer waits 40 ms for the client's ACK.
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            bound.setsockopt(protocol, socket.TCP_NOTSENT_LOWAT, MAX_UNSENT_BYTES)
        bound.bind(address)
        return bound
    except (OSError, OverflowError) as error:
        if bound is not None:
            bound.close()
        raise _name_address(f"{host}:{port}", error) from error


def _name_address(address: str, error: Exception) -> ServingError:
    reason = error.strerror if isinstance(error, OSError) else error
    return ServingError(f"{address}: {reason}; choose another by --host and --port")


def run_server(app: ASGIApp, bound: socket.socket, limits: Limits) -> None:
    """Serves until SIGTERM or Ctrl-C; answers what was accepted before, and refuses new connections.

    Args:
        app: answers.
        bound: of `bind_socket`.
        limits: of connections and times.

    Raises:
        ServingError: another process was quicker to listen there.
    """
    try:
        bound.listen(BACKLOG)
    except OSError as error:
        host, port = bound.getsockname()[:2]
        raise _name_address(f"{host}:{port}", error) from error
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    sys.setswitchinterval(SWITCH_SECONDS)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MAX_CONNECTIONS if hard == resource.RLIM_INFINITY else min(hard, 2 * MAX_CONNECTIONS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    config = uvicorn.Config(
        app,
        http=_protocol_with(limits),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(limits.body_seconds + limits.timeout_seconds + SPARE_SECONDS),
    )
    asyncio.run(_Server(config).serve(sockets=[bound]))


class _Server(uvicorn.Server):
    """Ends with exit code 0 on a signal; uvicorn's own raises the signal again at the end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._end) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end(self, number: int, frame: FrameType | None) -> None:
        if self.should_exit and number == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True


class _Timer:
    """Calls a function after some time, unless it is stopped before."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._handle: asyncio.TimerHandle | None = None

    @property
    def is_running(self) -> bool:
        """Whether the call is still to come."""
        return self._handle is not None

    def start(self, seconds: float, act: Callable[[], None]) -> None:
        """Counts from now on, for one function at a time."""
        self.stop()
        self._handle = self._loop.call_later(seconds, self._end, act)

    def stop(self) -> None:
        """Calls nothing any more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _end(self, act: Callable[[], None]) -> None:
        self._handle = None
        act()


class _Protocol(H11Protocol):
    """uvicorn's protocol with limits that it lacks: connections, silence before a request, unread answers."""

    limits: ClassVar[Limits]

    def connection_made(self, transport: Any) -> None:
        self._silence, self._unread = _Timer(self.loop), _Timer(self.loop)
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
            return
        transport.set_write_buffer_limits(high=0)  # so that each byte that the client does not take pauses
        self._watch_silence()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._silence.stop()
        elif not self._silence.is_running:
            self._watch_silence()  # a part of the next request's head

    def connection_lost(self, exc: Exception | None) -> None:
        self._silence.stop()
        self._unread.stop()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_unread()

    def resume_writing(self) -> None:
        self._unread.stop()
        super().resume_writing()

    def _watch_silence(self) -> None:
        self._silence.start(self.limits.header_seconds, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def _watch_unread(self) -> None:
        num_bytes = self.transport.get_write_buffer_size()
        self._unread.start(self.limits.unread_seconds, partial(self._abort_if_unread, num_bytes))

    def _abort_if_unread(self, num_bytes_before: int) -> None:
        if self.transport.get_write_buffer_size() < num_bytes_before:
            self._watch_unread()  # it reads, though slowly
        else:
            self.transport.abort()  # to close it would wait for the client


def _protocol_with(limits: Limits) -> type[H11Protocol]:
    """Gives the protocol with a service's limits; uvicorn makes its instances."""
    return type("Protocol", (_Protocol,), {"limits": limits})
