"""Where the work is done: the same results here and in processes, and settings that cannot be followed are refused."""

from __future__ import annotations

import gc
import operator
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from segpipe.data.building import workers
from segpipe.data.building.workers import VARIABLE, _call_in, map_in_workers
from segpipe.errors import ConfigError

CALLS = [(2, i) for i in range(50)]


@pytest.mark.parametrize("setting", ["1", "2", "3", "", None])
def test_results_come_in_order(monkeypatch: pytest.MonkeyPatch, setting: str | None) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    if setting is not None:
        monkeypatch.setenv(VARIABLE, setting)
    assert list(map_in_workers(pow, CALLS)) == [2**i for i in range(50)]


@pytest.mark.parametrize("setting", ["0", "1"])
def test_one_worker_is_this_process(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    monkeypatch.setenv(VARIABLE, setting)
    assert set(map_in_workers(os.getpid, [()] * 5)) == {os.getpid()}


def test_several_workers_are_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "2")
    assert os.getpid() not in set(map_in_workers(os.getpid, [()] * 5))


def test_for_a_single_call_no_process_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "8")
    assert list(map_in_workers(os.getpid, [()])) == [os.getpid()]


@pytest.mark.parametrize("setting", ["1", "2"])
def test_no_calls_give_no_results(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    monkeypatch.setenv(VARIABLE, setting)
    assert list(map_in_workers(pow, [])) == []


@pytest.mark.parametrize("setting", ["1", "2"])
def test_an_error_in_a_worker_is_an_error_here(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    monkeypatch.setenv(VARIABLE, setting)
    with pytest.raises(ZeroDivisionError):
        list(map_in_workers(operator.truediv, [(1, 1), (1, 0), (1, 2)]))


@pytest.mark.parametrize("setting", ["-1", "2.5", "two", "dask", "dask:", "spark:tcp://127.0.0.1:1", " "])
def test_an_unknown_setting_lists_the_valid_ones(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    monkeypatch.setenv(VARIABLE, setting)
    with pytest.raises(ConfigError, match=f"^{VARIABLE}={setting}: .*number.*dask:ADDRESS.*ray:ADDRESS"):
        list(map_in_workers(pow, CALLS))


@pytest.mark.parametrize(("setting", "library"), [("dask:tcp://127.0.0.1:1", "distributed"), ("ray", "ray")])
def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, setting: str, library: str) -> None:
    monkeypatch.setenv(VARIABLE, setting)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigError, match=f"^{VARIABLE}={setting}: .*{library}.*install"):
        list(map_in_workers(pow, CALLS))


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "no-port", "bar://127.0.0.1:1"])
def test_a_cluster_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(workers, "MAX_WAIT_SECONDS", 0.2)
    monkeypatch.setenv(VARIABLE, f"dask:{address}")
    with pytest.raises(ConfigError, match=f"^{VARIABLE}=dask:{address}: .*answer"):
        list(map_in_workers(pow, CALLS))
    gc.collect()  # a failed client that is collected while another one starts makes that wait for it


def test_a_worker_that_is_killed_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the system does if memory is short; a traceback of the pool would not explain it."""
    monkeypatch.setenv(VARIABLE, "2")
    with pytest.raises(ConfigError, match=f"2 worker processes.*killed.*{VARIABLE}=1"):
        list(map_in_workers(os._exit, [(9,)] * 4))
    assert list(map_in_workers(pow, CALLS[:3])) == [1, 2, 4]


BUSY_FOR_LONG = """
import os, sys, time
from segpipe.data.building.workers import map_in_workers

def work(folder):
    open(os.path.join(folder, str(os.getpid())), "w").close()
    time.sleep(0.1)

for _ in map_in_workers(work, [(sys.argv[1],)] * 10_000):
    pass
"""
MAX_SECONDS = 30


def test_workers_end_with_their_parent_however_it_ends(tmp_path: Path) -> None:
    """Otherwise they would finish their work and wait minutes for more."""
    parent = subprocess.Popen(
        [sys.executable, "-c", BUSY_FOR_LONG, tmp_path], env={**os.environ, VARIABLE: "2"}, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + MAX_SECONDS
        while len(found := list(tmp_path.iterdir())) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        parent.kill()
        parent.wait()
    processes = [process for path in found if (process := _process(int(path.name))) is not None]
    _, alive = psutil.wait_procs(processes, timeout=MAX_SECONDS)
    for process in alive:
        process.kill()
    assert len(found) == 2
    assert alive == []


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None


def test_a_cluster_s_worker_works_in_the_folder_of_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "project").mkdir()
    assert _call_in(tmp_path / "project", Path.cwd, ()) == tmp_path / "project"
