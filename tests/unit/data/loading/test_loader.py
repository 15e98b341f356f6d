"""The stream of batches is a function of seed, epoch and step."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from samples import Sample

from segpipe.config.augment import Augment
from segpipe.data.loading import augment, loader
from segpipe.data.loading.loader import Batch, TrainLoader
from segpipe.data.store import Store
from segpipe.errors import ConfigError

MakeSample = Callable[..., Sample]
AUGMENT = {
    "crop": [24, 16],
    "scale": [0.8, 1.5],
    "rare_class_crop": {"probability": 0.3, "power": 1.0},
    "transforms": [
        {"name": "flip", "probability": 0.5},
        {"name": "color_jitter", "options": {"brightness": 0.3, "hue": 0.1}},
        {"name": "cutmix", "probability": 0.3},
        {"name": "noise"},
    ],
}


@pytest.fixture
def store(make_store: Callable[..., Store], make_sample: MakeSample) -> Store:
    return make_store([make_sample(f"a_{i}") for i in range(11)])


def _batches(store: Store, epoch: int = 0, first_batch: int = 0, **changes: Any) -> list[Batch]:
    arguments = {"augment": Augment.model_validate(AUGMENT), "batch_size": 2, "seed": 5} | changes
    return list(TrainLoader(store, **arguments).batches(epoch, first_batch))


def _assert_same(left: list[Batch], right: list[Batch]) -> None:
    for (images, masks), (other_images, other_masks) in zip(left, right, strict=True):
        np.testing.assert_array_equal(images, other_images)
        np.testing.assert_array_equal(masks, other_masks)


def test_batches_are_full_and_of_the_crops_size(store: Store) -> None:
    batches = _batches(store)
    assert len(batches) == 5  # the eleventh sample waits
    for images, masks in batches:
        assert (images.shape, images.dtype) == ((2, 24, 16, 3), np.uint8)
        assert (masks.shape, masks.dtype) == ((2, 24, 16), np.uint8)


def test_a_split_smaller_than_a_batch_is_one_step(store: Store) -> None:
    ((images, _),) = _batches(store, batch_size=50)
    assert len(images) == 11


@pytest.mark.parametrize("num_threads", [1, 3, 8])
def test_the_stream_is_the_same_for_any_number_of_threads(
    store: Store, monkeypatch: pytest.MonkeyPatch, num_threads: int
) -> None:
    expected = _batches(store)
    monkeypatch.setattr(loader, "NUM_LOADING_THREADS", num_threads)
    _assert_same(_batches(store), expected)


def test_a_wrong_option_of_a_library_is_reported_before_the_first_batch(store: Store) -> None:
    transforms = [{"name": "albumentations", "probability": 0.0, "options": {"transform": "RandomGama"}}]
    with pytest.raises(ConfigError, match="did you mean 'RandomGamma'"):
        TrainLoader(store, Augment.model_validate({"crop": [8, 8], "transforms": transforms}), 2, 0)


def test_a_batch_stays_as_it_is_when_the_next_is_made(store: Store) -> None:
    """A prefetch holds one while it asks for the next."""
    loader = TrainLoader(store, Augment.model_validate(AUGMENT), 2, 5)
    held, copies = [], []
    for batch in loader.batches(0):
        held.append(batch)
        copies.append((batch[0].copy(), batch[1].copy()))
    _assert_same(held, copies)


def test_a_defect_in_a_thread_is_not_lost(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = TrainLoader(store, Augment.model_validate(AUGMENT), 2, 0).batches(0)
    monkeypatch.setattr(augment, "cut_and_resize", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        next(stream)


@pytest.mark.parametrize("first_batch", range(6))
def test_the_stream_begins_at_any_batch(store: Store, first_batch: int) -> None:
    _assert_same(_batches(store, first_batch=first_batch), _batches(store)[first_batch:])


def test_epochs_and_seeds_differ(store: Store) -> None:
    streams = [_batches(store), _batches(store, epoch=1), _batches(store, seed=6)]
    for left, right in pairwise([*streams, streams[0]]):
        assert all((a[0] != b[0]).any() for a, b in zip(left, right, strict=True))


def test_a_sample_is_varied_differently_in_each_epoch(
    make_store: Callable[..., Store], make_sample: MakeSample
) -> None:
    """With one sample the order cannot differ."""
    store = make_store([make_sample("a_0")])
    ((first, _),), ((second, _),) = _batches(store, epoch=0), _batches(store, epoch=1)
    assert (first != second).any()


def test_an_epoch_shows_each_sample_at_most_once_and_all_appear_over_time(
    make_store: Callable[..., Store], make_sample: MakeSample
) -> None:
    samples = []
    for i in range(11):
        sample = make_sample(f"a_{i}")
        sample.image[:] = i
        samples.append(sample)
    store = make_store(samples)
    plain = Augment.model_validate({"crop": [32, 32]})
    seen = set()
    for epoch in range(12):
        shown = [int(image[0, 0, 0]) for images, _ in _batches(store, epoch, augment=plain) for image in images]
        assert len(set(shown)) == len(shown) == 10
        seen |= set(shown)
    assert seen == set(range(11))


def test_stopping_early_ends_the_threads(store: Store) -> None:
    stream = TrainLoader(store, Augment.model_validate(AUGMENT), 2, 0).batches(0)
    next(stream)
    stream.close()
