"""Slices of a set of images: all with one value of an attribute of the source (camera, weather), or one group."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

GROUP, ATTRIBUTE_PREFIX = "group", "attribute_"
MAX_VALUES = 100


@dataclass(frozen=True)
class Slice:
    """The images with one value of an attribute.

    Attributes:
        attribute: its name; `group` for the groups.
        value: of these images; empty for images without a value.
        images: (num,) their places, increasing.
    """

    attribute: str
    value: str
    images: npt.NDArray[np.int64]

    def __str__(self) -> str:
        """Names the slice in messages."""
        return f"{self.attribute} {self.value!r}"


def find_slices(images: pd.DataFrame) -> tuple[list[Slice], dict[str, str]]:
    """Finds the slices of all attributes and groups.

    Args:
        images: a row an image, with the columns `group` and `attribute_NAME`.

    Returns:
        The slices, by attribute and value; and for each attribute that gives none the reason.
    """
    columns = {str(c).removeprefix(ATTRIBUTE_PREFIX): c for c in images if str(c).startswith(ATTRIBUTE_PREFIX)}
    slices, left_out = [], {}
    for attribute, column in {**columns, GROUP: GROUP}.items():
        values = images[column].fillna("").astype(str)
        places = {str(value): np.asarray(rows, np.int64) for value, rows in values.groupby(values).indices.items()}
        if reason := _why_not(len(places), len(images)):
            left_out[attribute] = reason
        else:
            slices += [Slice(attribute, value, np.sort(places[value])) for value in sorted(places)]
    return slices, left_out


def _why_not(num_values: int, num_images: int) -> str:
    """Says why an attribute with so many values gives no slices; empty if it gives some."""
    if num_values < 2:
        return "all images have the same value"
    if num_values == num_images:
        return "each image has its own value"
    if num_values > MAX_VALUES:
        return f"{num_values} values are more than {MAX_VALUES}"
    return ""
