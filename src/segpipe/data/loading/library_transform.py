"""A library's transforms by their own names: finds one, makes it once in each thread, and checks what it gives.

What the libraries have in common. How one makes a transform and applies it stands in its augmentation's file.
"""

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from segpipe.choices import nearest
from segpipe.data.loading.transform import Pair, Partners, Transform
from segpipe.errors import ConfigError

# The libraries' option for how often a transform is applied; here that is the step's `probability`.
PROBABILITY = "p"


@dataclass(frozen=True)
class Library:
    """A library of transforms.

    Args:
        name: of the augmentation.
        module: where the library keeps its transforms.
        make: makes a transform that is always applied from the name of its class, its options, and where they stand,
            for messages; raises ConfigError if the library does not accept them.
        apply: varies a sample, which it leaves as it is, from what `make` gave, image and mask, the sample's own
            generator, and where the transform stands, for messages; gives image and mask, whatever form they have.
    """

    name: str
    module: str
    make: Callable[[str, dict[str, Any], str], Any]
    apply: Callable[[Any, Pair, np.random.Generator, str], tuple[Any, Any]]

    def build(self, transform: str | None, options: Mapping[str, Any] | None) -> Transform:
        """Gives one of the library's transforms; each thread makes its own, because they have state.

        Args:
            transform: name of its class; must be given.
            options: its arguments, without PROBABILITY.

        Returns:
            A transform which raises ConfigError when it is first applied, if the library does not accept name or
            options, or if the result has another size or type.

        Raises:
            ConfigError: no name is given.
        """
        if transform is None:
            raise ConfigError(f"augmentation {self.name!r}: option transform: is missing; a class of {self.module}")
        return _Adapter(self, transform, dict(options or {}))


@dataclass(frozen=True)
class _Adapter:
    library: Library
    transform: str
    options: dict[str, Any]
    _of_thread: threading.local = field(default_factory=threading.local, init=False)

    def __call__(
        self, image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8], rng: np.random.Generator, partners: Partners
    ) -> None:
        where = f"augmentation {self.library.name!r}: transform {self.transform!r}"
        if not hasattr(self._of_thread, "made"):
            self._of_thread.made = self.library.make(self.transform, self.options, where)
        varied = self.library.apply(self._of_thread.made, (image, mask), rng, where)
        if [_form(one) for one in varied] != [_form(image), _form(mask)]:
            raise ConfigError(
                f"{where} turns image {_form(image)} and mask {_form(mask)} into {_form(varied[0])} and "
                f"{_form(varied[1])}; take one that keeps size and type (the crop's size is train.augment.crop)"
            )
        image[:], mask[:] = varied


def _form(array: Any) -> str:
    return f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__


def find_class(module: ModuleType, classes: tuple[type, ...], name: str, where: str) -> Any:
    """Finds a transform's class by its name.

    Args:
        module: where the library keeps its transforms.
        classes: what they are subclasses of.
        name: of the class.
        where: the name stands, for the message.

    Raises:
        ConfigError: there is none of this name.
    """
    found = {key: one for key, one in vars(module).items() if isinstance(one, type) and issubclass(one, classes)}
    if name not in found:
        known = nearest(name, sorted(found)).partition("known: ")[0]
        raise ConfigError(f"{where}: {module.__name__} has no transform of this name; {known}see its documentation")
    return found[name]


def check_options(options: Mapping[str, Any], parameters: Collection[str], where: str) -> None:
    """Checks the names of a transform's options.

    Args:
        options: that are given.
        parameters: that the class has; PROBABILITY may not be given.
        where: the options stand, for the message.

    Raises:
        ConfigError: an option is none of the parameters.
    """
    known = sorted(set(parameters) - {PROBABILITY})
    unknown = sorted(options.keys() - known)
    if unknown:
        raise ConfigError(f"{where}: option {unknown[0]}: {nearest(unknown[0], known)}")
