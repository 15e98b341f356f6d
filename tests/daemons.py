"""Servers that a test starts and stops: on loopback and a free port, with all their files in a folder of the test."""

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segpipe.parent_death import die_with_parent

START_SECONDS = 120.0
STOP_SECONDS = 20.0
NUM_LINES_SHOWN = 30


def find_free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=5).close()
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class Daemon:
    """A server that was started, and what it says."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def wait_until(self, is_ready: Callable[[], bool]) -> None:
        """Waits until it takes requests."""
        deadline = time.monotonic() + START_SECONDS
        while not is_ready():
            said = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-NUM_LINES_SHOWN:]
            assert self.process.poll() is None, "\n".join(["The server has ended:", *said])
            assert time.monotonic() < deadline, "\n".join(["The server does not answer:", *said])
            time.sleep(0.1)


@contextlib.contextmanager
def running(
    command: Sequence[str],
    env: Mapping[str, str],
    log: Path,
    user: str | None = None,
    stop: signal.Signals = signal.SIGTERM,
) -> Iterator[Daemon]:
    """Runs a server in the body; none of its processes is left behind.

    Args:
        command: stays in the foreground.
        env: the whole environment.
        log: gets what the server says.
        user: who it runs as; None for who runs the test.
        stop: asks it to end.
    """
    with log.open("a", encoding="utf-8") as file:
        process = subprocess.Popen(
            command,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd=log.parent,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
    try:
        yield Daemon(process, log)
    finally:
        process.send_signal(stop)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
