"""The mean IoU of each slice of the images: each value of each attribute, and each group; with the 95% interval.

    attribute, value, num_images, num_units, mean_iou, low, high, left_out

An attribute that gives no slices has one row: its name, and in `left_out` the reason.
"""

import pandas as pd

from segpipe.metrics.parts.bootstrap import bundle, estimate_iou
from segpipe.metrics.parts.measured import Measured
from segpipe.metrics.parts.slices import Slice, find_slices

Row = tuple[str, str, int, int, float, float, float, str]

NAN = float("nan")
COLUMNS = ["attribute", "value", "num_images", "num_units", "mean_iou", "low", "high", "left_out"]


def tabulate(measured: Measured) -> pd.DataFrame:
    """Gives a row for each slice; low and high are NaN where fewer than two units have labelled pixels.

    A slice's units are groups, or blocks if it lies in one group, as those of the whole set.
    """
    slices, left_out = find_slices(measured.images)
    rows = [_describe(one, measured) for one in slices]
    rows += [(attribute, "", 0, 0, NAN, NAN, NAN, reason) for attribute, reason in left_out.items()]
    return pd.DataFrame(rows, columns=COLUMNS)


def _describe(one: Slice, measured: Measured) -> Row:
    confusions = measured.confusions.take(one.images)
    num_images = len(one.images)
    if not len(confusions.pixels):  # nothing but void
        return one.attribute, one.value, num_images, 0, NAN, NAN, NAN, ""
    units = bundle(measured.images["group"].iloc[one.images].tolist(), measured.block_length)
    estimate, _ = estimate_iou(confusions, units)
    return one.attribute, one.value, num_images, units.num_units, estimate.value, estimate.low, estimate.high, ""
