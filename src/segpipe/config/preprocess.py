"""`preprocess` of `params.yaml`: from raw samples to the training-ready store."""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from segpipe.config.section import KindOfFault, Section, Share
from segpipe.faults import KINDS, Action


def _check_pattern(pattern: str) -> str:
    try:
        num_groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"must be a regular expression: {error}") from error
    if num_groups != 1:
        raise ValueError("must have exactly one (group): the part of the sample's id that names its sequence")
    return pattern


SplitRule = Literal["source"] | Annotated[list[str], Field(min_length=1)] | Annotated[float, Field(gt=0, lt=1)]


class Split(Section):
    """Which samples are kept out of training.

    Each rule is one of:

    - a list of group names: these sequences, whole;
    - a share (0..1): this part of the samples, in whole sequences, drawn with `preprocess.seed`; val's share is of the
      samples that are not in test; new sequences may change the draw: list the groups to keep a split as it is;
    - `source`: the samples that the source itself puts in that split, even within a sequence (the report warns).

    Attributes:
        val: chooses epochs and champions.
        test: is only reported, nothing is chosen by it; null for none.
    """

    val: SplitRule
    test: SplitRule | None = None


class Policy(Section):
    """What is done about faults of single files and of the whole set.

    Attributes:
        fix: fix in the store what is safe to fix; the source stays as it is.
        actions: for a kind of fault (`segpipe data kinds` lists them) `fail`, `skip` the sample, or `warn` and use it.
        max_skipped: greatest share of the samples that may be left out.
        max_megapixels: a larger image or mask is not read. Reading takes 7 bytes a pixel, and large ones are read one
            after another, even with many workers.
    """

    fix: bool = False
    actions: dict[KindOfFault, Action] = Field(default_factory=dict)
    max_skipped: Share = 0.05
    max_megapixels: Annotated[float, Field(gt=0, le=400)] = 200.0

    @model_validator(mode="after")
    def _actions_exist(self) -> "Policy":
        wrong = [
            f"{kind}: {action} is not possible; possible: {', '.join(KINDS[kind].allowed)}"
            for kind, action in self.actions.items()
            if action not in KINDS[kind].allowed
        ]
        if wrong:
            raise ValueError("actions: " + "; ".join(wrong))
        return self

    def action_of(self, kind: str) -> Action:
        """What is done about a kind."""
        return self.actions.get(kind, KINDS[kind].action)


class Preprocess(Section):
    """How raw samples become the training-ready store.

    Attributes:
        classes: null takes the classes of the sources, which must then be the same. Otherwise each class of the result,
            in order, with the source classes that become it (`car: [car, van]`; `NAME/car` is class car of the joined
            source NAME).
        ignore: the sources' classes that become void, where `classes` is given.
        group_pattern: regular expression with one (group), searched in a sample's id; samples of one group (a video
            sequence, a patient, a field) are split as a whole. null takes the source's own groups; if it has none, each
            sample is a group.
        group_column: instead of a pattern, a column of the source's table.
        split: what is kept out of training.
        seed: of the draw, if a split is given as a share.
        policy: what is done about faults.
    """

    NAME: ClassVar[str] = "preprocess"

    classes: dict[str, Annotated[list[str], Field(min_length=1)]] | None = None
    ignore: list[str] = Field(default_factory=list)
    group_pattern: Annotated[str, AfterValidator(_check_pattern)] | None = None
    group_column: str | None = None
    split: Split
    seed: Annotated[int, Field(ge=0)] = 0
    policy: Policy = Policy()

    @model_validator(mode="after")
    def _fits_together(self) -> "Preprocess":
        if self.group_pattern is not None and self.group_column is not None:
            raise ValueError("group_column: give group_pattern or group_column, not both")
        if self.ignore and self.classes is None:
            raise ValueError("ignore: has an effect only if classes is given")
        return self
