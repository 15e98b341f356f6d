"""The mean IoU of each slice of the images: each value of each attribute, and each group; with the 95% interval.

    attribute, value, num_images, num_units, mean_iou, low, high, left_out

An attribute that gives no slices has one row: its name, and in `left_out` the reason.
"""

import pandas as pd

from segpipe.metrics.parts.bootstrap import bundle, estimate_iou
from segpipe.metrics.parts.measured import Measured
from segpipe.metrics.parts.slices import Slice, find_slices

COLUMNS = ["attribute", "value", "num_images", "num_units", "mean_iou", "low", "high", "left_out"]


def tabulate(measured: Measured) -> pd.DataFrame:
    """Gives a row for each slice; low and high are NaN where fewer than two units have labelled pixels.

    A slice's units are groups, or blocks if it lies in one group, as those of the whole set.
    """
    slices, left_out = find_slices(measured.images)
    rows = [_describe(one, measured) for one in slices]
    rows += [{"attribute": attribute, "num_images": 0, "left_out": why} for attribute, why in left_out.items()]
    table = pd.DataFrame(rows, columns=COLUMNS)
    texts, counts = ["attribute", "value", "left_out"], ["num_images", "num_units"]
    scores = ["mean_iou", "low", "high"]
    table[texts] = table[texts].fillna("").astype(str)
    table[counts] = table[counts].fillna(0).astype("int64")
    table[scores] = table[scores].astype("float64")
    return table


def _describe(one: Slice, measured: Measured) -> dict[str, object]:
    confusions = measured.confusions.take(one.images)
    row: dict[str, object] = {"attribute": one.attribute, "value": one.value, "num_images": len(one.images)}
    if not len(confusions.pixels):  # nothing but void
        return row
    units = bundle(measured.images["group"].iloc[one.images].tolist(), measured.block_length)
    estimate, _ = estimate_iou(confusions, units)
    return {
        **row,
        "num_units": units.num_units,
        "mean_iou": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
    }
