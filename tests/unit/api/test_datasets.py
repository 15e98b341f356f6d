"""The data set as a program sees it, and as PyTorch's loaders do."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from samples import Sample
from torch.utils.data import DataLoader

import segpipe
from segpipe.data.store import Store
from segpipe.errors import StoreError


@pytest.fixture
def samples(make_sample: Callable[..., Sample]) -> list[Sample]:
    return [
        make_sample("a_0"),
        make_sample("b_0", "val", 40, 24),
        make_sample("a_1"),
        make_sample("b_1", "val", 40, 24),
    ]


@pytest.fixture
def dataset(make_store: Callable[..., Store], samples: list[Sample]) -> segpipe.Dataset:
    return segpipe.open_dataset(make_store(samples).folder)


def test_samples_are_those_that_were_written(dataset: segpipe.Dataset, samples: list[Sample]) -> None:
    assert len(dataset) == 4
    for (image, mask), sample in zip(dataset, samples, strict=True):
        np.testing.assert_array_equal(image, sample.image)
        np.testing.assert_array_equal(mask, sample.mask)
    assert dataset.samples["sample_id"].tolist() == ["a_0", "b_0", "a_1", "b_1"]
    assert dataset.classes.names == ("road", "car", "sky")
    with pytest.raises(IndexError):
        dataset[4]


def test_what_is_given_may_be_changed(dataset: segpipe.Dataset, samples: list[Sample]) -> None:
    image, mask = dataset[0]
    image[:], mask[:] = 0, 0
    samples_of_user = dataset.samples
    samples_of_user["split"] = "test"
    np.testing.assert_array_equal(dataset[0][0], samples[0].image)
    assert dataset.splits == ("train", "val")


def test_a_split_holds_its_samples_alone(dataset: segpipe.Dataset) -> None:
    val = dataset.split("val")
    assert val.samples["sample_id"].tolist() == ["b_0", "b_1"] and len(val) == 2
    assert val.digest != dataset.digest and val.split("val").digest == val.digest
    with pytest.raises(StoreError, match=r"'test'.*train, val"):
        dataset.split("test")


def test_it_can_be_pickled(dataset: segpipe.Dataset) -> None:
    again = pickle.loads(pickle.dumps(dataset.split("val")))
    np.testing.assert_array_equal(again[1][0], dataset[3][0])
    assert repr(again) == repr(dataset.split("val")) and "2 val" in repr(again)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_the_processes_of_a_loader_read_it(dataset: segpipe.Dataset, samples: list[Sample], context: str) -> None:
    loader = DataLoader(dataset.split("train"), batch_size=2, num_workers=1, multiprocessing_context=context)
    ((images, masks),) = list(loader)
    assert images.shape == (2, 32, 32, 3)
    np.testing.assert_array_equal(masks[1].numpy(), samples[2].mask)


def test_a_folder_without_a_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=str(tmp_path)):
        segpipe.open_dataset(str(tmp_path))
