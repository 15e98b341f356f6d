"""Any transform of `torchvision.transforms.v2`, by its own name."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from segpipe.choices import nearest
from segpipe.classes import IGNORE_INDEX
from segpipe.data.loading.transform import Partners, Transform
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
    if transform is None:
        raise ConfigError(
            "augmentation 'torchvision': option transform: is missing; a class of torchvision.transforms.v2"
        )
    return _Adapter(transform, dict(options or {}))


class _Adapter:
    def __init__(self, name: str, options: dict[str, Any]) -> None:
        self._name, self._options = name, options
        self._of_thread = threading.local()

    def __call__(
        self, image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8], rng: np.random.Generator, partners: Partners
    ) -> None:
        import torch
        from torchvision.tv_tensors import Image, Mask

        from segpipe.data.loading.own_generator import OwnGenerator

        seed = int(rng.integers(MAX_SEED))
        if not hasattr(self._of_thread, "apply"):
            self._of_thread.apply = _make_transform(self._name, self._options)
        # Copies: some transforms give parts of their input, which would be overwritten while it is read.
        pair = Image(torch.from_numpy(image.copy()).permute(2, 0, 1)), Mask(torch.from_numpy(mask.copy()))
        try:
            with OwnGenerator(seed), torch.no_grad():
                image_CHW, mask_HW = self._of_thread.apply(*pair)
        except (ValueError, TypeError, RuntimeError) as error:
            raise ConfigError(f"augmentation 'torchvision': transform {self._name!r}: {error}") from error
        kept = isinstance(image_CHW, torch.Tensor) and (image_CHW.dtype, image_CHW.shape) == (
            torch.uint8,
            pair[0].shape,
        )
        if not kept or mask_HW.shape != pair[1].shape:
            raise ConfigError(
                f"augmentation 'torchvision': {self._name} does not keep a uint8 image of {image.shape[:2]}; take one "
                "that keeps size and type (the crop's size is train.augment.crop)"
            )
        image[:], mask[:] = np.asarray(image_CHW).transpose(1, 2, 0), np.asarray(mask_HW)


def _make_transform(name: str, options: dict[str, Any]) -> Callable[..., Any]:
    # Imported here because it takes seconds, and only a training that names this transform needs it.
    import inspect

    from torchvision.transforms import InterpolationMode, v2
    from torchvision.tv_tensors import Image, Mask

    where = f"augmentation 'torchvision': transform {name!r}"
    names = sorted(n for n in dir(v2) if isinstance(getattr(v2, n), type) and issubclass(getattr(v2, n), v2.Transform))
    if name not in names:
        known = nearest(name, names).partition("known: ")[0]
        raise ConfigError(
            f"{where}: torchvision.transforms.v2 has no transform of this name; {known}see its documentation"
        )
    cls = getattr(v2, name)
    parameters = inspect.signature(cls).parameters
    unknown = sorted(options.keys() - (parameters.keys() - {"p"}))
    if unknown:
        raise ConfigError(f"{where}: option {unknown[0]}: {nearest(unknown[0], sorted(parameters.keys() - {'p'}))}")
    if "fill" in parameters:
        options = {**options, "fill": {Image: options.get("fill", 0), Mask: IGNORE_INDEX}}
    if "p" in parameters:
        options = {**options, "p": 1.0}
    try:
        if "interpolation" in options:
            options = {**options, "interpolation": InterpolationMode(options["interpolation"])}
        transform: Callable[..., Any] = cls(**options)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{where}: {error}") from error
    return transform
