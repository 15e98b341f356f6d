"""The type of `CARD`, which describes a model in its file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Card:
    """A model's source, and the values for its contract tests.

    Attributes:
        source: whose code computes: ours, torchvision's, or that of segmentation_models.pytorch (with timm).
        paper: authors, title, venue and year.
        published: number of classes, and of parameters with so many classes by default options, as the paper or the
            library says (some count the running statistics of batch norm too); None if there is no such number, or if
            it is wrong and the module's docstring says why.
        small: options that make the model small enough for quick tests; the architecture stays the same.
        earlier: options that the model did not always have, and the values that models without them were trained with.
        no_onnx: why the model cannot be exported to ONNX; None where it can.
    """

    source: Literal["segpipe", "torchvision", "smp"]
    paper: str
    published: tuple[int, float] | None = None
    small: Mapping[str, Any] = field(default_factory=dict)
    earlier: Mapping[str, Any] = field(default_factory=dict)
    no_onnx: str | None = None
