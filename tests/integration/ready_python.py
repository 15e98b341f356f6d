"""A Python that has loaded the libraries once and forks a process for each command: real processes without the imports.

A stage of its own costs up to five seconds of imports, and the tests run a thousand. A forked process has its own
folder, environment, signals, exit code and copy of segpipe; only the libraries below are loaded before. Tests of what
a user's own process does from its first instruction on use `Project.start` or `Project.python`, which fork nothing.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

# What stages and commands import; a library that is missing here costs time and nothing else.
LIBRARIES = (
    "torch",
    "torchvision",
    "numpy",
    "pandas",
    "pyarrow.parquet",
    "PIL.Image",
    "cv2",
    "scipy.stats",
    "matplotlib.pyplot",
    "albumentations",
    "safetensors.torch",
    "pydantic",
    "ruamel.yaml",
    "jinja2",
    "joblib",
    "httpx",
    "fsspec",
    "filelock",
    "mlflow.pyfunc",
    "mlflow.tracking",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.system_metrics.system_metrics_monitor",
    "sqlalchemy.dialects.sqlite",
    "alembic.script",
    "pillow_heif",
    "networkx",
    "dvc.cli.parser",
    "dvc.repo",
)
# The programs that are forked, by the modules that hold their `main`.
PROGRAMS = {"segpipe": "segpipe.cli", "dvc": "dvc.cli"}
STAGES = "segpipe.stages."
# Read when they are needed, or by segpipe, which is not loaded before; others may be read by Python, or by a library
# when it is loaded. `_become` takes the module path.
READ_LATE = {"MLFLOW_TRACKING_URI", "PYTHONPATH"}
READ_BY_SEGPIPE = "SEGPIPE_"
NUM_STREAMS = 2
MAX_ORDER_BYTES = 1 << 20


def can_run(command: Sequence[str], variables: Mapping[str, str]) -> bool:
    """Whether a command is one of those that are forked.

    Args:
        command: as typed in a shell.
        variables: set for it alone.
    """
    is_stage = command[:2] == ("python", "-m") and len(command) == 3 and command[2].startswith(STAGES)
    are_late = all(name in READ_LATE or name.startswith(READ_BY_SEGPIPE) for name in variables)
    return (is_stage or command[0] in PROGRAMS) and are_late


def run(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], timeout_seconds: float
) -> subprocess.CompletedProcess[str]:
    """Runs one of the commands that are forked, in a folder and an environment, however it ends.

    Raises:
        subprocess.TimeoutExpired: it has been killed.
    """
    connection = _start()
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        order = json.dumps({"command": command, "folder": str(folder), "environment": dict(environment)})
        socket.send_fds(connection, [order.encode()], [stdout.fileno(), stderr.fileno()])
        pid = int(connection.recv(64))
        try:
            connection.settimeout(timeout_seconds)
            code = int(connection.recv(64))
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            connection.settimeout(None)
            connection.recv(64)
            raise subprocess.TimeoutExpired(list(command), timeout_seconds) from None
        texts = []
        for stream in (stdout, stderr):
            stream.seek(0)
            texts.append(stream.read().decode().replace("\r\n", "\n").replace("\r", "\n"))
    return subprocess.CompletedProcess(tuple(command), code, *texts)


@functools.cache
def _start() -> socket.socket:
    """Starts the Python that forks; it ends with this process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, __file__, str(theirs.fileno())]
    # The module path of these tests is not that of a project.
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, env=variables)
    theirs.close()

    def stop() -> None:
        ours.close()
        process.wait()

    atexit.register(stop)
    return ours


def _serve(connection: socket.socket) -> list[str]:
    """Forks for each order; returns in the forked process only, as the process that was asked for."""
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    paths = sys.path[1:]
    while True:
        message, streams, *_ = socket.recv_fds(connection, MAX_ORDER_BYTES, NUM_STREAMS)
        if not message:
            os._exit(0)
        pid = os.fork()
        if pid == 0:
            connection.close()
            return _become(json.loads(message), streams, paths)
        for stream in streams:
            os.close(stream)
        connection.send(str(pid).encode())
        _, status = os.waitpid(pid, 0)
        connection.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(order: dict, streams: list[int], paths: list[str]) -> list[str]:
    """Takes the streams, folder, environment and module path of an order; gives its command."""
    for number, stream in enumerate(streams, start=1):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    command = order["command"]
    own = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    first = str(Path.cwd()) if command[0] == "python" else str(Path(sys.executable).parent)
    sys.path[:] = [first, *own, *(path for path in paths if path not in own)]
    sys.orig_argv = command
    return command


def _run(command: list[str]) -> None:
    """Does what the forked process is for."""
    if command[0] == "python":
        sys.argv = command[2:]
        runpy.run_module(command[2], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [str(Path(sys.executable).with_name(command[0])), *command[1:]]
        sys.exit(importlib.import_module(PROGRAMS[command[0]]).main())


def _end(code: object) -> None:
    """Ends the process as Python does at `sys.exit(code)`, except that no module is taken down: that takes 0.5 s."""
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # waits for threads
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(int(code or 0) & 0xFF)


if __name__ == "__main__":
    order = _serve(socket.socket(fileno=int(sys.argv[1])))
    try:
        _run(order)
    except SystemExit as error:
        _end(error.code)
    _end(None)
