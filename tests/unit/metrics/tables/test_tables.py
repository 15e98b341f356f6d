"""The tables of an evaluation, by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from segpipe.choices import TABLES
from segpipe.metrics.evidence.confidences import AXES, NUM_BINS
from segpipe.metrics.parts.bootstrap import bundle, estimate_iou
from segpipe.metrics.parts.counts import confusions_of
from segpipe.metrics.parts.image_counts import ImageCounts
from segpipe.metrics.parts.measured import Measured
from segpipe.metrics.tables import classes, confused_pairs, reliability, slices, worst_images

NAMES = ("road", "car", "sky")


def _image(road: tuple[int, int, int], car: tuple[int, int, int]) -> np.ndarray:
    """What 100 px of road and of car were predicted as; there is no sky."""
    return np.array([road, car, (0, 0, 0)])


GOOD, POOR = _image((90, 10, 0), (0, 100, 0)), _image((50, 30, 20), (60, 40, 0))
VOID = np.zeros((3, 3), np.int64)


def make_measured(matrices: list[np.ndarray], block_length: int | None = None, **columns: list[str]) -> Measured:
    confusions = confusions_of(np.stack(matrices))
    confidences = np.zeros((len(matrices), NUM_BINS, 3))
    confidences[:, 14] = (100, 90, 98)
    confidences[:, 7] = (50, 10, 25)
    images = pd.DataFrame({"sample_id": [f"s{index}" for index in range(len(matrices))], **columns})
    evidence = {"confusion": confusions, "confidences": ImageCounts.of_dense(confidences, AXES)}
    return Measured(evidence, images, NAMES, block_length)


MEASURED = make_measured(
    [GOOD, POOR, GOOD, POOR, VOID, GOOD],
    group=["a", "a", "b", "b", "c", "c"],
    attribute_weather=["sun", "rain", "sun", "rain", "", ""],
    attribute_camera=["one"] * 6,
    attribute_time=list("123456"),
)


@pytest.mark.parametrize("name", TABLES.names())
def test_every_table_can_be_written_and_joined(name: str, tmp_path: object) -> None:
    tabulate = TABLES.function_of(name)
    nothing = make_measured([VOID, VOID], group=["a", "b"], attribute_weather=["sun", "rain"])
    tables = [tabulate(MEASURED), tabulate(nothing)]
    assert len(tables[0])
    assert list(tables[0].columns) == list(tables[1].columns)
    joined = pd.concat(tables)
    joined.to_parquet(f"{tmp_path}/table.parquet", index=False)
    assert len(pd.read_parquet(f"{tmp_path}/table.parquet")) == len(joined)


def test_slices_are_the_values_of_each_attribute_and_the_groups() -> None:
    table = slices.tabulate(MEASURED)
    found = table[table["left_out"] == ""]
    assert list(zip(found["attribute"], found["value"], found["num_images"], strict=True)) == [
        ("weather", "", 2),
        ("weather", "rain", 2),
        ("weather", "sun", 2),
        ("group", "a", 2),
        ("group", "b", 2),
        ("group", "c", 2),
    ]
    rain = found[found["value"] == "rain"].iloc[0]
    # road 50 / (100 + 110 - 50), car 40 / (100 + 70 - 40)
    assert rain["mean_iou"] == pytest.approx((50 / 160 + 40 / 130) / 2)
    assert (rain["num_units"], rain["low"], rain["high"]) == (2, rain["mean_iou"], rain["mean_iou"])  # two equal images
    without = found[(found["attribute"] == "weather") & (found["value"] == "")].iloc[0]
    assert without["num_units"] == 1  # one group, too short for blocks
    assert np.isnan(without["low"])


def test_attributes_that_give_no_slices_are_named_with_the_reason() -> None:
    table = slices.tabulate(MEASURED)
    reasons = dict(table.loc[table["left_out"] != "", ["attribute", "left_out"]].itertuples(index=False))
    assert reasons == {"camera": "all images have the same value", "time": "each image has its own value"}
    many = make_measured([GOOD] * 404, group=[str(index // 4) for index in range(404)])
    (row,) = slices.tabulate(many).to_dict("records")
    assert (row["attribute"], row["num_images"]) == ("group", 0)
    assert "101 values" in row["left_out"]


def test_a_slice_of_void_has_no_score() -> None:
    measured = make_measured([GOOD, GOOD, VOID, VOID], group=["a", "a", "b", "b"])
    first, second = slices.tabulate(measured).to_dict("records")
    assert first["mean_iou"] > 0
    assert (second["num_images"], second["num_units"]) == (2, 0)
    assert np.isnan(second["mean_iou"])


def test_blocks_of_a_slice_are_as_long_as_the_gates() -> None:
    measured = make_measured([GOOD, POOR] * 4, 2, group=["a"] * 4 + ["b"] * 4)
    assert slices.tabulate(measured)["num_units"].tolist() == [2, 2]


def test_each_class_has_its_interval_and_its_scores() -> None:
    table = classes.tabulate(MEASURED).set_index("class")
    _, estimates = estimate_iou(MEASURED.confusions, bundle(MEASURED.images["group"].tolist()))
    assert list(table[["iou", "low", "high"]].loc["car"]) == [estimates[1].value, estimates[1].low, estimates[1].high]
    # car: 3 x 100 + 2 x 40 of 500 px, 3 x 110 + 2 x 70 predicted
    assert table.loc["car", ["precision", "recall", "support"]].tolist() == pytest.approx([380 / 470, 380 / 500, 500])
    assert table.loc["sky", "support"] == 0
    assert np.isnan(table.loc["sky", "iou"])


def test_reliability_by_hand() -> None:
    table = reliability.tabulate(MEASURED)
    assert len(table) == NUM_BINS
    last = table.iloc[14]
    assert (last["confidence_to"], last["num_px"]) == (1, 600)
    assert (last["confidence"], last["accuracy"]) == (pytest.approx(0.98), pytest.approx(0.9))
    assert (table.loc[7, "confidence"], table.loc[7, "accuracy"]) == (0.5, 0.2)
    assert np.isnan(table.loc[0, "accuracy"])


def test_the_most_confused_pair_is_first() -> None:
    table = confused_pairs.tabulate(make_measured([GOOD, POOR, _image((20, 80, 0), (0, 100, 0))], group=list("abc")))
    assert list(zip(table["truth"], table["predicted"], table["num_px"], strict=True)) == [
        ("road", "car", 120),
        ("car", "road", 60),
        ("road", "sky", 20),
    ]
    first = table.iloc[0]
    assert first["share_of_truth"] == pytest.approx(120 / 300)
    assert first["share_of_errors"] == pytest.approx(120 / 200)
    assert (first["num_images"], list(first["sample_ids"])) == (3, ["s2", "s1", "s0"])


def test_the_worst_image_is_first_and_void_is_none() -> None:
    table = worst_images.tabulate(make_measured([GOOD, POOR, VOID], group=list("abc")))
    assert table["sample_id"].tolist() == ["s1", "s0"]
    worst = table.iloc[0]
    assert (worst["worst_class"], worst["worst_class_iou"]) == ("car", pytest.approx(40 / 130))
    assert worst["pixel_accuracy"] == pytest.approx(90 / 200)
