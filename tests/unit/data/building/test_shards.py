"""Shards: which samples share one, how large they grow, and what is counted while they are written."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import samples as test_samples

from segpipe.classes import ClassTable
from segpipe.data.building import shards
from segpipe.data.building.shards import Sample, describe, split_into_runs, split_into_shards, write_shards

MakeSample = Callable[..., test_samples.Sample]


def _names(num: int) -> list[str]:
    return sorted(f"street/{hashlib.sha256(str(i).encode()).hexdigest()[:6]}" for i in range(num))


def _reference_runs(names: list[str]) -> list[list[str]]:
    """The slow, obvious way: one name after the other."""
    runs: list[list[str]] = [[]]
    for name in names:
        runs[-1].append(name)
        ends = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) % shards.MEAN_RUN_LENGTH == 0
        if ends or len(runs[-1]) == shards.MAX_RUN_LENGTH:
            runs.append([])
    return [run for run in runs if run]


def _runs(names: list[str]) -> list[list[str]]:
    return [[names[i] for i in run] for run in split_into_runs(names)]


@pytest.mark.parametrize("num", [0, 1, 2, 100, 2000])
@pytest.mark.parametrize(("mean", "most"), [(32, 128), (1, 128), (1000, 7), (4, 8)])
def test_runs_are_those_of_the_reference(monkeypatch: pytest.MonkeyPatch, num: int, mean: int, most: int) -> None:
    monkeypatch.setattr(shards, "MEAN_RUN_LENGTH", mean)
    monkeypatch.setattr(shards, "MAX_RUN_LENGTH", most)
    names = _names(num)
    assert _runs(names) == _reference_runs(names)


def test_runs_are_about_as_long_as_they_should_be_and_never_longer_than_they_may() -> None:
    lengths = [len(run) for run in _runs(_names(20_000))]
    assert 0.8 * shards.MEAN_RUN_LENGTH < np.mean(lengths) < 1.2 * shards.MEAN_RUN_LENGTH
    assert max(lengths) <= shards.MAX_RUN_LENGTH


def test_a_sample_more_or_less_changes_few_runs() -> None:
    names = _names(2000)
    before = {tuple(run) for run in _runs(names)}
    num_changed = []
    for index in range(0, 2000, 37):
        after = {tuple(run) for run in _runs(names[:index] + names[index + 1 :])}
        num_changed.append(len(before - after))
        assert len(after - before) <= len(before - after) + 1
    # One run, two where the sample had ended one; a run of the greatest length pushes its neighbour.
    assert np.mean(num_changed) < 1.5
    assert max(num_changed) <= 4


@pytest.mark.parametrize("bound", [1, 100, 250, 10_000])
def test_shards_split_as_they_are_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, classes: ClassTable, bound: int
) -> None:
    """Two places say where a shard ends; a store taken over must be the one that would be written."""
    monkeypatch.setattr(shards, "MAX_SHARD_BYTES", bound)
    rng = np.random.default_rng(3)
    samples = [_constant(f"s{i:02d}", *rng.integers(1, 9, 2)) for i in range(40)]
    rows = write_shards(tmp_path, samples, classes)
    assert [row["sample_id"] for row in rows] == [sample.sample_id for sample in samples]
    parts = split_into_shards([4 * sample.mask.size for sample in samples])
    starts = [index for index, row in enumerate(rows) if row["offset"] == 0]
    assert [part.start for part in parts] == starts


def _constant(sample_id: str, height: int, width: int, value: int = 0) -> Sample:
    value = value or int(sample_id[1:]) + 1
    return Sample(
        sample_id, np.full((height, width, 3), value, np.uint8), np.full((height, width), value % 3, np.uint8)
    )


def test_no_shard_is_larger_than_it_may_be_unless_one_sample_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, classes: ClassTable
) -> None:
    monkeypatch.setattr(shards, "MAX_SHARD_BYTES", 4 * 100)
    sizes = [(5, 10), (5, 10), (1, 1), (30, 30), (9, 11), (1, 1), (1, 1)]
    rows = write_shards(tmp_path, [_constant(f"s{i}", *size) for i, size in enumerate(sizes)], classes)
    held: dict[str, list[str]] = {}
    for row in rows:
        held.setdefault(row["shard"], []).append(row["sample_id"])
    assert list(held.values()) == [["s0", "s1"], ["s2"], ["s3"], ["s4", "s5"], ["s6"]]
    sizes_bytes = {path.stem: path.stat().st_size for path in tmp_path.iterdir()}
    assert [sizes_bytes[name] for name in held] == [400, 4, 3600, 400, 4]


def test_a_shard_holds_images_and_masks_one_after_another(tmp_path: Path, make_sample: MakeSample) -> None:
    first, second = (_sample(make_sample(name, "train", 8, height)) for name, height in (("a", 12), ("b", 20)))
    rows = write_shards(tmp_path, [first, second], ClassTable(("x",), ((0, 0, 0),)))
    (path,) = tmp_path.iterdir()
    expected = b"".join(part.tobytes() for part in (first.image, first.mask, second.image, second.mask))
    assert path.read_bytes() == expected
    assert [(row["offset"], row["height"], row["width"], row["shard"]) for row in rows] == [
        (0, 8, 12, path.stem),
        (4 * 8 * 12, 8, 20, path.stem),
    ]


def _sample(sample: test_samples.Sample) -> Sample:
    return Sample(sample.sample_id, sample.image, sample.mask)


def test_a_shards_name_is_of_its_pixels_alone(tmp_path: Path, classes: ClassTable) -> None:
    def write(*samples: Sample) -> str:
        return str(write_shards(tmp_path, samples, classes)[0]["shard"])

    one, two = _constant("s1", 4, 4), _constant("s2", 4, 4)
    assert write(one, two) == write(Sample("renamed", one.image, one.mask), two)
    assert len({write(one, two), write(two, one), write(one), write(two)}) == 4


def test_pixels_that_do_not_lie_side_by_side_are_written_in_order(tmp_path: Path, classes: ClassTable) -> None:
    image = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(3, 7, 5).T
    mask = np.arange(35, dtype=np.uint8).reshape(7, 5).T
    (row,) = write_shards(tmp_path, [Sample("a", image, mask)], classes)
    assert (tmp_path / f"{row['shard']}.bin").read_bytes() == image.tobytes() + mask.tobytes()
    assert row["image_sha256"] == hashlib.sha256(image.tobytes()).hexdigest()


def test_a_sample_that_cannot_be_read_leaves_no_file(tmp_path: Path, classes: ClassTable) -> None:
    def samples() -> Iterator[Sample]:
        yield _constant("s1", 4, 4)
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        write_shards(tmp_path, samples(), classes)
    assert list(tmp_path.iterdir()) == []


def test_one_sample_at_a_time_is_held(tmp_path: Path, classes: ClassTable) -> None:
    alive: list[weakref.ref[Sample]] = []

    def samples() -> Iterator[Sample]:
        for i in range(10):
            assert sum(reference() is not None for reference in alive) <= 1
            sample = _constant(f"s{i}", 4, 4)
            alive.append(weakref.ref(sample))
            yield sample

    assert len(write_shards(tmp_path, samples(), classes)) == 10


def test_no_samples_write_nothing(tmp_path: Path, classes: ClassTable) -> None:
    assert write_shards(tmp_path, [], classes) == []
    assert list(tmp_path.iterdir()) == []


def test_what_is_counted_is_what_numpy_counts(classes: ClassTable, make_sample: MakeSample) -> None:
    sample = _sample(make_sample("a_0", "train", 44, 60))
    row = describe(sample, classes)
    assert (row["sample_id"], row["height"], row["width"]) == ("a_0", 44, 60)
    counts = [row[f"num_px_{name}"] for name in classes.names]
    assert counts == [int((sample.mask == value).sum()) for value in (0, 1, 2)]
    assert sum(counts) == (sample.mask != 255).sum()
