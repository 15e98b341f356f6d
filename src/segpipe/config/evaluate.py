"""`evaluate` of `params.yaml`: how models are measured."""

from typing import Annotated, ClassVar

from pydantic import Field

from segpipe.config.section import Count, Device, Section


class Evaluate(Section):
    """How the splits kept out of training are measured.

    Attributes:
        device: as in `train`.
        num_threads: as in `train`.
        num_overlays: how many samples of each split the report draws: of the lowest, middle and highest mIoU.
    """

    NAME: ClassVar[str] = "evaluate"

    device: Device = "auto"
    num_threads: Count
    num_overlays: Annotated[int, Field(ge=0)] = 6
