"""The store: what is written is read, by content and not by name, and damage is noticed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from segpipe.classes import ClassTable
from segpipe.data.store import (
    DESCRIPTION,
    IMAGES,
    MANIFEST,
    MASKS,
    Sample,
    Store,
    difference_hash,
    digest_of,
    write_store,
)
from segpipe.errors import StoreError

MakeStore = Callable[..., Store]


@pytest.fixture
def samples(make_sample: Callable[..., Sample]) -> list[Sample]:
    return [
        make_sample("a_0", "train", 32, 48),
        make_sample("a_1", "train", 24, 32),
        make_sample("b_0", "val", 32, 48),
        make_sample("c_0", "test", 40, 40),
    ]


def test_round_trip(make_store: MakeStore, samples: list[Sample], classes: ClassTable) -> None:
    store = make_store(samples)
    assert store.classes == classes
    assert len(store) == 4
    for index, sample in enumerate(samples):
        image, mask = store.read(index)
        np.testing.assert_array_equal(image, sample.image)
        np.testing.assert_array_equal(mask, sample.mask)
        row = store.manifest.iloc[index]
        assert (row["sample_id"], row["group"], row["split"]) == (sample.sample_id, sample.group, sample.split)
        assert row["num_void_px"] == (sample.mask == 255).sum()
        assert store.num_px()[index].tolist() == [(sample.mask == i).sum() for i in range(3)]


def test_what_is_read_cannot_be_changed(make_store: MakeStore, samples: list[Sample]) -> None:
    image, mask = make_store(samples).read(0)
    assert not image.flags.writeable
    assert not mask.flags.writeable


def test_the_same_samples_give_the_same_bytes(make_store: MakeStore, samples: list[Sample], tmp_path: Path) -> None:
    make_store(samples, "one")
    make_store(samples, "two")
    for name in (IMAGES, MASKS, MANIFEST, DESCRIPTION):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_the_digest_is_of_the_content_alone(make_store: MakeStore, samples: list[Sample]) -> None:
    digest = make_store(samples, "one").digest
    assert len(digest) == 32
    assert make_store(samples[::-1], "reversed").digest == digest
    renamed = [dataclasses.replace(sample, sample_id=f"x{i}", group="g") for i, sample in enumerate(samples)]
    assert make_store(renamed, "renamed").digest == digest


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


@pytest.mark.parametrize("name", [IMAGES, MASKS, MANIFEST])
def test_a_flipped_bit_is_noticed(make_store: MakeStore, samples: list[Sample], tmp_path: Path, name: str) -> None:
    make_store(samples)
    path = tmp_path / "dataset" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match=f"{name} changed since preprocess wrote it; delete .*dvc repro --force"):
        Store.open(path.parent)


def test_another_class_table_is_noticed(make_store: MakeStore, samples: list[Sample], tmp_path: Path) -> None:
    make_store(samples)
    path = tmp_path / "dataset" / DESCRIPTION
    description = json.loads(path.read_text())
    description["classes"]["names"].reverse()
    path.write_text(json.dumps(description))
    with pytest.raises(StoreError):
        Store.open(path.parent)


@pytest.mark.parametrize("name", [IMAGES, MASKS, MANIFEST, DESCRIPTION])
def test_a_missing_file_is_noticed(make_store: MakeStore, samples: list[Sample], tmp_path: Path, name: str) -> None:
    make_store(samples)
    (tmp_path / "dataset" / name).unlink()
    with pytest.raises(StoreError, match=r"is no data set: .*; run `dvc repro preprocess`"):
        Store.open(tmp_path / "dataset")


@pytest.mark.parametrize("content", ["", "{}", "[]", "null"])
def test_a_description_that_is_none_is_noticed(
    make_store: MakeStore, samples: list[Sample], tmp_path: Path, content: str
) -> None:
    make_store(samples)
    (tmp_path / "dataset" / DESCRIPTION).write_text(content)
    with pytest.raises(StoreError, match="is no data set"):
        Store.open(tmp_path / "dataset")


def test_of_split(make_store: MakeStore, samples: list[Sample]) -> None:
    store = make_store(samples)
    val = store.of_split("val")
    assert val.manifest["sample_id"].tolist() == ["b_0"]
    np.testing.assert_array_equal(val.read(0)[0], samples[2].image)
    assert val.digest == make_store([samples[2]], "val").digest == digest_of(val.manifest, val.classes)
    assert len({store.digest, val.digest, store.of_split("train").digest}) == 3


def test_a_class_may_be_called_void(make_store: MakeStore, make_sample: Callable[..., Sample]) -> None:
    sample = make_sample("a_0")
    store = make_store([sample], table=ClassTable(("road", "void", "sky"), ((1, 1, 1), (2, 2, 2), (3, 3, 3))))
    assert store.num_px().tolist() == [[(sample.mask == i).sum() for i in range(3)]]


def test_no_samples_write_an_empty_manifest(classes: ClassTable, tmp_path: Path) -> None:
    assert len(write_store(tmp_path, classes, [])) == 0


def test_difference_hash_by_hand() -> None:
    # Brightness rises from left to right: every cell is darker than its right neighbour.
    rising = np.tile(np.arange(0, 180, 20, dtype=np.uint8).repeat(8), (64, 1))
    assert difference_hash(np.stack([rising] * 3, axis=-1)) == 2**64 - 1
    assert difference_hash(np.stack([rising[:, ::-1]] * 3, axis=-1)) == 0


def test_difference_hash_knows_an_image_in_another_size_and_not_another_image(
    make_sample: Callable[..., Sample],
) -> None:
    image, other = (cv2.GaussianBlur(make_sample(name, height=64, width=96).image, (9, 9), 0) for name in "ab")
    smaller = cv2.resize(image, (64, 48), interpolation=cv2.INTER_AREA)
    assert (difference_hash(image) ^ difference_hash(smaller)).bit_count() <= 4
    assert (difference_hash(image) ^ difference_hash(other)).bit_count() > 12
