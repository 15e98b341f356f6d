"""The store that was built last: when it may be taken over, and what happens if it is damaged or half written."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from samples import Sample, content_of, write_source, write_store

from segpipe import code
from segpipe.classes import ClassTable
from segpipe.code import PACKAGE
from segpipe.data.building import reuse, shards
from segpipe.data.building.reuse import KEY, LastStore, find_keys, keep_store
from segpipe.data.masks.labels import IndexMask
from segpipe.data.sources.source import RawSample
from segpipe.data.store import DATASET_FILE, MANIFEST, Store
from segpipe.documents import DECIDES_NOTHING, ImageMapping
from segpipe.files import sha256_of_file

MakeSample = Callable[..., Sample]


# Keys.


@pytest.fixture
def raw(tmp_path: Path, classes: ClassTable, make_sample: MakeSample) -> RawSample:
    (found,) = write_source(tmp_path / "source", classes, [make_sample("a_0")]).samples
    return found


def _key(sample: RawSample, classes: ClassTable, mapping: ImageMapping = DECIDES_NOTHING) -> str:
    sha256 = {path: sha256_of_file(path) for path in (sample.image, *sample.label.files)}
    return find_keys([sample], sha256, classes, mapping)[sample.sample_id]


def test_the_key_is_the_same_for_the_same_content_under_another_name(
    raw: RawSample, classes: ClassTable, make_sample: MakeSample, tmp_path: Path
) -> None:
    again = dataclasses.replace(make_sample("a_0"), sample_id="other")
    (renamed,) = write_source(tmp_path / "elsewhere", classes, [again]).samples
    assert _key(raw, classes) == _key(renamed, classes)
    moved = dataclasses.replace(raw, official_split="val", group="other", attributes={"patient": "7"})
    assert _key(raw, classes) == _key(moved, classes)
    other_colors = dataclasses.replace(classes, colors=classes.colors[::-1])
    assert _key(raw, classes) == _key(raw, other_colors)


@pytest.mark.parametrize("change", ["image", "mask", "meaning", "class names", "code", "library", "mapping"])
def test_whatever_decides_the_pixels_decides_the_key(
    monkeypatch: pytest.MonkeyPatch, raw: RawSample, classes: ClassTable, tmp_path: Path, change: str
) -> None:
    package = shutil.copytree(PACKAGE, tmp_path / "segpipe", ignore=shutil.ignore_patterns("__pycache__"))
    for module in (code, reuse):
        monkeypatch.setattr(module, "PACKAGE", package)
    before = _key(raw, classes)
    assert _key(raw, classes) == before
    if change in {"image", "mask"}:
        path = raw.image if change == "image" else raw.label.files[0]
        path.write_bytes(path.read_bytes() + b"\0")
    elif change == "meaning":
        raw = dataclasses.replace(raw, label=IndexMask(raw.label.files[0], {0: 1, 1: 0, 2: 2, 255: 255}))
    elif change == "class names":
        classes = dataclasses.replace(classes, names=("road", "van", "sky"))
    elif change == "code":
        (package / "data/masks/reading.py").write_text("NEW = 1")
    elif change == "mapping":
        assert _key(raw, classes, ImageMapping(range=(0, 255))) != before
        return
    else:
        monkeypatch.setattr(reuse, "version", lambda name: f"newer {name}")
    assert _key(raw, classes) != before


def test_a_sample_whose_files_are_not_all_known_has_no_key(raw: RawSample, classes: ClassTable) -> None:
    assert find_keys([raw], {raw.image: "0" * 64}, classes) == {}


# What is taken over.


@pytest.fixture
def samples(make_sample: MakeSample) -> list[Sample]:
    return [make_sample(f"a_{i}", height=28 - 4 * i) for i in range(5)]


@pytest.fixture
def cache(tmp_path: Path, classes: ClassTable, samples: list[Sample]) -> Path:
    """Two shards, of the samples 0 and 1 and of 2, 3 and 4, whose keys are k0 to k4."""
    for name, held in (("one", samples[:2]), ("two", samples[2:])):
        (tmp_path / name).mkdir()
        write_store(tmp_path / name, classes, held)
    shutil.copytree(tmp_path / "two/shards", tmp_path / "one/shards", dirs_exist_ok=True)
    manifest = pd.concat([pd.read_parquet(tmp_path / name / MANIFEST) for name in ("one", "two")], ignore_index=True)
    keyed = manifest.assign(key=[f"k{i}" for i in range(5)])
    keep_store(tmp_path / "cache", tmp_path / "one", keyed, classes, "a licence")
    return tmp_path / "cache"


def _take_over(cache: Path, output: Path, keys: list[str | None]) -> list[str] | None:
    """Gives the shard of each sample, and checks that they are there."""
    (output / "shards").mkdir(parents=True)
    ids = [f"new_{i}" for i in range(len(keys))]
    rows = LastStore(cache, [key for key in keys if key is not None]).take_over(ids, keys, output)
    written = {path.stem for path in (output / "shards").iterdir()}
    if rows is None:
        assert written == set()
        return None
    assert [row["sample_id"] for row in rows] == ids
    assert written == {row["shard"] for row in rows}
    return [str(row["shard"]) for row in rows]


@pytest.mark.parametrize(
    ("keys", "max_shard_bytes", "num_shards"),
    [
        (["k0", "k1"], 64 << 20, 1),
        (["k2", "k3", "k4"], 64 << 20, 1),
        (["k0"], 64 << 20, None),  # only a part of a shard
        (["k1", "k0"], 64 << 20, None),
        (["k0", "k1", "new"], 64 << 20, None),
        (["k0", "k1", None], 64 << 20, None),
        (["k0", "k1", "k2", "k3", "k4"], 64 << 20, None),  # would be one shard now
        (["k0", "k1", "k2", "k3", "k4"], 4 * 32 * (28 + 24), 2),
        ([], 64 << 20, 0),
    ],
)
def test_shards_are_taken_over_where_writing_would_give_the_same(
    monkeypatch: pytest.MonkeyPatch,
    cache: Path,
    tmp_path: Path,
    keys: list[str | None],
    max_shard_bytes: int,
    num_shards: int | None,
) -> None:
    monkeypatch.setattr(shards, "MAX_SHARD_BYTES", max_shard_bytes)
    taken_over = _take_over(cache, tmp_path / "out", keys)
    assert (None if taken_over is None else len(set(taken_over))) == num_shards


def test_what_is_taken_over_takes_no_space(cache: Path, tmp_path: Path) -> None:
    assert _take_over(cache, tmp_path / "out", ["k0", "k1"])
    (path,) = (tmp_path / "out/shards").iterdir()
    assert path.samefile(cache / "shards" / path.name)


def test_on_another_file_system_shards_are_copied(monkeypatch: pytest.MonkeyPatch, cache: Path, tmp_path: Path) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    assert _take_over(cache, tmp_path / "out", ["k0", "k1"])
    (path,) = (tmp_path / "out/shards").iterdir()
    assert not path.samefile(cache / "shards" / path.name)
    assert path.read_bytes() == (cache / "shards" / path.name).read_bytes()


def test_the_place_of_pixels_is_given(cache: Path, samples: list[Sample]) -> None:
    last = LastStore(cache, ["k3"])
    place = last.place_of("k3")
    assert place is not None
    assert (place.folder, place.row["sample_id"], place.row["height"]) == (cache, "a_3", 16)
    assert last.place_of(None) is None
    assert last.place_of("new") is None
    # Only shards with wanted samples are verified, and so only these are given.
    assert last.place_of("k0") is None


@pytest.mark.parametrize("damage", ["flipped", "shorter", "missing"])
def test_a_damaged_shard_is_not_given_and_the_others_are(cache: Path, damage: str) -> None:
    keys = [f"k{i}" for i in range(5)]
    place = LastStore(cache, keys).place_of("k1")
    assert place is not None
    path = cache / "shards" / f"{place.row['shard']}.bin"
    content = path.read_bytes()
    path.unlink()
    if damage == "flipped":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "shorter":
        path.write_bytes(content[:-1])
    last = LastStore(cache, keys)
    assert [last.place_of(key) is not None for key in keys] == [False, False, True, True, True]


def _forget_description(cache: Path) -> None:
    (cache / DATASET_FILE).unlink()


def _forget_manifest(cache: Path) -> None:
    (cache / MANIFEST).unlink()


def _change_manifest(cache: Path) -> None:
    pd.read_parquet(cache / MANIFEST).iloc[::-1].to_parquet(cache / MANIFEST)


def _be_another_store(cache: Path) -> None:
    manifest = pd.read_parquet(cache / MANIFEST).drop(columns=KEY)
    manifest.to_parquet(cache / MANIFEST, index=False)
    description = json.loads((cache / DATASET_FILE).read_text())
    description["sha256"][MANIFEST] = sha256_of_file(cache / MANIFEST)
    (cache / DATASET_FILE).write_text(json.dumps(description))


def _fill_with_rubbish(cache: Path) -> None:
    for name in (MANIFEST, DATASET_FILE):
        (cache / name).write_bytes(b"\x89rubbish")


@pytest.mark.parametrize(
    "damage",
    [shutil.rmtree, _forget_description, _forget_manifest, _change_manifest, _be_another_store, _fill_with_rubbish],
)
def test_a_cache_that_is_not_whole_gives_nothing(cache: Path, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    damage(cache)
    assert _take_over(cache, tmp_path / "out", ["k0", "k1"]) is None


def test_samples_without_keys_are_never_given(cache: Path, tmp_path: Path, classes: ClassTable) -> None:
    store = Store.open(cache)
    keep_store(cache, cache.with_name("one"), store.manifest.assign(key=[None] * 5), classes, "a licence")
    assert _take_over(cache, tmp_path / "out", ["k0", "k1"]) is None
    keep_store(
        cache, cache.with_name("one"), store.manifest.assign(key=["k0", "k1", None, "k3", "k4"]), classes, "a licence"
    )
    # A hole in a shard is no reason to take the shard over as if its neighbours lay side by side.
    assert _take_over(cache, tmp_path / "out 2", ["k3", "k4"]) is None
    assert _take_over(cache, tmp_path / "out 3", ["k0", "k1"]) is not None


# What is kept.


def test_a_kept_store_is_a_store(cache: Path, classes: ClassTable) -> None:
    store = Store.open(cache)
    assert store.classes == classes
    assert store.manifest[KEY].tolist() == ["k0", "k1", "k2", "k3", "k4"]


def test_unused_shards_are_not_kept(cache: Path, tmp_path: Path, classes: ClassTable) -> None:
    (cache / "shards/left over.bin").write_bytes(b"of a process that was killed")
    (cache / ".new.abc123.part").mkdir()
    (cache / "new").mkdir()
    manifest = Store.open(cache).manifest[:2]
    keep_store(cache, tmp_path / "one", manifest, classes, "a licence")
    (shard,) = set(manifest["shard"])
    assert list(content_of(cache)) == [DATASET_FILE, MANIFEST, f"shards/{shard}.bin"]
    assert not (cache / "new").exists()


def test_a_damaged_shard_of_the_cache_is_replaced(cache: Path, tmp_path: Path, classes: ClassTable) -> None:
    store = Store.open(cache)
    path = cache / "shards" / f"{store.manifest['shard'][0]}.bin"
    path.unlink()
    path.write_bytes(b"rubbish")
    keep_store(cache, tmp_path / "one", store.manifest, classes, "a licence")
    Store.open(cache)
