"""Parts of a network by name: what stays, what learns how fast, and what is said of a wrong name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from facts import missing
from torch import nn

from segpipe.config.train import Train
from segpipe.errors import ConfigError
from segpipe.training.parameters import factor_of, freeze, start_training


@pytest.fixture
def network() -> nn.Module:
    """An encoder of two layers, the second without weights in its norm, a decoder and a head."""

    def layer(is_affine: bool) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2, affine=is_affine), nn.ReLU(), nn.Dropout(0.5))

    encoder = nn.ModuleDict({"layer1": layer(True), "layer2": layer(False)})
    return nn.ModuleDict({"encoder": encoder, "decoder": layer(True), "head": nn.Conv2d(2, 3, 1)})


def _trained(network: nn.Module) -> set[str]:
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


def _in_training(network: nn.Module) -> set[str]:
    return {name for name, part in network.named_modules() if isinstance(part, nn.BatchNorm2d) and part.training}


def _refusal(network: nn.Module, settings: Train) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        freeze(network, settings)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("changes", "trained", "in_training"),
    [
        (
            {},
            {"encoder.layer1", "encoder.layer2", "decoder", "head"},
            {"encoder.layer1.1", "encoder.layer2.1", "decoder.1"},
        ),
        ({"freeze": ["encoder"]}, {"decoder", "head"}, {"decoder.1"}),
        (
            {"freeze": ["encoder.layer1", "head"]},
            {"encoder.layer2", "decoder"},
            {"encoder.layer2.1", "decoder.1"},
        ),
        ({"freeze": ["encoder.layer1.0"]}, {"encoder.layer1.1", "encoder.layer2", "decoder", "head"}, None),
        (
            {"freeze_batch_norm": ["encoder", "decoder"]},
            {"encoder.layer1.0", "encoder.layer2.0", "decoder.0", "head"},
            set(),
        ),
        ({"freeze": ["encoder"], "freeze_batch_norm": ["encoder", "decoder"]}, {"decoder.0", "head"}, set()),
    ],
    ids=["nothing", "a part", "inner parts", "a layer", "batch norm", "both"],
)
def test_what_stays_and_what_is_trained(
    network: nn.Module,
    make_train_settings: Callable[..., Train],
    changes: dict[str, object],
    trained: set[str],
    in_training: set[str] | None,
) -> None:
    settings = make_train_settings(**changes)
    network.eval()
    freeze(network, settings)
    start_training(network, settings)
    every = {name for name, _ in network.named_parameters()}
    assert _trained(network) == {name for name in every if any(name.startswith(f"{part}.") for part in trained)}
    everywhere = {"encoder.layer1.1", "encoder.layer2.1", "decoder.1"}
    assert _in_training(network) == (everywhere if in_training is None else in_training)
    # Only statistics stay; drop-out is no part of the weights.
    assert all(part.training for part in network.modules() if isinstance(part, nn.Dropout))


def test_unknown_names_of_both_keys_come_in_one_message(
    network: nn.Module, make_train_settings: Callable[..., Train]
) -> None:
    settings = make_train_settings(
        freeze=["encodr", "head", "encoder.layer1.2"], learning_rate_factors={"decodr": 0.1, "encoder": 0.5, "": 2.0}
    )
    first, second, third, fourth = _refusal(network, settings)
    assert first.startswith("train.freeze: the network has no part 'encodr'; did you mean 'encoder'")
    assert second.startswith("train.freeze: the network has no part 'encoder.layer1.2'; ")  # without parameters
    assert third.startswith("train.learning_rate_factors: the network has no part 'decodr'; did you mean 'decoder'")
    assert fourth.startswith("train.learning_rate_factors: the network has no part ''; known: encoder, ")
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_something_must_be_left_to_train(network: nn.Module, make_train_settings: Callable[..., Train]) -> None:
    settings = make_train_settings(freeze=["encoder", "decoder", "head"])
    assert _refusal(network, settings) == ["train.freeze: nothing is left to train; frozen: encoder, decoder, head"]


def test_a_factor_of_what_is_frozen_is_refused(network: nn.Module, make_train_settings: Callable[..., Train]) -> None:
    factors = {"encoder": 0.5, "encoder.layer1": 0.1, "decoder.1": 2.0}
    settings = make_train_settings(freeze=["encoder.layer1", "decoder.1"], learning_rate_factors=factors)
    fix = "is frozen and has no learning rate; leave the factor out, or do not freeze the part"
    assert _refusal(network, settings) == [
        f"train.learning_rate_factors: 'encoder.layer1' {fix}",
        f"train.learning_rate_factors: 'decoder.1' {fix}",
    ]


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("encoder.layer1.weight", 0.1),
        ("encoder.layer4.weight", 0.5),
        ("encoder.layer4.0.bias", 3.0),
        ("encoder.layer40.weight", 0.1),
        ("encoders.weight", 1.0),
        ("head.weight", 1.0),
    ],
)
def test_the_innermost_factor_counts(name: str, factor: float) -> None:
    assert factor_of(name, {"encoder.layer4": 0.5, "encoder": 0.1, "encoder.layer4.0": 3.0}) == factor


def test_without_factors_every_rate_is_the_same() -> None:
    assert factor_of("encoder.weight", {}) == 1.0


def test_frozen_statistics_stay_in_a_forward_pass(
    network: nn.Module, make_train_settings: Callable[..., Train]
) -> None:
    settings = make_train_settings(freeze=["encoder"])
    freeze(network, settings)
    start_training(network, settings)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    features = torch.randn(4, 2, 3, 3)
    for part in ("encoder.layer1", "encoder.layer2", "decoder"):
        features = network.get_submodule(part)(features)
    after = network.state_dict()
    changed = {name for name in before if not torch.equal(after[name], before[name])}
    assert changed == {"decoder.1.running_mean", "decoder.1.running_var", "decoder.1.num_batches_tracked"}


def test_a_part_without_batch_norm_has_none_to_freeze(
    network: nn.Module, make_train_settings: Callable[..., Train]
) -> None:
    assert _refusal(network, make_train_settings(freeze_batch_norm=["encoder", "head"])) == [
        "train.freeze_batch_norm: 'head' has no batch norm; leave it out"
    ]


def test_a_list_of_parts_has_nothing_to_compute_again(make_train_settings: Callable[..., Train]) -> None:
    network = nn.ModuleDict({"stages": nn.ModuleList([nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)])})
    with pytest.raises(ConfigError) as caught:
        freeze(network, make_train_settings(recompute=["stages"]))
    assert not missing(str(caught.value), "train.recompute", "'stages'", "stages.0, stages.1")
    freeze(network, make_train_settings(recompute=["stages.1"]))
