"""Each class: its IoU with the 95% interval, and every other metric per class.

class, iou, low, high, and a column for each other metric per class (f1, precision, recall, support)
"""

import pandas as pd

from segpipe.choices import METRICS
from segpipe.metrics.parts.bootstrap import bundle, estimate_iou
from segpipe.metrics.parts.measured import Measured
from segpipe.metrics.parts.scores import list_metrics, read_about

IOU = "iou"


def tabulate(measured: Measured) -> pd.DataFrame:
    """Gives a row for each class; NaN where there is no value."""
    table = pd.DataFrame({"class": measured.class_names})
    units = bundle(measured.images["group"].tolist(), measured.block_length)
    _, estimates = estimate_iou(measured.confusions, units)
    table[IOU] = [estimate.value for estimate in estimates]
    table["low"] = [estimate.low for estimate in estimates]
    table["high"] = [estimate.high for estimate in estimates]
    for name in list_metrics():
        about = read_about(name)
        if about.is_per_class and name != IOU:
            table[name] = METRICS.function_of(name)(measured.evidence[about.evidence])
    return table
