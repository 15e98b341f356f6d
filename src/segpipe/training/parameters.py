"""The parts of a network by name: which ones are frozen or decayed, and the learning-rate factors."""

from collections.abc import Iterable, Iterator, Mapping

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from segpipe.choices import nearest
from segpipe.config.train import Train
from segpipe.errors import ConfigError
from segpipe.models.parts.checkpointing import always_checkpointed


def freeze(module: nn.Module, settings: Train) -> None:
    """Freezes the parts that the settings name.

    Args:
        module: changed in place: frozen parameters need no gradient.
        settings: `freeze` and `freeze_batch_norm`; names in `learning_rate_factors` and `recompute` are checked too.

    Raises:
        ConfigError: the network has no part of a name, a frozen part has a factor, a part to recompute is a list of
            parts, or nothing is left to train.
    """
    factors = settings.learning_rate_factors
    names = {
        "freeze": settings.freeze,
        "freeze_batch_norm": settings.freeze_batch_norm,
        "learning_rate_factors": factors,
        "recompute": settings.recompute,
    }
    _check_names(module, {f"train.{key}": value for key, value in names.items()})
    for name in settings.freeze:
        module.get_submodule(name).requires_grad_(False)
    for name in settings.freeze_batch_norm:
        if not any(isinstance(layer, _BatchNorm) for layer in module.get_submodule(name).modules()):
            raise ConfigError(f"train.freeze_batch_norm: {name!r} has no batch norm; leave it out")
    for name in settings.recompute:
        if isinstance(part := module.get_submodule(name), nn.ModuleList | nn.ModuleDict):
            members = ", ".join(f"{name}.{member}" for member, _ in part.named_children())
            raise ConfigError(
                f"train.recompute: {name!r} is a list of parts and computes nothing; name some of {members}"
            )
    for layer in _frozen_batch_norms(module, settings):
        layer.requires_grad_(False)
    if not _is_trained(module):
        raise ConfigError(f"train.freeze: nothing is left to train; frozen: {', '.join(settings.freeze)}")
    if useless := [name for name in factors if not _is_trained(module.get_submodule(name))]:
        fix = "leave the factor out, or do not freeze the part"
        lines = [f"train.learning_rate_factors: {name!r} is frozen and has no learning rate; {fix}" for name in useless]
        raise ConfigError("\n".join(lines))


def recompute(module: nn.Module, settings: Train) -> None:
    """Lets the parts that `settings.recompute` names forget their activations and compute them again in backward.

    Args:
        module: changed in place, its parameters and results are not; `freeze` was called with it.
        settings: `recompute`.
    """
    for name in settings.recompute:
        always_checkpointed(module.get_submodule(name))


def start_training(module: nn.Module, settings: Train) -> None:
    """Sets a network to training mode, except frozen batch norms, whose running statistics must not change.

    Args:
        module: changed in place; `freeze` was called with it.
        settings: `freeze` and `freeze_batch_norm`.
    """
    module.train()
    for layer in _frozen_batch_norms(module, settings):
        layer.eval()


def factor_of(name: str, factors: Mapping[str, float]) -> float:
    """Gives the factor of a parameter's learning rate: the factor of the innermost part that has one, or 1."""
    inside = [part for part in factors if name.startswith(f"{part}.")]
    return factors[max(inside, key=len)] if inside else 1.0


def find_decayed(module: nn.Module) -> set[str]:
    """Gives the names of the parameters that weight decay applies to: the matrices and kernels of layers.

    Such a parameter is called `weight` (of attention `in_proj_weight`) and has at least two dimensions. So biases,
    normalisation layers, position embeddings, class tokens, tables of relative positions and scales are not decayed;
    neither are embeddings that are looked up, nor what the author of a network of timm excludes (`no_weight_decay`).
    """
    excluded = {
        f"{prefix}.{name}".lstrip(".") for prefix, part in module.named_modules() for name in _excluded_by_author(part)
    }
    return {
        name
        for name, parameter in module.named_parameters()
        if parameter.ndim > 1 and name.endswith("weight") and name not in excluded
    }


def _excluded_by_author(part: nn.Module) -> Iterable[str]:
    if isinstance(part, nn.Embedding):
        return ("weight",)
    listed = getattr(part, "no_weight_decay", None)
    return listed() if callable(listed) else ()


def _frozen_batch_norms(module: nn.Module, settings: Train) -> Iterator[_BatchNorm]:
    parts = (module.get_submodule(name) for name in (*settings.freeze, *settings.freeze_batch_norm))
    return (layer for part in parts for layer in part.modules() if isinstance(layer, _BatchNorm))


def _is_trained(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def _check_names(module: nn.Module, names_by_key: Mapping[str, Iterable[str]]) -> None:
    known = [name for name, part in module.named_modules() if name and any(True for _ in part.parameters())]
    lines = [
        f"{key}: the network has no part {name!r}; {nearest(name, known)}"
        for key, names in names_by_key.items()
        for name in names
        if name not in known
    ]
    if lines:
        raise ConfigError("\n".join(lines))
