"""`class_weights` of `params.yaml`: how much each class counts in the loss."""

from typing import Annotated, Any, ClassVar

from pydantic import Field

from segpipe.choices import WEIGHTINGS
from segpipe.config.section import NameIn, Section


class ClassWeights(Section):
    """How rare classes count in the loss.

    Attributes:
        scheme: a file of `segpipe/data/class_weights/schemes`.
        cap: the largest weight, as a multiple of the weight of the most frequent class.
        options: what the scheme's file defines.
    """

    NAME: ClassVar[str] = "class_weights"

    scheme: Annotated[str, NameIn(WEIGHTINGS)]
    cap: Annotated[float, Field(ge=1)] = 20.0
    options: dict[str, Any] = Field(default_factory=dict)
