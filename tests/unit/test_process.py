"""Commands stream their lines, say how they ended, and leave no process behind, however they are left."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from segpipe import process
from segpipe.errors import CommandError

LIMIT_SECONDS = 20.0
# $! and $$ are printed, so that a test knows whom to look for.
WITH_BACKGROUND_CHILD = ["sh", "-c", "sleep 1000 & echo $!; wait"]
DEAF_TO_SIGTERM = ["sh", "-c", "trap '' TERM; echo $$; exec sleep 1000"]
RUN_FOR_EVER = """
import os, pathlib
from segpipe.process import run
command = ["sh", "-c", "echo $$; exec sleep 1000"]
run(command, cwd=pathlib.Path(), env=dict(os.environ), on_line=lambda line: print(line, flush=True), what="it")
"""


@pytest.fixture(autouse=True)
def _no_test_hangs() -> Iterator[None]:
    def stop(*_: object) -> None:
        for child in psutil.Process().children(recursive=True):
            child.kill()
        raise TimeoutError(f"the command was still running after {LIMIT_SECONDS:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_SECONDS)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """Takes the lines of a command; whatever process a line names is killed after the test."""
    taken: list[str] = []
    yield taken
    for line in taken:
        if line.isdigit() and is_running(int(line)):
            os.kill(int(line), signal.SIGKILL)


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def run(command: list[str], cwd: Path, lines: list[str], timeout_seconds: float | None = None) -> None:
    env = dict(os.environ)
    process.run(command, cwd=cwd, env=env, on_line=lines.append, what="the command", timeout_seconds=timeout_seconds)


def test_lines_come_while_the_command_runs(tmp_path: Path) -> None:
    # The command waits for a file that only its first line's arrival makes.
    script = "echo first; until [ -e go ]; do sleep 0.05; done; echo second"
    lines: list[str] = []

    def on_line(line: str) -> None:
        lines.append(line)
        (tmp_path / "go").touch()

    command = ["sh", "-c", script]
    process.run(command, cwd=tmp_path, env=dict(os.environ), on_line=on_line, what="it", timeout_seconds=20)
    assert lines == ["first", "second"]


def test_both_streams_are_read_and_empty_lines_left_out(tmp_path: Path, lines: list[str]) -> None:
    run(["sh", "-c", "echo out; echo; echo error >&2; printf 'no newline  '"], tmp_path, lines)
    assert lines == ["out", "error", "no newline"]


def test_bytes_that_are_no_text_do_not_stop_the_reading(tmp_path: Path, lines: list[str]) -> None:
    run(["sh", "-c", r"printf 'caf\351\n'; echo after"], tmp_path, lines)
    assert lines == ["caf\N{REPLACEMENT CHARACTER}", "after"]


def test_a_command_sees_the_given_environment_only(tmp_path: Path, lines: list[str]) -> None:
    command = ["/bin/sh", "-c", 'echo "$GIVEN-$HOME"']
    process.run(command, cwd=tmp_path, env={"GIVEN": "yes"}, on_line=lines.append, what="it")
    assert lines == ["yes-"]


def test_a_command_that_asks_gets_no_answer_and_does_not_wait_for_one() -> None:
    code = RUN_FOR_EVER.replace("echo $$; exec sleep 1000", "cat; echo no input")
    # The input of the process that runs the command stays open, as a terminal does.
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as runner:
        assert runner.stdout is not None
        try:
            assert runner.stdout.read() == b"no input\n"
        finally:
            runner.kill()


def test_an_exit_code_is_an_error_with_the_last_lines(tmp_path: Path, lines: list[str]) -> None:
    with pytest.raises(CommandError) as caught:
        run(["sh", "-c", "for i in $(seq 30); do echo line $i; done; exit 3"], tmp_path, lines)
    last = tuple(f"line {number}" for number in range(11, 31))
    assert len(lines) == 30
    assert caught.value.lines == last
    assert str(caught.value) == "\n".join(["the command ended with exit code 3; its last lines:", *last])


def test_a_late_command_is_stopped_with_all_that_it_has_started(tmp_path: Path, lines: list[str]) -> None:
    with pytest.raises(CommandError, match=r"^the command took more than 0\.5 s and was stopped"):
        run(WITH_BACKGROUND_CHILD, tmp_path, lines, timeout_seconds=0.5)
    (pid,) = lines
    assert not is_running(int(pid))


def test_a_late_command_that_is_deaf_to_sigterm_is_killed(
    tmp_path: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "GRACE_SECONDS", 0.3)
    with pytest.raises(CommandError, match=r"took more than 0\.5 s and was stopped"):
        run(DEAF_TO_SIGTERM, tmp_path, lines, timeout_seconds=0.5)
    (pid,) = lines
    assert not is_running(int(pid))


def test_what_a_finished_command_has_left_in_its_group_is_ended(tmp_path: Path, lines: list[str]) -> None:
    run(["sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!"], tmp_path, lines)
    (pid,) = lines
    assert not is_running(int(pid))


class LeftError(Exception):
    """Ends the flow from within."""


@pytest.mark.parametrize("command", [WITH_BACKGROUND_CHILD, DEAF_TO_SIGTERM], ids=["background", "deaf"])
def test_leaving_by_an_exception_leaves_no_process(
    tmp_path: Path, command: list[str], lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "GRACE_SECONDS", 0.3)

    def leave(line: str) -> None:
        lines.append(line)
        raise LeftError

    with pytest.raises(LeftError):
        process.run(command, cwd=tmp_path, env=dict(os.environ), on_line=leave, what="it")
    (pid,) = lines
    assert not is_running(int(pid))


def test_sigterm_gives_a_command_the_time_to_end_by_itself(tmp_path: Path, lines: list[str]) -> None:
    # What a training does on SIGTERM: it writes its checkpoint, and only then ends.
    script = "trap 'sleep 0.5; touch checkpoint; exit 143' TERM; echo $$; while :; do sleep 0.05; done"
    with pytest.raises(CommandError, match="was stopped"):
        run(["sh", "-c", script], tmp_path, lines, timeout_seconds=0.5)
    assert (tmp_path / "checkpoint").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's end")
def test_a_command_ends_with_the_process_that_runs_it(lines: list[str]) -> None:
    with subprocess.Popen([sys.executable, "-c", RUN_FOR_EVER], stdout=subprocess.PIPE, text=True) as runner:
        assert runner.stdout is not None
        lines.append(runner.stdout.readline().strip())
        assert is_running(int(lines[0]))
        runner.kill()
    deadline = time.monotonic() + 10
    while is_running(int(lines[0])) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(int(lines[0]))
