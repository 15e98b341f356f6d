"""The images with the lowest mean IoU of their own: at most 20.

    sample_id, group, mean_iou, pixel_accuracy, worst_class, worst_class_iou

`build/evaluation/per_image.parquet` has the mean IoU of every image.
"""

import numpy as np
import pandas as pd

from segpipe.metrics.parts.counts import count, mean_iou_of_images
from segpipe.metrics.parts.measured import Measured

MAX_IMAGES = 20


def tabulate(measured: Measured) -> pd.DataFrame:
    """Gives a row for each image, the worst first; images without a labelled pixel are left out."""
    mean_iou = mean_iou_of_images(measured.confusions)
    worst_first = [index for index in np.argsort(mean_iou, kind="stable") if not np.isnan(mean_iou[index])]
    rows = []
    for index in worst_first[:MAX_IMAGES]:
        counts = count(measured.confusions.between(index, index + 1))
        worst_class = int(np.nanargmin(counts.iou))
        image = measured.images.iloc[index]
        rows.append(
            {
                "sample_id": str(image["sample_id"]),
                "group": str(image["group"]),
                "mean_iou": float(mean_iou[index]),
                "pixel_accuracy": float(counts.hit.sum() / counts.truth.sum()),
                "worst_class": measured.class_names[worst_class],
                "worst_class_iou": float(counts.iou[worst_class]),
            }
        )
    columns = ["sample_id", "group", "mean_iou", "pixel_accuracy", "worst_class", "worst_class_iou"]
    return pd.DataFrame(rows, columns=columns)
