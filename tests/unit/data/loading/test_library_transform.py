"""What all libraries of transforms have in common, with a library of one transform that a test makes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from segpipe.data.loading.library_transform import Library
from segpipe.data.loading.transform import Pair
from segpipe.errors import ConfigError

Vary = Callable[[Pair], tuple[Any, Any]]


def library(vary: Vary, made: list[str] | None = None) -> Library:
    """Remembers each transform that it makes."""

    def make(name: str, options: dict[str, Any], where: str) -> str:
        if made is not None:
            made.append(name)
        return name

    return Library("toy", "toys.transforms", make, lambda transform, pair, rng, where: vary(pair))


def sample() -> Pair:
    return np.full((4, 6, 3), 9, np.uint8), np.ones((4, 6), np.uint8)


def apply(vary: Vary) -> Pair:
    image, mask = sample()
    library(vary).build("Turn", {})(image, mask, np.random.default_rng(0), None)  # type: ignore[arg-type]
    return image, mask


def test_the_result_is_written_into_image_and_mask() -> None:
    image, mask = apply(lambda pair: (pair[0] + 1, pair[1] + 2))
    assert (image == 10).all()
    assert (mask == 3).all()


@pytest.mark.parametrize(
    ("vary", "fact"),
    [
        (lambda pair: (pair[0][:2], pair[1][:2]), "uint8 (2, 6, 3)"),
        (lambda pair: (pair[0][:1], pair[1]), "uint8 (1, 6, 3)"),
        (lambda pair: (pair[0] / 255, pair[1]), "float64 (4, 6, 3)"),
        (lambda pair: (pair[0], pair[1][:1]), "uint8 (1, 6)"),
        (lambda pair: (pair[0], pair[1].astype(np.int64)), "int64 (4, 6)"),
        (lambda pair: ([pair[0]] * 5, pair[1]), "list"),
    ],
)
def test_a_result_of_another_size_or_type_is_refused(vary: Vary, fact: str) -> None:
    with pytest.raises(ConfigError, match="keeps size and type") as caught:
        apply(vary)
    assert "augmentation 'toy': transform 'Turn'" in str(caught.value)
    assert fact in str(caught.value)


def test_each_thread_makes_a_transform_of_its_own_and_makes_it_once() -> None:
    made: list[str] = []
    transform = library(lambda pair: pair, made).build("Turn", {})
    assert made == []
    both = threading.Barrier(2, timeout=20)

    def apply_twice(_: int) -> None:
        both.wait()
        for _ in range(2):
            transform(*sample(), np.random.default_rng(0), None)  # type: ignore[arg-type]

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(apply_twice, range(2)))
    assert made == ["Turn", "Turn"]


def test_the_name_that_is_missing_is_one_of_the_librarys_classes() -> None:
    with pytest.raises(ConfigError, match=r"option transform: is missing; a class of toys\.transforms"):
        library(lambda pair: pair).build(None, None)
