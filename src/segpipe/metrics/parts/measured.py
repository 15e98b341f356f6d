"""What was measured on a split: the input of the tables that `evaluate` writes."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from segpipe.metrics.parts.image_counts import ImageCounts


@dataclass(frozen=True)
class Measured:
    """The evidence of the images of a split.

    Attributes:
        evidence: by kind.
        images: a row an image, in the evidence's order: `sample_id`, `group`, and `attribute_NAME` for each attribute
            of the source.
        class_names: in the order of the classes' indices.
        block_length: as `register.block_length`.
    """

    evidence: Mapping[str, ImageCounts]
    images: pd.DataFrame
    class_names: tuple[str, ...]
    block_length: int | None

    @property
    def confusions(self) -> ImageCounts:
        """Confusion matrices of the images."""
        return self.evidence["confusion"]
