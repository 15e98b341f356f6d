"""Starts and stops the services on one machine: `make up`, `make down`.

The Procfile lists the processes, honcho runs them. They and the stages below them have SERVICES_MARK in their
environment, so that `make down` finds all of them.
"""

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from pipelines.errors import PipelineError
from pipelines.login import find_login
from pipelines.stopped import SERVERS, find_services, find_stages, is_flow_run
from pipelines.workspace import HOME
from segpipe.addresses import spare_loopback
from segpipe.places import MLFLOW_STORE
from segpipe.stages.stage import report_errors

STATE = HOME / ".services"
ADDRESSES = STATE / "addresses.json"
LOG = STATE / "log"
LOGIN = STATE / "login"
MAX_LOG_BYTES = 10_000_000
SERVICES_MARK = "SEGPIPE_SERVICES"
HEALTH = {"prefect": "/api/health", "mlflow": "/health", "serve": "/healthz"}
HEALTHY_SECONDS = 180.0
DOWN_SECONDS = 45.0
UP_OR_DOWN_SECONDS = 600.0  # longer than another `make up` or `make down` takes
BIN = Path(sys.executable).parent


def main() -> None:
    """The commands `up` and `down`."""
    parser = argparse.ArgumentParser(prog="services", description="Prefect, MLflow and workers on this machine.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    start = commands.add_parser("up", help="start what is not running, and wait until it is healthy")
    start.add_argument("--prefect-port", type=int, default=4200)
    start.add_argument("--mlflow-port", type=int, default=5000)
    start.add_argument("--gpus", type=int, default=None, help="GPU workers; default: the number of GPUs, at least 1")
    start.add_argument("--serve-port", type=int, default=None, help="of `segpipe serve`; default: it is not started")
    start.set_defaults(
        run=lambda o: up(o.prefect_port, o.mlflow_port, _count_gpus() if o.gpus is None else o.gpus, o.serve_port)
    )
    commands.add_parser("down", help="stop all of them").set_defaults(run=lambda o: down())
    options = parser.parse_args()
    _make_private(STATE)
    with _alone():
        options.run(options)


def _make_private(folder: Path) -> None:
    """Makes a folder that only its owner can open: Prefect's database holds the secrets of blocks, with their key."""
    folder.mkdir(exist_ok=True)
    folder.chmod(0o700)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Waits for another `make up` or `make down` to end."""
    lock = FileLock(STATE / "lock")
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print("another `make up` or `make down` is running here; waiting for its end", flush=True)
            lock.acquire(timeout=UP_OR_DOWN_SECONDS)
    except Timeout as error:
        raise PipelineError(
            f"another `make up` or `make down` has not ended in {UP_OR_DOWN_SECONDS:g} s; stop it, and try again"
        ) from error
    try:
        yield
    finally:
        lock.release()


def up(prefect_port: int, mlflow_port: int, num_gpus: int, serve_port: int | None = None) -> None:
    """Starts the services, waits until they answer, deploys the flows and prints the addresses.

    `segpipe serve` answers before there is a champion: then it waits for one, and its `/readyz` says so.

    Args:
        prefect_port: of Prefect.
        mlflow_port: of MLflow.
        num_gpus: workers for GPUs.
        serve_port: of `segpipe serve`; None does not start it.

    Raises:
        PipelineError: a port is taken, or a service does not become healthy.
    """
    ports = {"prefect": prefect_port, "mlflow": mlflow_port}
    ports |= {} if serve_port is None else {"serve": serve_port}
    addresses = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    if _processes():
        running = json.loads(ADDRESSES.read_text(encoding="utf-8")) if ADDRESSES.exists() else {}
        if running != addresses:
            raise PipelineError(f"the services run at {', '.join(running.values())} already; `make down` first")
    else:
        _check_ports(ports)
        _prepare_store()
        ADDRESSES.write_text(json.dumps(addresses), encoding="utf-8")
        _start(ports, num_gpus, addresses)
    _wait_until_healthy({SERVERS[name]: f"{address}{HEALTH[name]}" for name, address in addresses.items()})
    pools = ["control", "cpu", *(["gpu"] if num_gpus else [])]
    deploy = [sys.executable, "-m", "pipelines.deploy", "--wait", *pools]
    if subprocess.run(deploy, env=_environment(addresses), cwd=HOME).returncode != 0:
        raise PipelineError(f"the servers run, but the flows are not deployed; see {LOG}, then `make up` again")
    print(f"Prefect:  {addresses['prefect']}    schedules, runs, workers; {_login_hint()}")
    print(f"MLflow:   {addresses['mlflow']}    runs, models, the champion")
    if "serve" in addresses:
        print(f"serve:    {addresses['serve']}    masks by the champion, once there is one; a page")
    print(f"log:      {LOG.relative_to(HOME)}")
    print("prefect in a shell:  . pipelines/login.sh")


def _login_hint() -> str:
    login = find_login(LOGIN)
    is_ours = LOGIN.exists() and LOGIN.read_text(encoding="utf-8").strip() == login
    if is_ours:
        return f"log in with:  cat {LOGIN.relative_to(HOME)}"
    return "log in with PREFECT_API_AUTH_STRING of your environment"


def down() -> None:
    """Stops the services and the stages below them; gives a training time to write its checkpoint."""
    before, begin = _processes(), time.time()
    services, stages = find_services(before), find_stages(before)
    for stage in stages:
        print(f"stopping {stage.name} in {stage.root}; it has {DOWN_SECONDS:g} s to end", flush=True)
    _end_runs()
    for sent, seconds in (("terminate", DOWN_SECONDS), ("kill", 5.0)):
        deadline = time.monotonic() + seconds
        asked: set[int] = set()
        while (left := _processes()) and time.monotonic() < deadline:
            # honcho ends its own processes; signals to all at the same time would only make them restart each other.
            for process in [p for p in left if _is_honcho(p)] or left:
                if process.pid not in asked:
                    asked.add(process.pid)
                    _signal([process], sent)
            time.sleep(0.2)
    if left := _processes():
        raise PipelineError(f"processes are still running; end them: kill -9 {' '.join(str(p.pid) for p in left)}")
    ADDRESSES.unlink(missing_ok=True)
    print(f"stopped: {', '.join(services)}" if before else "nothing was running")
    for stage in stages:
        print(stage.describe_end(begin))


def _end_runs() -> None:
    """Ends the flow runs while the servers can record it; otherwise they would stay `Running` in Prefect.

    Runs that compute are ended first; otherwise a retraining that ends would ask a worker to cancel them.
    """
    for of_a_retraining in (False, True):
        deadline = time.monotonic() + DOWN_SECONDS
        asked: set[int] = set()
        while (left := _runs(of_a_retraining)) and time.monotonic() < deadline:
            _signal([process for process in left if process.pid not in asked], "terminate")
            asked |= {process.pid for process in left}
            time.sleep(0.2)


def _runs(of_a_retraining: bool) -> list[psutil.Process]:
    return [process for process in _processes() if is_flow_run(process, of_a_retraining)]


def _signal(processes: list[psutil.Process], what: str) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            getattr(process, what)()


def _start(ports: dict[str, int], num_gpus: int, addresses: dict[str, str]) -> None:
    variables = {f"{name.upper()}_PORT": str(port) for name, port in ports.items()}
    environment = {**_environment(addresses), SERVICES_MARK: str(HOME), **variables}
    numbers = f"gpu={num_gpus},serve={int('serve' in ports)}"
    command = [str(BIN / "honcho"), "--no-colour", "start", "--concurrency", numbers]
    _put_aside(LOG)
    with LOG.open("a", encoding="utf-8") as log:
        subprocess.Popen(
            command, cwd=HOME, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


def _put_aside(log: Path) -> None:
    """Renames a long log, so that the services begin another one; the log before it is deleted."""
    if log.exists() and log.stat().st_size > MAX_LOG_BYTES:
        log.replace(log.with_name(f"{log.name}.1"))


def _prepare_store() -> None:
    """Creates MLflow's tables before its server starts, so that a `make repro` at the same time does not disturb it.

    Raises:
        PipelineError: the store cannot be used.
    """
    command = [sys.executable, "-m", "segpipe.tracking.store", f"sqlite:///{HOME / MLFLOW_STORE}"]
    done = subprocess.run(command, cwd=HOME, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise PipelineError(done.stderr.strip().removeprefix("segpipe: "))
    sys.stderr.write(done.stderr)


def _environment(addresses: dict[str, str]) -> dict[str, str]:
    """Gives the environment of servers and workers; the user's own variables win, except for addresses and login."""
    login, port = find_login(LOGIN), addresses["prefect"].rpartition(":")[2]
    defaults = {
        "PREFECT_HOME": str(STATE / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        # A page of any other origin gets no answer, and can change nothing even with the login.
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": f"http://127.0.0.1:{port},http://localhost:{port}",
        "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PREFECT_WORKER_ENABLE_CANCELLATION": "true",
        # A worker ends its runs after twelve failed calls; with 7 retries each call is tried for 254 s.
        "PREFECT_CLIENT_MAX_RETRIES": "7",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven processes that segpipe does not use
        "DO_NOT_TRACK": "true",
    }
    return {
        **defaults,
        **os.environ,
        **spare_loopback(os.environ),
        "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PREFECT_API_URL": f"{addresses['prefect']}/api",
        "PREFECT_API_AUTH_STRING": login,
        "PREFECT_SERVER_API_AUTH_STRING": login,
        "MLFLOW_TRACKING_URI": addresses["mlflow"],
    }


def _check_ports(ports: dict[str, int]) -> None:
    taken = []
    for name, port in ports.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                option = f"{'SERVE=1 ' if name == 'serve' else ''}{name.upper()}_PORT={port + 1}"
                taken.append(f"port {port}: {error.strerror}; take another: `make up {option}`")
    if taken:
        raise PipelineError("\n".join(taken))


def _wait_until_healthy(pages: dict[str, str]) -> None:
    deadline = time.monotonic() + HEALTHY_SECONDS
    web = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for name, page in pages.items():
        is_missing = False
        while True:
            try:
                web.open(page, timeout=5).close()
                break
            except (urllib.error.URLError, OSError) as error:
                # Once is not enough: of a process that has just begun Linux shows neither arguments nor environment.
                was_missing, is_missing = is_missing, not any(map(_is_honcho, _processes()))
                if (was_missing and is_missing) or time.monotonic() > deadline:
                    tail = LOG.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
                    message = f"{name} does not answer at {page}: {error}; run `make down`; the last lines of {LOG}:"
                    raise PipelineError("\n".join([message, *tail])) from error
                time.sleep(0.3)


def _processes() -> list[psutil.Process]:
    """Gives the processes of the services, and those below them."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(SERVICES_MARK) == str(HOME) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _is_honcho(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return any(Path(argument).name == "honcho" for argument in process.cmdline()[:2])
    return False


def _count_gpus() -> int:
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return 1
    return max(1, len(listed.splitlines()))


if __name__ == "__main__":
    sys.exit(report_errors(main))
