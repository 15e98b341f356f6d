"""Runs commands: passes their lines on as they come, and leaves no process running, however this process ends."""

import collections
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from segpipe.addresses import redact
from segpipe.code import PACKAGE
from segpipe.errors import CommandError
from segpipe.parent_death import die_with_parent
from segpipe.terminal import printable

# Prefect kills a cancelled flow 30 s after its SIGTERM.
GRACE_SECONDS = 25.0
NUM_LINES_KEPT = 20


@contextlib.contextmanager
def running(command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> "Iterator[subprocess.Popen[str]]":
    """Runs a command as the leader of a process group, and ends the whole group afterwards.

    SIGTERM to DVC alone would leave the stage running, so the whole group gets it.
    """
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        preexec_fn=die_with_parent,
    )
    try:
        yield process
    finally:
        _end_group(process)
        if process.stdout is not None:
            process.stdout.close()


def _end_group(leader: "subprocess.Popen[str]") -> None:
    try:
        deadline = time.monotonic() + GRACE_SECONDS
        os.killpg(leader.pid, signal.SIGTERM)
        while time.monotonic() < deadline:
            leader.poll()
            os.killpg(leader.pid, 0)
            time.sleep(0.05)
    except ProcessLookupError:
        pass  # all have ended
    finally:
        # Also if a second signal to this process ends the waiting.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(leader.pid, signal.SIGKILL)
        leader.wait()


def run(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    on_line: Callable[[str], None],
    what: str,
    timeout_seconds: float | None = None,
) -> None:
    """Runs a command to its end.

    Args:
        command: program and arguments.
        cwd: the working directory.
        env: the whole environment.
        on_line: gets each line of both streams as it comes.
        what: the command's name in messages.
        timeout_seconds: after so long it is stopped.

    Raises:
        CommandError: it ended with an error, or was stopped; holds its last lines.
    """
    kept: collections.deque[str] = collections.deque(maxlen=NUM_LINES_KEPT)
    is_late = threading.Event()
    with running(command, cwd, env) as process:

        def end_late_command() -> None:
            is_late.set()
            _end_group(process)

        timer = threading.Timer(timeout_seconds or threading.TIMEOUT_MAX, end_late_command)
        timer.daemon = True
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if text := printable(redact(line.rstrip())):
                    kept.append(text)
                    on_line(text)
            code = process.wait()
        finally:
            timer.cancel()
    if is_late.is_set():
        raise CommandError(f"{what} took more than {timeout_seconds:g} s and was stopped", tuple(kept))
    if code != 0:
        raise CommandError(f"{what} ended with exit code {code}; its last lines:", tuple(kept), code)


def run_module(
    module: str,
    arguments: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    what: str,
    timeout_seconds: float | None = None,
) -> None:
    """Runs a module of this package by another interpreter, which imports this package too.

    Args:
        module: such as `segpipe.serving.preparing`.
        arguments: of the module.
        cwd: as for `run`.
        env: as for `run`; the place of this package is put before its `PYTHONPATH`.
        what: as for `run`.
        timeout_seconds: as for `run`.

    Raises:
        CommandError: as for `run`.
    """
    path = os.pathsep.join(filter(None, [str(PACKAGE.parent), env.get("PYTHONPATH")]))
    run(
        [sys.executable, "-m", module, *arguments],
        cwd=cwd,
        env={**env, "PYTHONPATH": path},
        on_line=lambda _: None,
        what=what,
        timeout_seconds=timeout_seconds,
    )
