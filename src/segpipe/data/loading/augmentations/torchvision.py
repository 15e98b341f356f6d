"""Any transform of `torchvision.transforms.v2`, by its own name."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from segpipe.classes import IGNORE_INDEX
from segpipe.data.loading.library_transform import PROBABILITY, Library, check_options, find_class
from segpipe.data.loading.transform import Pair, Transform
from segpipe.errors import ConfigError

MAX_SEED = 2**63


def build_transform(*, transform: str | None = None, options: Mapping[str, Any] | None = None) -> Transform:
    """Applies one of the library's transforms that has no file here: `RandomPerspective`, `ElasticTransform`.

    Image and mask are moved by the same draw. A transform that moves pixels fills empty places of the mask with void,
    and must keep the crop's size. Those that choose among others (`RandAugment`) take no masks. The library draws from
    torch's one generator, which the training uses at the same time; here each sample's draws come from a generator of
    its own, so that a training stays reproducible.

    Args:
        transform: name of a class of torchvision.transforms.v2; must be given.
        options: its arguments, `interpolation` by its name (`bilinear`); not `p`, which is `probability` in
            `params.yaml`.

    Returns:
        A transform which raises ConfigError when it is first applied, if the library does not accept name or options.

    Raises:
        ConfigError: no name is given.
    """
    return Library("torchvision", "torchvision.transforms.v2", _make, _apply).build(transform, options)


def _make(name: str, options: dict[str, Any], where: str) -> Any:
    # Imported here because it takes seconds, and only a training that names this transform needs it.
    import inspect

    from torchvision.transforms import InterpolationMode, v2
    from torchvision.tv_tensors import Image, Mask

    cls = find_class(v2, (v2.Transform,), name, where)
    parameters = inspect.signature(cls).parameters
    check_options(options, parameters, where)
    if "fill" in parameters:
        options = {**options, "fill": {Image: options.get("fill", 0), Mask: IGNORE_INDEX}}
    if PROBABILITY in parameters:
        options = {**options, PROBABILITY: 1.0}
    try:
        if "interpolation" in options:
            options = {**options, "interpolation": InterpolationMode(options["interpolation"])}
        return cls(**options)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{where}: {error}") from error


def _apply(transform: Any, pair: Pair, rng: np.random.Generator, where: str) -> tuple[Any, Any]:
    import torch
    from torchvision.tv_tensors import Image, Mask

    from segpipe.data.loading.own_generator import OwnGenerator

    seed = int(rng.integers(MAX_SEED))
    # Copies: some transforms give parts of their input, which would be overwritten while it is read.
    image, mask = pair
    given = Image(torch.from_numpy(image.copy()).permute(2, 0, 1)), Mask(torch.from_numpy(mask.copy()))
    try:
        with OwnGenerator(seed), torch.no_grad():
            image_CHW, mask_HW = transform(*given)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ConfigError(f"{where}: {error}") from error
    if not isinstance(image_CHW, torch.Tensor):  # a picture of Pillow, or several images
        return image_CHW, mask_HW
    return np.moveaxis(np.asarray(image_CHW), 0, -1), np.asarray(mask_HW)
