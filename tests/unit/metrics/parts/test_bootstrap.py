"""Units and intervals: by hand, and next to a slow bootstrap and jackknife that sum matrices and score them."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from segpipe.metrics import iou, mean_iou
from segpipe.metrics.parts import bootstrap, counts
from segpipe.metrics.parts.bootstrap import Comparison, Units, bundle, estimate_iou
from segpipe.metrics.parts.counts import confusions_of
from segpipe.metrics.parts.image_counts import ImageCounts

Counts = npt.NDArray[np.int64]
MONTE_CARLO = 0.06  # four standard errors of a standard error from 2,000 resamples


def compare(challenger: Counts, champion: Counts, units: Units) -> Comparison:
    return bootstrap.compare(confusions_of(challenger), confusions_of(champion), units)


def _one_class(hits: list[int], num_px: int | list[int] = 1000) -> Counts:
    """Images of class 0 alone: so many of its pixels are hit, the others are called 1; the IoU is hits / num_px."""
    confusions = np.zeros((len(hits), 2, 2), np.int64)
    confusions[:, 0, 0] = hits
    confusions[:, 0, 1] = np.asarray(num_px) - np.asarray(hits)
    return confusions


def _random_pair(num_images: int = 12, seed: int = 0) -> tuple[Counts, Counts]:
    """Three classes, the last labelled in a third of the images; images of very different size."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(1, 50, (num_images, 3)) ** 2
    truth[np.arange(num_images) % 3 > 0, 2] = 0
    chances = [rng.dirichlet([1, 1, 1], (num_images, 3)) + 2 * np.eye(3) for _ in range(2)]
    challenger, champion = (rng.multinomial(truth, chance / 3) for chance in chances)
    return challenger, champion


def _slow_errors(values: list[float], resampled: list[float]) -> tuple[float, float]:
    num = len(values)
    jackknife = math.sqrt((num - 1) / num * sum((value - np.mean(values)) ** 2 for value in values))
    return float(np.std(resampled, ddof=1)) * math.sqrt(num / (num - 1)), jackknife


def test_groups_are_the_units_in_whatever_order_images_come() -> None:
    units = bundle(["b", "a", "b", "c"])
    assert (units.kind, units.num_units) == ("group", 3)
    assert units.index[0] == units.index[2]
    assert len({int(unit) for unit in units.index}) == 3


@pytest.mark.parametrize(
    ("num_images", "num_blocks"), [(1, 1), (3, 1), (4, 2), (26, 5), (99, 9), (100, 10), (5000, 10)]
)
def test_one_video_is_cut_into_the_root_of_its_length_but_at_most_ten(num_images: int, num_blocks: int) -> None:
    units = bundle(["only"] * num_images)
    assert (units.kind, units.num_units) == ("block", num_blocks)
    assert (np.diff(units.index) >= 0).all()  # contiguous
    lengths = np.bincount(units.index)
    assert lengths.max() - lengths.min() <= 1


def test_blocks_of_a_length_stay_inside_their_group_and_are_never_shorter() -> None:
    units = bundle(["a"] * 7 + ["b"] * 2 + ["a"] * 4, block_length=3)
    assert units.kind == "block"
    # a: 11 images give 3 blocks of 4, 4, 3; b is shorter than a block and is one.
    assert units.index.tolist() == [0, 0, 0, 0, 1, 1, 1, 3, 3, 1, 2, 2, 2]
    assert units.num_units == 4


def test_two_units_by_hand() -> None:
    # Differences of 0.002 and 0: mean 0.001, standard deviation 0.002 / sqrt(2), standard error 0.001.
    comparison = compare(_one_class([502, 500]), _one_class([500, 500]), bundle(["a", "b"]))
    assert comparison.delta.value == pytest.approx(0.001)
    margin = 12.7062 * 0.001  # Student's t, one degree of freedom
    assert comparison.delta.low == pytest.approx(0.001 - margin, rel=MONTE_CARLO)
    assert comparison.delta.high == pytest.approx(0.001 + margin, rel=MONTE_CARLO)
    assert comparison.probability == pytest.approx(0.5 + math.atan(1) / math.pi, abs=0.01)  # Cauchy
    assert comparison.challenger.value == pytest.approx(0.501)
    assert comparison.champion.value == 0.5
    assert (comparison.kind, comparison.num_units) == ("group", 2)


def test_four_units_by_hand() -> None:
    # Differences of 1, 2, 3, 4 per mille: standard deviation sqrt(5 / 3), standard error sqrt(5 / 12).
    comparison = compare(_one_class([501, 502, 503, 504]), _one_class([500] * 4), bundle(list("abcd")))
    margin = 3.18245 * math.sqrt(5 / 12) / 1000
    assert comparison.delta.value == pytest.approx(0.0025)
    assert comparison.delta.low == pytest.approx(0.0025 - margin, abs=MONTE_CARLO * margin)
    assert comparison.delta.high - 0.0025 == pytest.approx(0.0025 - comparison.delta.low)
    assert comparison.class_deltas[0] == comparison.delta
    assert math.isnan(comparison.class_deltas[1].value)


def test_bounds_stop_at_what_a_score_can_be() -> None:
    units = bundle(["a", "b"])
    mean, classes = estimate_iou(confusions_of(_one_class([900, 200])), units)
    assert (mean.low, mean.high) == (classes[0].low, classes[0].high) == (0.0, 1.0)
    delta = compare(_one_class([900, 200]), _one_class([100, 200]), units).delta
    assert (delta.low, delta.high) == (-1.0, 1.0)


def test_the_same_model_twice_is_no_difference_for_certain() -> None:
    challenger, _ = _random_pair()
    comparison = compare(challenger, challenger.copy(), bundle(list("aabbccddeeff")))
    assert comparison.delta == bootstrap.Estimate(0.0, 0.0, 0.0)
    assert comparison.probability == 0.5


@pytest.mark.parametrize(("hits", "probability"), [([510, 510], 1.0), ([490, 490], 0.0)])
def test_a_difference_without_spread_is_certain(hits: list[int], probability: float) -> None:
    comparison = compare(_one_class(hits), _one_class([500, 500]), bundle(["a", "b"]))
    assert comparison.delta.low == comparison.delta.value == comparison.delta.high
    assert comparison.probability == probability


def test_one_unit_has_a_value_and_no_interval() -> None:
    comparison = compare(_one_class([502, 500]), _one_class([500, 500]), bundle(["a", "a"]))
    assert comparison.num_units == 1
    for estimate in (comparison.delta, comparison.challenger, comparison.class_deltas[0]):
        assert not math.isnan(estimate.value)
        assert math.isnan(estimate.low)
        assert math.isnan(estimate.high)
    assert math.isnan(comparison.probability)


def test_both_models_are_scored_on_the_same_resamples() -> None:
    # Groups are very unlike, the two models differ by ten pixels of a thousand in each.
    champion = [100, 300, 500, 700, 900]
    comparison = compare(_one_class([hits + 10 for hits in champion]), _one_class(champion), bundle(list("abcde")))
    assert comparison.delta.low == pytest.approx(0.01)
    assert comparison.champion.high - comparison.champion.low > 0.5


def test_an_image_without_a_labelled_pixel_changes_nothing() -> None:
    challenger, champion = _random_pair()
    groups = list("aabbccddeeff")
    void = np.zeros((1, 3, 3), np.int64)
    with_void = compare(np.concatenate([challenger, void]), np.concatenate([champion, void]), bundle([*groups, "g"]))
    assert with_void == compare(challenger, champion, bundle(groups))


def test_nothing_but_void_has_no_score() -> None:
    void = np.zeros((4, 3, 3), np.int64)
    comparison = compare(void, void, bundle(list("aabb")))
    mean, by_class = estimate_iou(confusions_of(void), bundle(list("aabb")))
    assert comparison.num_units == 0
    assert all(math.isnan(estimate.value) for estimate in (comparison.delta, mean, *by_class))


def test_other_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="on the same images"):
        compare(_one_class([5, 5]), _one_class([5, 5], num_px=999), bundle(["a", "b"]))


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_a_slow_bootstrap_and_jackknife(seed: int) -> None:
    challenger, champion = _random_pair(seed=seed)
    groups = np.array(list("aabbbccddeff"))
    members = [np.flatnonzero(groups == name) for name in np.unique(groups)]
    rng = np.random.default_rng(seed + 100)

    def score(drawn: list[int]) -> npt.NDArray[np.float64]:
        rows = np.concatenate([members[unit] for unit in drawn])
        ours, theirs = challenger[rows], champion[rows]
        ours, theirs = confusions_of(ours), confusions_of(theirs)
        mean = mean_iou.compute(ours) - mean_iou.compute(theirs)
        return np.array([mean, *(iou.compute(ours) - iou.compute(theirs))])

    num_units = len(members)
    without_one = np.array([score([other for other in range(num_units) if other != out]) for out in range(num_units)])
    resampled = np.array([score(list(rng.integers(0, num_units, num_units))) for _ in range(4000)])
    comparison = compare(challenger, champion, bundle(list(groups)))
    for column, estimate in enumerate([comparison.delta, *comparison.class_deltas]):
        labelled = [unit for unit, rows in enumerate(members) if column == 0 or challenger[rows, column - 1].sum() > 0]
        values = resampled[:, column]
        error = max(_slow_errors(list(without_one[labelled, column]), list(values[~np.isnan(values)])))
        margin = stats.t.ppf(0.975, len(labelled) - 1) * error
        assert estimate.value == pytest.approx(score(list(range(num_units)))[column])
        assert max(estimate.value - margin, -1) == pytest.approx(estimate.low, abs=MONTE_CARLO * margin)


def test_the_jackknife_counts_where_one_unit_outweighs_the_others() -> None:
    # One long video and three short ones; the long one alone says that the challenger is better.
    num_px = [10_000, 500, 500, 500]
    champion = _one_class([5_000, 250, 250, 250], num_px)
    delta = compare(_one_class([5_100, 250, 250, 250], num_px), champion, bundle(list("abcd"))).delta
    value = 100 / 11_500
    without_one = [0, 100 / 11_000, 100 / 11_000, 100 / 11_000]
    error = math.sqrt(3 / 4 * sum((other - np.mean(without_one)) ** 2 for other in without_one))
    assert delta.low == pytest.approx(value - 3.18245 * error, rel=1e-4)


def test_a_class_in_one_unit_has_a_difference_but_no_interval() -> None:
    challenger, champion = _random_pair(num_images=6)
    comparison = compare(challenger, champion, Units(np.array([0, 1, 2, 0, 1, 2]), "group", 3))
    assert math.isnan(comparison.class_deltas[2].low)
    assert not math.isnan(comparison.class_deltas[2].value)
    assert not math.isnan(comparison.class_deltas[0].low)


@pytest.mark.parametrize("seed", range(4))
def test_the_probability_passes_its_quantile_where_the_bound_passes_zero(seed: int) -> None:
    units, champion = bundle(list("abcdef")), _one_class([500] * 6)
    noise = np.random.default_rng(seed).integers(-8, 9, 6)
    sides = set()
    for shift in range(0, 30, 2):
        comparison = compare(_one_class(list(500 + shift + noise)), champion, units)
        assert (comparison.delta.low > 0) == (comparison.probability > 0.975)
        sides.add(comparison.delta.low > 0)
    assert sides == {True, False}


def test_resampling_in_pieces_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    challenger, champion = _random_pair()
    units = bundle(list("aabbccddeeff"))
    whole = compare(challenger, champion, units).delta
    monkeypatch.setattr(bootstrap, "NUM_IMAGES_AT_ONCE", 2)
    monkeypatch.setattr(counts, "NUM_IMAGES_AT_ONCE", 2)
    pieces = compare(challenger, champion, units).delta
    assert pieces.value == whole.value
    assert pieces.low == pytest.approx(whole.low, abs=2 * MONTE_CARLO * (whole.value - whole.low))


def test_many_classes_and_images_need_little_memory() -> None:
    # As dense matrices 20,000 images of 171 classes would be 4.7 GB.
    num_images, num_classes, num_cells = 20_000, 171, 30
    rng = np.random.default_rng(0)
    cell = np.sort(rng.integers(0, num_classes**2 // num_cells, (num_images, num_cells)), axis=1)
    cell += np.arange(num_cells) * (num_classes**2 // num_cells)  # none twice in an image
    image = np.repeat(np.arange(num_images), num_cells)
    shape = (num_classes, num_classes)
    pixels = rng.integers(1, 100, image.size)
    confusions = ImageCounts(("truth", "predicted"), shape, num_images, image, cell.ravel(), pixels)
    tracemalloc.start()
    try:
        mean, classes = estimate_iou(confusions, bundle([f"{unit // 10:04}" for unit in range(num_images)]))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert mean.low < mean.value < mean.high
    assert len(classes) == num_classes
    assert peak_bytes < 300_000_000
