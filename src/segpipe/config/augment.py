"""`train.augment` of `params.yaml`: what is varied in a training sample."""

from typing import Annotated

from pydantic import Field, model_validator

from segpipe.choices import AUGMENTATIONS
from segpipe.config.section import Choice, Count, NameIn, Positive, Section, Share
from segpipe.errors import ConfigError


class TransformChoice(Choice):
    """An augmentation by name.

    Attributes:
        name: a file of `segpipe/data/loading/augmentations`.
        probability: share of the samples that it is applied to.
        options: what the augmentation's file defines.
    """

    name: Annotated[str, NameIn(AUGMENTATIONS)]
    probability: Share = 1.0

    @model_validator(mode="after")
    def _options_fit(self) -> "TransformChoice":
        try:
            AUGMENTATIONS.call(self.name, self.options)
        except ConfigError as error:
            raise ValueError("; ".join(str(error).splitlines())) from error
        return self


class RareClassCrop(Section):
    """Windows that are placed on rare classes.

    Attributes:
        probability: share of the samples whose window is placed so that it holds a random pixel of a drawn class.
        power: a class is drawn from those in the sample by its inverse frequency in the training split, to this power;
            0 draws all classes equally often.
    """

    probability: Share
    power: Annotated[float, Field(ge=0, le=2)]


class Augment(Section):
    """What is varied in a training sample.

    Attributes:
        crop: height and width in pixels of what training sees; parts outside the image are void.
        scale: lower and upper bound of the random zoom, drawn log-uniformly.
        rare_class_crop: null places every window at random in the image.
        transforms: what is done to the crop, in this order.
    """

    crop: tuple[Count, Count] = Field(strict=False)
    scale: tuple[Positive, Positive] = Field(default=(1.0, 1.0), strict=False)
    rare_class_crop: RareClassCrop | None = None
    transforms: list[TransformChoice] = Field(default_factory=list)

    @model_validator(mode="after")
    def _scale_is_ordered(self) -> "Augment":
        if self.scale[0] > self.scale[1]:
            raise ValueError("scale: the lower bound must not exceed the upper one")
        return self
