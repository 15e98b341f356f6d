"""Use, memory and power of GPUs arrive in MLflow: the driver's library is replaced, all above it is real."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import pynvml
import pytest
from mlflow.tracking import MlflowClient

from segpipe.classes import ClassTable
from segpipe.tracking.journal import Journal
from segpipe.tracking.run import Description, find_run, track
from segpipe.tracking.tags import SIGNATURE

PATIENCE_SECONDS = 30
MEGABYTE = 1_000_000


@pytest.fixture
def was_read_twice(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """A driver with one GPU: 40 of 80 MB used, 75% busy, 210 of 700 W.

    The event is set when it is read for the second time: the first reading has been sent by then.
    """
    num_readings, event = iter(range(1_000_000)), threading.Event()

    def read_power(handle: object) -> int:
        if next(num_readings) == 1:
            event.set()
        return 210_000

    answers = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(used=40 * MEGABYTE, total=80 * MEGABYTE),
        "nvmlDeviceGetUtilizationRates": lambda handle: SimpleNamespace(gpu=75),
        "nvmlDeviceGetPowerUsage": read_power,
        "nvmlDeviceGetEnforcedPowerLimit": lambda handle: 700_000,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)
    return event


def test_use_memory_and_power_of_a_gpu_are_metrics_of_the_run(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, was_read_twice: threading.Event
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", client.tracking_uri)
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    journal = Journal(tmp_path / "checkpoints" / "abc")
    journal.begin()
    params = {"train": {"model": {"name": "unet"}}}
    description = Description("Default", "abc", params, {}, "dataset", "d", {})
    with track(journal, description, {}, ClassTable(("a", "b"), ((0, 0, 0), (1, 1, 1)))):
        assert was_read_twice.wait(PATIENCE_SECONDS)
    run_id = find_run(client, "Default", {SIGNATURE: "abc"})
    assert run_id is not None
    metrics = client.get_run(run_id).data.metrics
    assert {name: value for name, value in metrics.items() if name.startswith("system/gpu")} == {
        "system/gpu_0_memory_usage_megabytes": 40,
        "system/gpu_0_memory_usage_percentage": 50,
        "system/gpu_0_utilization_percentage": 75,
        "system/gpu_0_power_usage_watts": 210,
        "system/gpu_0_power_usage_percentage": 30,
    }
