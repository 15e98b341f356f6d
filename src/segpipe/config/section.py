"""What the sections of `params.yaml` are made of: strict models, numbers with bounds, choices by name."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from segpipe.choices import Registry, nearest
from segpipe.errors import ConfigError
from segpipe.faults import KINDS

CHOICE = "x-choice"  # marks in the schema a list of names that a new file extends

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]


@dataclass(frozen=True)
class NameIn:
    """Requires that a string is the name of a choice.

    Args:
        registry: of the choices.
    """

    registry: Registry

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Checks the name after it is known to be a string."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Lists the names for editors."""
        return {**handler(schema), "enum": self.registry.names(), CHOICE: self.registry.kind}

    def _check(self, name: str) -> str:
        try:
            return self.registry.check(name)
        except ConfigError as error:
            raise ValueError(str(error)) from error


def _check_kind(kind: str) -> str:
    if kind not in KINDS:
        raise ValueError(f"unknown kind of fault {kind!r}; {nearest(kind, sorted(KINDS))}")
    return kind


KindOfFault = Annotated[str, AfterValidator(_check_kind), WithJsonSchema({"type": "string", "enum": sorted(KINDS)})]


class Section(BaseModel):
    """Base of all sections: unknown keys and values out of their ranges are errors.

    Attributes:
        NAME: key of a section of `params.yaml`; '' for a part of one.
    """

    NAME: ClassVar[str] = ""
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Choice(Section):
    """A model, a loss or an augmentation by name, with the options that its file defines."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)
