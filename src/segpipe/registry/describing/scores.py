"""The scores of a registered version, as its tags say."""

from typing import Any

from segpipe.tracking.client import connect, refusals
from segpipe.tracking.names import read_name
from segpipe.tracking.tags import VAL_IOU_PREFIX, VAL_MEAN_IOU, number_in, read_number


def read_scores(model_name: str, version: str) -> dict[str, Any]:
    """Gives a version's scores on its validation images.

    Returns:
        `mean_iou`, 0..1, and `iou`, by class, in four digits; nothing where its tags do not say them.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    client = connect()
    with refusals(f"the scores of version {version} of {model_name!r} cannot be read"):
        tags = client.get_model_version(model_name, version).tags
    mean_iou = read_number(tags, VAL_MEAN_IOU)
    if mean_iou is None:
        return {}
    iou = {
        read_name(name.removeprefix(VAL_IOU_PREFIX)): number_in(value)
        for name, value in tags.items()
        if name.startswith(VAL_IOU_PREFIX)
    }
    return {"mean_iou": mean_iou, "iou": iou}
