"""Where the work of `preprocess` is done: in processes of this machine, or on a cluster, by one setting.

    SEGPIPE_WORKERS=4                       so many processes; by default one for each core
    SEGPIPE_WORKERS=dask:tcp://HOST:8786    the workers of a Dask scheduler
    SEGPIPE_WORKERS=ray                     the workers of a Ray cluster (ray:ADDRESS names one)

It is not a parameter, because it does not change the result. Workers of a cluster need segpipe installed and the
project's folder under the same path.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar

from joblib import Parallel, cpu_count, delayed, parallel_config

from segpipe.errors import ConfigError

VARIABLE = "SEGPIPE_WORKERS"
MAX_WAIT_SECONDS = 10
WATCH_SECONDS = 0.5

T = TypeVar("T")


def map_in_workers(function: Callable[..., T], calls: Sequence[tuple[Any, ...]]) -> Iterator[T]:
    """Calls a function with each tuple of arguments, in workers.

    Args:
        function: of a module's top level; arguments and results are pickled.
        calls: the arguments of each call.

    Yields:
        The results in order of the calls.

    Raises:
        ConfigError: SEGPIPE_WORKERS is wrong, the library it asks for is missing, the cluster does not answer, or a
            worker process was killed.
    """
    setting = os.environ.get(VARIABLE) or str(cpu_count())
    if not calls:
        return
    if setting.isdecimal():
        num_processes = min(int(setting), len(calls))
        if num_processes <= 1:  # starting one would take longer than it saves
            yield from (function(*call) for call in calls)
        else:
            yield from _map_in_processes(num_processes, function, calls)
        return
    with contextlib.ExitStack() as cluster:
        _enter_cluster(setting, cluster)
        work = (delayed(_call_in)(Path.cwd(), function, call) for call in calls)
        yield from Parallel(n_jobs=-1, return_as="generator")(work)


def _call_in(folder: Path, function: Callable[..., T], call: tuple[Any, ...]) -> T:
    """Calls in the folder that paths are relative to: a cluster's worker may have started in another one."""
    os.chdir(folder)
    return function(*call)


def _map_in_processes(num_processes: int, function: Callable[..., T], calls: Sequence[tuple[Any, ...]]) -> Iterator[T]:
    processes = Parallel(num_processes, "loky", return_as="generator", initializer=_end_with, initargs=(os.getpid(),))
    try:
        yield from processes(delayed(function)(*call) for call in calls)
    except BrokenProcessPool as error:
        fix = f"if memory is short, use fewer: {VARIABLE}={max(1, num_processes // 2)}"
        raise ConfigError(f"one of {num_processes} worker processes was killed by the system; {fix}") from error


def _end_with(parent: int) -> None:
    """Ends this worker soon after its parent ends in any way; otherwise it would wait minutes for more work."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _enter_cluster(setting: str, stack: contextlib.ExitStack) -> None:
    kind, _, address = setting.partition(":")
    try:
        if kind == "dask" and address:
            from distributed import Client
            from distributed.comm import get_address_host_port

            get_address_host_port(address)  # a client with a wrong address leaves a thread behind
            client = stack.enter_context(Client(address, timeout=MAX_WAIT_SECONDS))
            client.wait_for_workers(1, timeout=MAX_WAIT_SECONDS)
        elif kind == "ray":
            import ray
            from ray.util.joblib import register_ray

            ray.init(address=address or "auto", ignore_reinit_error=True)
            register_ray()
        else:
            raise ConfigError(f"{VARIABLE}={setting}: must be a number, dask:ADDRESS, ray or ray:ADDRESS")
    except ImportError as error:
        fix = "install it in segpipe's environment, here and on the workers"
        raise ConfigError(f"{VARIABLE}={setting}: {error}; {fix}") from error
    except (OSError, ValueError) as error:
        fix = "start it with its workers, or fix the address"
        raise ConfigError(f"{VARIABLE}={setting}: the cluster does not answer: {error}; {fix}") from error
    stack.enter_context(parallel_config(backend=kind))
