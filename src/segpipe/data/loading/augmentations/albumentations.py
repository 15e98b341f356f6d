"""Any transform of albumentations, by its own name."""

import os
import random
from collections.abc import Mapping
from typing import Any

import numpy as np

from segpipe.classes import IGNORE_INDEX
from segpipe.data.loading.library_transform import PROBABILITY, Library, check_options, find_class
from segpipe.data.loading.transform import Pair, Transform
from segpipe.errors import ConfigError

MAX_SEED = 2**32


def build_transform(*, transform: str | None = None, options: Mapping[str, Any] | None = None) -> Transform:
    """Applies one of the library's transforms that has no file here: `RandomGamma`, `ToGray`, `ElasticTransform`.

    A transform that moves pixels fills empty places of the mask with void, and must keep the crop's size. The library
    has state: it is set again for each sample, and each thread has a transform of its own.

    Args:
        transform: name of a class of albumentations 2.0.8; must be given.
        options: its arguments; not `p`, which is `probability` in `params.yaml`.

    Returns:
        A transform which raises ConfigError when it is first applied, if the library does not accept name or options.

    Raises:
        ConfigError: no name is given.
    """
    return Library("albumentations", "albumentations", _make, _apply).build(transform, options)


def _make(name: str, options: dict[str, Any], where: str) -> Any:
    # Otherwise the import asks the network for a newer version. It is imported here because it takes seconds, and only
    # a training that names this transform needs it.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations as A

    cls = find_class(A, (A.ImageOnlyTransform, A.DualTransform), name, where)
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    parameters = cls.InitSchema.model_fields
    check_options(options, parameters, where)
    if "fill_mask" in parameters:
        options.setdefault("fill_mask", IGNORE_INDEX)
    try:
        return A.Compose([cls(**options, **{PROBABILITY: 1.0})])
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{where}: {error}") from error


def _apply(compose: Any, pair: Pair, rng: np.random.Generator, where: str) -> tuple[Any, Any]:
    seed = int(rng.integers(MAX_SEED))
    # An integer seed would give every transform of the Compose the same stream of random numbers.
    compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
    varied = compose(image=pair[0], mask=pair[1])
    return varied["image"], varied["mask"]
