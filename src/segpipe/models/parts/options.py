"""Options from two functions: one declares the options of several models, the other those of a single model.

A model's options are the keyword-only arguments of its `build_model` with a default. They are checked by its
annotations, and shown with its docstring. If models share options, one function declares these for all of them.
"""

import inspect
from collections.abc import Callable

from torch import nn

Build = Callable[..., nn.Module]


def with_options_of(own: Callable[..., object]) -> Callable[[Build], Build]:
    """Gives a decorator for a function that passes further keyword arguments, `**options`, on to `own`.

    The function then declares the options of `own` too, before its own options: in its signature, annotations, defaults
    and docstring.

    Args:
        own: a function of keyword-only arguments, each with an annotation and a default.
    """
    options = list(inspect.signature(own).parameters.values())
    assert all(option.kind is option.KEYWORD_ONLY and option.default is not option.empty for option in options)

    def declare(build: Build) -> Build:
        signature = inspect.signature(build)
        *shared, _ = signature.parameters.values()
        # Python fills in the defaults of each function; these attributes are for callers that inspect the function.
        vars(build)["__signature__"] = signature.replace(parameters=[*options, *shared])
        build.__annotations__ = own.__annotations__ | build.__annotations__
        build.__kwdefaults__ = (own.__kwdefaults__ or {}) | (build.__kwdefaults__ or {})
        build.__doc__ = f"{inspect.getdoc(own)}\n\n{inspect.getdoc(build)}"
        return build

    return declare
