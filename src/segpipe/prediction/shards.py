"""Shards of a prediction: each of several calls predicts its share of the same images into the same folder."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
FORM = re.compile(r"([0-9]+)/([0-9]+)")


@dataclass(frozen=True)
class Shard:
    """A share of the images; the same images and the same count give the same shares on every machine.

    Attributes:
        index: from 1 to `count`; 0 has no images, and only begins the folder.
        count: of shards.
    """

    index: int
    count: int

    @staticmethod
    def parse(text: str) -> "Shard":
        """Reads `2/4`.

        Raises:
            ValueError: the text is none of 0/N, 1/N, ..., N/N.
        """
        found = FORM.fullmatch(text)
        if found is None or not int(found[1]) <= int(found[2]) or int(found[2]) == 0:
            raise ValueError(f"must be INDEX/COUNT: 1/4, 2/4, 3/4 or 4/4 (got {text!r})")
        return Shard(int(found[1]), int(found[2]))

    @property
    def suffix(self) -> str:
        """Of the names of the shard's own files."""
        return f"-{self.index}-of-{self.count}"

    def choose(self, items: Sequence[T]) -> list[T]:
        """Gives each `count`-th item: neighbours are alike, so that all shards take about equally long."""
        return list(items[self.index - 1 :: self.count]) if self.index else []
