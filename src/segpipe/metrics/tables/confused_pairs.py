"""The pairs of classes that are confused most, by pixels: at most 20, each with the images where it happens most.

    truth, predicted, num_px, share_of_truth, share_of_errors, num_images, sample_ids

`share_of_truth`: of the labelled pixels of the true class; `share_of_errors`: of all wrong pixels; `sample_ids`: at
most three images, the one with the most such pixels first.
"""

import numpy as np
import pandas as pd

from segpipe.metrics.parts.measured import Measured

MAX_PAIRS, MAX_IMAGES = 20, 3


def tabulate(measured: Measured) -> pd.DataFrame:
    """Gives a row for each pair, the one with the most pixels first."""
    confusions, names = measured.confusions, measured.class_names
    total = confusions.total()
    errors = total - np.diag(total.diagonal())
    worst_first = np.argsort(-errors, axis=None, kind="stable")[:MAX_PAIRS]
    rows = []
    for cell in worst_first.tolist():
        truth, predicted = divmod(cell, len(names))
        if errors[truth, predicted] == 0:
            break
        is_pair = confusions.cell == cell
        images, pixels = confusions.image[is_pair], confusions.pixels[is_pair]
        most_first = images[np.argsort(-pixels, kind="stable")[:MAX_IMAGES]]
        rows.append(
            {
                "truth": names[truth],
                "predicted": names[predicted],
                "num_px": int(errors[truth, predicted]),
                "share_of_truth": errors[truth, predicted] / total[truth].sum(),
                "share_of_errors": errors[truth, predicted] / errors.sum(),
                "num_images": len(images),
                "sample_ids": measured.images["sample_id"].iloc[most_first].tolist(),
            }
        )
    columns = ["truth", "predicted", "num_px", "share_of_truth", "share_of_errors", "num_images", "sample_ids"]
    return pd.DataFrame(rows, columns=columns)
