"""The cap, the scale, what is refused, and the weights of real sets against numbers computed outside the code."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from facts import facts_of, missing
from PIL import Image
from starter import TEST, VAL

from segpipe.choices import WEIGHTINGS
from segpipe.data.class_weights.class_weights import compute_class_weights
from segpipe.errors import ConfigError

NUM_PX = np.array([[60, 40, 0], [90, 0, 10]])


def test_by_hand() -> None:
    # Inverse shares 4/3, 5, 20; times the shares 3/4, 1/5, 1/20 they sum to 3.
    weights = compute_class_weights("inverse_frequency", NUM_PX, 20, {})
    np.testing.assert_allclose(weights, [4 / 9, 5 / 3, 20 / 3])


def test_the_cap_bounds_the_ratio_of_two_weights() -> None:
    # Capped at 3 * 4/3 = 4: 4/3, 4, 4; their mean over the pixels is 1 + 4/5 + 1/5 = 2.
    np.testing.assert_allclose(compute_class_weights("inverse_frequency", NUM_PX, 3, {}), [2 / 3, 2, 2])
    np.testing.assert_allclose(compute_class_weights("inverse_frequency", NUM_PX, 1, {}), [1, 1, 1])


@pytest.mark.parametrize("cap", [2.0, 20.0])
@pytest.mark.parametrize("scheme", WEIGHTINGS.names())
def test_a_labelled_pixel_weighs_one_on_average(scheme: str, cap: float) -> None:
    num_px = np.array([[10**7, 3000, 20], [10**6, 0, 5]])
    weights = compute_class_weights(scheme, num_px, cap, {})
    assert (num_px.sum(axis=0) * weights).sum() / num_px.sum() == pytest.approx(1)
    assert weights.max() / weights.min() <= cap * (1 + 1e-12)


@pytest.mark.parametrize(
    ("scheme", "options", "message"),
    [
        ("median_frequncy", {}, "unknown class-weighting scheme 'median_frequncy'; did you mean 'median_frequency'"),
        ("enet", {"ofset": 1.1}, "class-weighting scheme 'enet': option ofset: unknown; did you mean 'offset'"),
        ("enet", {"offset": 1.0}, "class-weighting scheme 'enet': option offset: must be greater than 1 (got 1.0)"),
        ("inverse_frequency", {"power": 2}, "option power: must be less than or equal to 1 (got 2)"),
        ("effective_number", {"beta": 1}, "option beta: must be less than 1 (got 1)"),
        ("effective_number", {"beta": "x"}, "option beta: must be a number"),
    ],
)
def test_what_is_refused(scheme: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compute_class_weights(scheme, NUM_PX, 20, options)
    assert not missing(str(caught.value), *facts_of(message))


# Pixels of the eleven classes in the training splits, sky to bicyclist, counted by Pillow's histogram.
STARTER_PX = [1476320, 1611907, 250920, 2493532, 652616, 851031, 145296, 232332, 442892, 127505, 126245]
CAMVID_PX = [10682767, 14750079, 623349, 20076880, 2845085, 6166762, 743859, 714595, 3719877, 405385, 184967]

# (scheme, options): weights with the cap of 20, from these counts and the papers' equations in plain Python, to four
# digits. The starter's road, for one: its share is 2493532 / 8410596 = 0.29648, so its inverse weighs 3.3730; all
# inverses times their shares sum to 11 where none is capped: 3.3730 / 11 = 0.3066.
STARTER = {
    "none": [1.0] * 11,
    "inverse_frequency": [0.5179, 0.4743, 3.047, 0.3066, 1.172, 0.8984, 5.262, 3.291, 1.726, 5.997, 6.056],
    "square_root": [0.8109, 0.7761, 1.967, 0.624, 1.22, 1.068, 2.585, 2.044, 1.481, 2.759, 2.773],
    "median_frequency": [0.531, 0.4864, 3.124, 0.3144, 1.201, 0.9212, 5.212, 2.84, 1.73, 5.87, 6.14],
    "enet": [0.6928, 0.6445, 2.544, 0.45, 1.329, 1.082, 3.381, 2.659, 1.764, 3.581, 3.596],
    "effective_number": [0.5218, 0.4785, 3.031, 0.3122, 1.17, 0.8992, 5.228, 3.273, 1.721, 5.957, 6.016],
}
CAMVID = {
    "none": [1.0] * 11,
    "inverse_frequency": [0.6583, 0.4768, 7.005, 0.3503, 2.472, 1.14, 7.005, 7.005, 1.89, 7.005, 7.005],
    "square_root": [0.8769, 0.7463, 3.63, 0.6397, 1.699, 1.154, 3.323, 3.391, 1.486, 4.502, 6.664],
    "median_frequency": [0.6919, 0.4998, 7.384, 0.3692, 2.476, 1.049, 7.384, 4.902, 1.954, 7.384, 7.384],
    "enet": [0.8, 0.6132, 4.793, 0.4762, 2.211, 1.248, 4.503, 4.57, 1.832, 5.427, 6.269],
    "effective_number": [0.6539, 0.4793, 7.155, 0.3578, 2.398, 1.118, 7.155, 7.155, 1.839, 7.155, 7.155],
}


def _count(masks: Iterable[Path | BinaryIO]) -> np.ndarray:
    return np.array([np.bincount(np.asarray(Image.open(mask)).ravel(), minlength=256)[:11] for mask in masks])


@pytest.fixture(scope="module")
def starter_num_px(starter_folder: Path) -> np.ndarray:
    masks = sorted((starter_folder / "masks").iterdir())
    return _count(mask for mask in masks if mask.stem.split("_")[0] not in {*VAL, *TEST})


@pytest.fixture(scope="module")
def camvid_num_px(camvid_archive: Path) -> np.ndarray:
    with zipfile.ZipFile(camvid_archive) as archive:
        names = sorted(name for name in archive.namelist() if "/trainannot/" in name and name.endswith(".png"))
        return _count(io.BytesIO(archive.read(name)) for name in names)


def _weigh(scheme: str, num_px: np.ndarray) -> np.ndarray:
    if scheme == "square_root":
        return compute_class_weights("inverse_frequency", num_px, 20, {"power": 0.5})
    return compute_class_weights(scheme, num_px, 20, {})


def test_every_scheme_has_its_numbers() -> None:
    assert set(STARTER) == set(CAMVID) == {*WEIGHTINGS.names(), "square_root"}


@pytest.mark.parametrize("scheme", STARTER)
def test_the_starters_weights(starter_num_px: np.ndarray, scheme: str) -> None:
    assert starter_num_px.sum(axis=0).tolist() == STARTER_PX
    np.testing.assert_allclose(_weigh(scheme, starter_num_px), STARTER[scheme], rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", CAMVID)
def test_camvids_weights(camvid_num_px: np.ndarray, scheme: str) -> None:
    assert camvid_num_px.sum(axis=0).tolist() == CAMVID_PX
    np.testing.assert_allclose(_weigh(scheme, camvid_num_px), CAMVID[scheme], rtol=1e-3)


@pytest.mark.parametrize("scheme", ["none", "inverse_frequency", "square_root", "enet"])
def test_camvids_weights_from_its_counts_where_the_archive_is_not_at_hand(scheme: str) -> None:
    """These schemes ask only for the pixels of the whole, not how they are spread over the images."""
    np.testing.assert_allclose(_weigh(scheme, np.array([CAMVID_PX])), CAMVID[scheme], rtol=1e-3)
