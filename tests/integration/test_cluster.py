"""The same code on a cluster, by one setting: a real Dask scheduler with two worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from samples import Sample, build, content_of, write_source

from segpipe.classes import ClassTable
from segpipe.data.building import shards
from segpipe.data.building.workers import VARIABLE
from segpipe.data.sources.source import Source
from segpipe.errors import ConfigError

if TYPE_CHECKING:
    from distributed import LocalCluster

SKIP = {"actions": {"mask-values": "skip"}, "max_skipped": 0.5}
NUM_WORKERS = 2


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=NUM_WORKERS,
        threads_per_worker=1,
        processes=True,
        dashboard_address=":0",
        local_directory=str(tmp_path / "dask"),
    ) as started:
        yield started


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Source:
    """Ninety samples in more runs than there are workers; one is spoilt."""
    monkeypatch.setattr(shards, "MEAN_RUN_LENGTH", 4)
    rng = np.random.default_rng(0)
    samples = []
    for split in ("train", "val", "test"):
        for i in range(30):
            mask = rng.integers(0, 3, (4, 6), np.uint8).repeat(8, 0).repeat(8, 1)
            image = rng.integers(0, 256, (*mask.shape, 3), np.uint8)
            samples.append(Sample(f"{split}_{i:02d}", split, split, image, mask))
    samples[40].mask[:, :10] = 77
    classes = ClassTable(("road", "car", "sky"), ((1, 1, 1), (2, 2, 2), (3, 3, 3)))
    return write_source(tmp_path / "source", classes, samples)


def test_a_dask_cluster_builds_the_same_bytes(
    monkeypatch: pytest.MonkeyPatch, cluster: LocalCluster, source: Source, tmp_path: Path
) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    here = build(source, tmp_path / "source", tmp_path / "here", policy=SKIP)

    monkeypatch.setenv(VARIABLE, f"dask:{cluster.scheduler_address}")
    there = build(source, tmp_path / "source", tmp_path / "there", tmp_path / "cache", policy=SKIP)

    assert content_of(tmp_path / "there") == content_of(tmp_path / "here")
    assert there.findings == here.findings
    assert (there.num_skipped, there.num_decoded) == (1, 90)
    assert min(_num_tasks_of_workers(cluster)) > 0

    again = build(source, tmp_path / "source", tmp_path / "again", tmp_path / "cache", policy=SKIP)
    assert content_of(tmp_path / "again") == content_of(tmp_path / "here")
    assert again.num_decoded == 1


def _num_tasks_of_workers(cluster: LocalCluster) -> list[int]:
    from distributed import Client

    with Client(cluster) as client:
        counts = client.run(lambda dask_worker: dask_worker.state.executed_count)
    assert len(counts) == NUM_WORKERS
    return list(counts.values())


def test_a_cluster_without_workers_is_an_error(
    monkeypatch: pytest.MonkeyPatch, cluster: LocalCluster, source: Source, tmp_path: Path
) -> None:
    cluster.scale(0)
    monkeypatch.setattr("segpipe.data.building.workers.MAX_WAIT_SECONDS", 0.5)
    monkeypatch.setenv(VARIABLE, f"dask:{cluster.scheduler_address}")
    with pytest.raises(ConfigError, match=r"cluster.*answer"):
        build(source, tmp_path / "source", tmp_path / "out")
