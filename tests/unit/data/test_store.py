"""The store: what is written is read, by content and not by name, and damage is noticed."""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from samples import Sample, content_of

from segpipe.classes import ClassTable
from segpipe.data import store
from segpipe.data.building import shards
from segpipe.data.store import (
    DATASET_FILE,
    MANIFEST,
    Store,
    changed_shards,
    digest_of,
    evenly_spread,
    num_px_of_classes,
    read_manifest,
)
from segpipe.errors import StoreError

MakeStore = Callable[..., Store]
SHARD = "shards/*.bin"


@pytest.fixture
def samples(make_sample: Callable[..., Sample]) -> list[Sample]:
    return [
        make_sample("a_0", "train", 32, 48),
        make_sample("a_1", "train", 24, 32),
        make_sample("b_0", "val", 32, 48),
        make_sample("c_0", "test", 40, 40),
    ]


@pytest.fixture
def _a_shard_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "MAX_SHARD_BYTES", 1)


def _assert_holds(opened: Store, samples: list[Sample]) -> None:
    assert len(opened) == len(samples)
    for index, sample in enumerate(samples):
        image, mask = opened.read(index)
        np.testing.assert_array_equal(image, sample.image)
        np.testing.assert_array_equal(mask, sample.mask)


@pytest.mark.parametrize("max_shard_bytes", [1, 10_000, 64 << 20])
def test_round_trip(
    monkeypatch: pytest.MonkeyPatch,
    make_store: MakeStore,
    samples: list[Sample],
    classes: ClassTable,
    max_shard_bytes: int,
) -> None:
    monkeypatch.setattr(shards, "MAX_SHARD_BYTES", max_shard_bytes)
    opened = make_store(samples)
    assert opened.classes == classes
    _assert_holds(opened, samples)
    for index, sample in enumerate(samples):
        row = opened.manifest.iloc[index]
        assert (row["sample_id"], row["group"], row["split"]) == (sample.sample_id, sample.group, sample.split)
        assert opened.num_px()[index].tolist() == [(sample.mask == i).sum() for i in range(3)]


def test_what_is_read_cannot_be_changed(make_store: MakeStore, samples: list[Sample]) -> None:
    image, mask = make_store(samples).read(0)
    for view in (image, mask):
        assert not view.flags.writeable
        assert not view.flags.owndata
        with pytest.raises(ValueError, match="WRITEABLE"):
            view.flags.writeable = True


@pytest.mark.usefixtures("_a_shard_a_sample")
def test_only_so_many_files_are_held_open(
    monkeypatch: pytest.MonkeyPatch, make_store: MakeStore, make_sample: Callable[..., Sample]
) -> None:
    monkeypatch.setattr(store, "MAX_NUM_MAPS", 5)
    samples = [make_sample(f"a_{i:02d}", "train", 8, 8) for i in range(40)]
    opened = make_store(samples)
    gc.collect()
    num_open = _num_open_files()
    for _ in range(2):
        _assert_holds(opened, samples)
        assert _num_open_files() <= num_open + 5
    # What is still looked at stays, though its map has been given up.
    image, _ = opened.read(0)
    _assert_holds(opened, samples)
    np.testing.assert_array_equal(image, samples[0].image)


def _num_open_files() -> int:
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("only Linux tells")
    return len(list(folder.iterdir()))


def test_a_shard_is_mapped_once(make_store: MakeStore, samples: list[Sample]) -> None:
    opened = make_store(samples)
    assert opened.read(0)[0].base.base is opened.read(1)[0].base.base


def test_the_same_samples_give_the_same_bytes(make_store: MakeStore, samples: list[Sample], tmp_path: Path) -> None:
    make_store(samples, "one")
    make_store(samples, "two")
    assert content_of(tmp_path / "one") == content_of(tmp_path / "two")


def test_the_digest_is_of_the_content_alone(
    monkeypatch: pytest.MonkeyPatch, make_store: MakeStore, samples: list[Sample]
) -> None:
    digest = make_store(samples, "one").digest
    assert len(digest) == 32
    assert make_store(samples[::-1], "reversed").digest == digest
    renamed = [dataclasses.replace(sample, sample_id=f"x{i}", group="g") for i, sample in enumerate(samples)]
    assert make_store(renamed, "renamed").digest == digest
    monkeypatch.setattr(shards, "MAX_SHARD_BYTES", 1)
    assert make_store(samples, "other shards").digest == digest


@pytest.mark.parametrize("change", ["image", "mask", "split", "classes", "fewer"])
def test_the_digest_notices_every_change_of_content(
    make_store: MakeStore, samples: list[Sample], classes: ClassTable, change: str
) -> None:
    digest = make_store(samples, "before").digest
    last, table = samples[-1], classes
    if change in {"image", "mask"}:
        pixels = getattr(last, change).copy()
        pixels[1, 1] = (pixels[1, 1] + 1) % 3
        last = dataclasses.replace(last, **{change: pixels})
    elif change == "split":
        last = dataclasses.replace(last, split="val")
    elif change == "classes":
        table = ClassTable(("road", "sky", "car"), classes.colors)
    changed = samples[:-1] if change == "fewer" else [*samples[:-1], last]
    assert make_store(changed, "after", table).digest != digest


@pytest.mark.usefixtures("_a_shard_a_sample")
@pytest.mark.parametrize("part", ["begin", "middle", "end"])
@pytest.mark.parametrize("pattern", [SHARD, MANIFEST])
def test_a_flipped_bit_is_noticed(
    make_store: MakeStore, samples: list[Sample], tmp_path: Path, pattern: str, part: str
) -> None:
    make_store(samples)
    folder = tmp_path / "dataset"
    path = sorted(folder.glob(pattern))[-1]
    content = bytearray(path.read_bytes())
    content[{"begin": 0, "middle": len(content) // 2, "end": -1}[part]] ^= 1
    path.write_bytes(content)
    name = path.relative_to(folder).as_posix()
    with pytest.raises(StoreError, match=f": {name} changed since preprocess wrote it; delete .*dvc repro --force"):
        Store.open(folder)


@pytest.mark.usefixtures("_a_shard_a_sample")
def test_all_damaged_shards_are_named(make_store: MakeStore, samples: list[Sample], tmp_path: Path) -> None:
    opened = make_store(samples)
    shorter, gone, unreadable, whole = (tmp_path / f"dataset/shards/{name}.bin" for name in opened.manifest["shard"])
    shorter.write_bytes(shorter.read_bytes()[:-1])
    gone.unlink()
    unreadable.unlink()
    unreadable.mkdir()
    wrong = sorted(path.stem for path in (shorter, gone, unreadable))
    assert changed_shards(whole.parent, opened.manifest) == wrong
    with pytest.raises(StoreError, match=", ".join(f"shards/{name}.bin" for name in wrong)):
        Store.open(tmp_path / "dataset")


def test_pixels_are_verified_to_the_end_of_blocks(
    monkeypatch: pytest.MonkeyPatch, make_store: MakeStore, samples: list[Sample], tmp_path: Path
) -> None:
    monkeypatch.setattr(store, "HASHED_BYTES", 100)
    _assert_holds(make_store(samples), samples)


def test_another_class_table_is_noticed(make_store: MakeStore, samples: list[Sample], tmp_path: Path) -> None:
    make_store(samples)
    path = tmp_path / "dataset" / DATASET_FILE
    description = json.loads(path.read_text())
    description["classes"]["names"].reverse()
    path.write_text(json.dumps(description))
    with pytest.raises(StoreError, match=f"{DATASET_FILE} changed"):
        Store.open(path.parent)


@pytest.mark.parametrize("name", [MANIFEST, DATASET_FILE])
def test_a_missing_file_is_noticed(make_store: MakeStore, samples: list[Sample], tmp_path: Path, name: str) -> None:
    make_store(samples)
    (tmp_path / "dataset" / name).unlink()
    with pytest.raises(StoreError, match=r"data.*set.*`dvc repro preprocess`"):
        Store.open(tmp_path / "dataset")


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", '{"sha256": {}}', "\udcff"])
def test_a_description_that_is_none_is_noticed(
    make_store: MakeStore, samples: list[Sample], tmp_path: Path, content: str
) -> None:
    make_store(samples)
    (tmp_path / "dataset" / DATASET_FILE).write_text(content, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(StoreError, match="is not a data set"):
        Store.open(tmp_path / "dataset")


def test_of_split(make_store: MakeStore, samples: list[Sample]) -> None:
    opened = make_store(samples)
    val = opened.of_split("val")
    assert val.manifest["sample_id"].tolist() == ["b_0"]
    np.testing.assert_array_equal(val.read(0)[0], samples[2].image)
    assert val.digest == make_store([samples[2]], "val").digest == digest_of(val.manifest, val.classes)
    assert len({opened.digest, val.digest, opened.of_split("train").digest}) == 3


def test_the_order_by_content_does_not_know_names(make_store: MakeStore, samples: list[Sample]) -> None:
    names = [f"z_{len(samples) - index}" for index in range(len(samples))]
    renamed = [dataclasses.replace(sample, sample_id=name) for sample, name in zip(samples, names, strict=True)]
    orders = []
    for group in (samples, renamed):
        store = make_store(group, str(len(orders))).by_content()
        pixels = [(image.tobytes(), mask.tobytes()) for image, mask in map(store.read, range(len(store)))]
        assert [hashlib.sha256(image).hexdigest() for image, _ in pixels] == store.manifest["image_sha256"].tolist()
        orders.append(pixels)
    assert orders[0] == orders[1]


def test_a_split_without_samples_is_an_empty_store(make_store: MakeStore, samples: list[Sample]) -> None:
    empty = make_store(samples[:2]).of_split("test")
    assert len(empty) == 0
    assert empty.num_px().shape == (0, 3)


def test_the_manifest_is_read_without_a_look_at_the_pixels(
    make_store: MakeStore, samples: list[Sample], classes: ClassTable, tmp_path: Path
) -> None:
    opened = make_store(samples)
    shutil.rmtree(tmp_path / "dataset" / "shards")
    manifest, table = read_manifest(tmp_path / "dataset")
    assert table == classes
    np.testing.assert_array_equal(num_px_of_classes(manifest, table), opened.num_px())


def test_a_class_may_be_called_void(make_store: MakeStore, make_sample: Callable[..., Sample]) -> None:
    sample = make_sample("a_0")
    opened = make_store([sample], table=ClassTable(("road", "void", "sky"), ((1, 1, 1), (2, 2, 2), (3, 3, 3))))
    assert opened.num_px().tolist() == [[(sample.mask == i).sum() for i in range(3)]]


@pytest.mark.parametrize(
    ("num_samples", "num_chosen", "expected"),
    [(10, 1, [5]), (10, 2, [2, 7]), (4, 4, [0, 1, 2, 3]), (2, 5, [0, 1]), (5, 0, []), (0, 3, [])],
)
def test_evenly_spread(num_samples: int, num_chosen: int, expected: list[int]) -> None:
    assert evenly_spread(num_samples, num_chosen) == expected
