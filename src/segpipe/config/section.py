"""What the sections of `params.yaml` are made of: strict models, numbers with bounds, choices by name."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from segpipe.choices import Registry, nearest
from segpipe.errors import ConfigError
from segpipe.faults import KINDS

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]


def name_in(registry: Registry) -> AfterValidator:
    """Gives the check that a name is one of a registry's."""

    def check(name: str) -> str:
        try:
            return registry.check(name)
        except ConfigError as error:
            raise ValueError(str(error)) from error

    return AfterValidator(check)


def _check_kind(kind: str) -> str:
    if kind not in KINDS:
        raise ValueError(f"unknown kind of fault {kind!r}; {nearest(kind, sorted(KINDS))}")
    return kind


KindOfFault = Annotated[str, AfterValidator(_check_kind)]


class Section(BaseModel):
    """Keys that are described, values in their ranges, and nothing else."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Choice(Section):
    """A model, a loss or an augmentation by name, with the options that its file defines."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)
