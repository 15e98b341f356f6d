"""Any transform of albumentations, by its own name."""

import os
import random
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from segpipe.choices import nearest
from segpipe.classes import IGNORE_INDEX
from segpipe.data.loading.transform import Partners, Transform
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
    if transform is None:
        raise ConfigError("augmentation 'albumentations': option transform: is missing; a class of albumentations")
    return _Adapter(transform, dict(options or {}))


class _Adapter:
    def __init__(self, name: str, options: dict[str, Any]) -> None:
        self._name, self._options = name, options
        self._of_thread = threading.local()

    def __call__(
        self, image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8], rng: np.random.Generator, partners: Partners
    ) -> None:
        seed = int(rng.integers(MAX_SEED))
        if not hasattr(self._of_thread, "compose"):
            self._of_thread.compose = _make_compose(self._name, self._options)
        compose = self._of_thread.compose
        # An integer seed would give every transform of the Compose the same stream of random numbers.
        compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        varied = compose(image=image, mask=mask)
        if varied["image"].shape != image.shape or varied["image"].dtype != image.dtype:
            raise ConfigError(
                f"augmentation 'albumentations': {self._name} turns uint8 {image.shape} into {varied['image'].dtype} "
                f"{varied['image'].shape}; take one that keeps size and type (the crop's size is train.augment.crop)"
            )
        image[:], mask[:] = varied["image"], varied["mask"]


def _make_compose(name: str, options: dict[str, Any]) -> Any:
    # Otherwise the import asks the network for a newer version. It is imported here because it takes seconds, and only
    # a training that names this transform needs it.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations as A

    where = f"augmentation 'albumentations': transform {name!r}"
    kinds = (A.ImageOnlyTransform, A.DualTransform)
    names = sorted(n for n in dir(A) if isinstance(getattr(A, n), type) and issubclass(getattr(A, n), kinds))
    if name not in names:
        known = nearest(name, names).partition("known: ")[0]
        raise ConfigError(f"{where}: albumentations has no transform of this name; {known}see its documentation")
    cls = getattr(A, name)
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    parameters = cls.InitSchema.model_fields
    unknown = sorted(options.keys() - (parameters.keys() - {"p"}))
    if unknown:
        raise ConfigError(f"{where}: option {unknown[0]}: {nearest(unknown[0], sorted(parameters.keys() - {'p'}))}")
    if "fill_mask" in parameters:
        options.setdefault("fill_mask", IGNORE_INDEX)
    try:
        return A.Compose([cls(**options, p=1.0)])
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{where}: {error}") from error
