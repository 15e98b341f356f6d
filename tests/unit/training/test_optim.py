"""Learning rates by hand, of all parts and of single ones, and what is decayed."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import timm
import torch
from torch import nn

from segpipe.config.train import Schedule, Train
from segpipe.training.optim import make_optimizer, make_plateau, make_schedule
from segpipe.training.parameters import find_decayed, freeze

# What each schedule needs in addition to its name.
SCHEDULES: dict[str, dict[str, object]] = {
    "constant": {},
    "cosine": {},
    "poly": {},
    "one_cycle": {},
    "step": {"factor": 0.1, "milestones": [0.5]},
    "exponential": {"factor": 0.5},
    "plateau": {"factor": 0.5, "patience": 1},
}


def _rates(num_steps: int, **settings: object) -> list[float]:
    """The rate before the first step and after each, of a highest rate of 1."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = make_schedule(optimizer, Schedule.model_validate(settings), num_steps, steps_per_epoch=5)
    rates = [optimizer.param_groups[0]["lr"]]
    for _ in range(num_steps):
        optimizer.step()
        schedule.step()
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def test_cosine_by_hand() -> None:
    rates = _rates(10, name="cosine", warmup_share=0.2)
    assert rates[:3] == pytest.approx([0.01, 0.505, 1.0])  # two steps of warm-up
    assert rates[2:] == pytest.approx([(1 + math.cos(math.pi * i / 8)) / 2 for i in range(9)])
    assert rates[6] == pytest.approx(0.5)
    assert rates[10] == pytest.approx(0, abs=1e-12)


def test_poly_by_hand() -> None:
    rates = _rates(10, name="poly", warmup_share=0.2, power=0.9)
    assert rates[:3] == pytest.approx([0.01, 0.505, 1.0])
    assert rates[2:] == pytest.approx([(1 - i / 8) ** 0.9 for i in range(9)], abs=1e-9)


def test_one_cycle_by_hand() -> None:
    rates = _rates(20, name="one_cycle", warmup_share=0.3)
    # From 1/25 over steps 0 .. 5 up, over steps 5 .. 19 down to 1/25 of 1/10000.
    low, last = 1 / 25, 1 / 25 / 1e4
    rising = [low + (1 - low) * (1 - math.cos(math.pi * i / 5)) / 2 for i in range(6)]
    falling = [last + (1 - last) * (1 + math.cos(math.pi * i / 14)) / 2 for i in range(15)]
    assert rates[:20] == pytest.approx(rising + falling[1:], rel=1e-6)


def test_constant_by_hand() -> None:
    assert _rates(10, name="constant", warmup_share=0.2) == pytest.approx([0.01, 0.505, *[1.0] * 9])


def test_step_by_hand() -> None:
    settings = {"name": "step", "factor": 0.1, "milestones": [0.8, 0.5]}  # in any order
    expected = [1, 1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01]
    assert _rates(10, **settings, warmup_share=0.0) == pytest.approx(expected)
    # Milestones are shares of all steps, the warm-up among them.
    assert _rates(10, **settings, warmup_share=0.2) == pytest.approx([0.01, 0.505, *expected[2:]])


def test_a_milestone_in_the_warm_up_counts_from_its_end() -> None:
    rates = _rates(10, name="step", factor=0.1, milestones=[0.1, 0.5], warmup_share=0.2)
    assert rates == pytest.approx([0.01, 0.505, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01])


def test_exponential_by_hand() -> None:
    # Five steps an epoch: halved after as many, a little with each.
    expected = [0.5 ** (step / 5) for step in range(11)]
    rates = _rates(10, name="exponential", factor=0.5, warmup_share=0.0)
    assert rates == pytest.approx(expected)
    assert (rates[5], rates[10]) == (pytest.approx(0.5), pytest.approx(0.25))
    assert _rates(10, name="exponential", factor=0.5) == pytest.approx([0.01, *expected[:10]])


def test_plateau_alone_only_warms_up() -> None:
    settings = {"name": "plateau", "factor": 0.5, "patience": 1}
    assert _rates(10, **settings, warmup_share=0.0) == pytest.approx([1.0] * 11)
    assert _rates(10, **settings, warmup_share=0.2) == pytest.approx([0.01, 0.505, *[1.0] * 9])


@pytest.mark.parametrize(
    ("patience", "validate_every", "lowered_after"),
    [(1, 1, 2), (3, 1, 4), (3, 3, 2), (4, 2, 3), (3, 2, 3), (5, 2, 4)],
)
def test_plateau_waits_until_its_epochs_are_over(patience: int, validate_every: int, lowered_after: int) -> None:
    """The first validation is the best; the epochs of `lowered_after` - 1 more without a rise are the patience."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    settings = Schedule(name="plateau", factor=0.5, patience=patience)
    plateau = make_plateau(optimizer, settings, validate_every)
    assert plateau is not None
    rates = []
    for _ in range(lowered_after):
        plateau.step(0.3)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == [*[1.0] * (lowered_after - 1), 0.5]


def test_plateau_knows_a_small_rise_from_none() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    plateau = make_plateau(optimizer, Schedule(name="plateau", factor=0.5, patience=1), 1)
    assert plateau is not None
    rates = []
    for mean_iou in (0.0, 0.3, 0.30001, 0.30001, 0.2, 0.4):
        plateau.step(mean_iou)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == [1, 1, 1, 0.5, 0.25, 0.25]


@pytest.mark.parametrize("name", sorted(SCHEDULES.keys() - {"plateau"}))
def test_no_other_schedule_waits_for_a_plateau(name: str) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = Schedule.model_validate({"name": name, **SCHEDULES[name]})
    assert make_plateau(optimizer, schedule, 1) is None


@pytest.mark.parametrize("name", ["cosine", "poly"])
def test_without_warm_up_the_first_step_takes_the_highest_rate(name: str) -> None:
    assert _rates(5, name=name, warmup_share=0)[0] == 1.0


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("warmup_share", [0.0, 0.1, 0.2, 0.25, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("num_steps", [1, 2, 4, 5, 10])
def test_short_trainings_have_a_schedule_too(name: str, warmup_share: float, num_steps: int) -> None:
    rates = _rates(num_steps, name=name, warmup_share=warmup_share, **SCHEDULES[name])
    assert all(0 <= rate <= 1 + 1e-9 for rate in rates)
    assert num_steps == 1 or max(rates[:num_steps]) > 0.009, "no step learns anything"


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adam", "adamw"])
def test_biases_and_norms_are_not_decayed(make_train_settings: Callable[..., Train], name: str) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    settings = make_train_settings(optimizer=name, weight_decay=0.5, learning_rate=0.1)
    optimizer = make_optimizer(module, settings)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    after = module.state_dict()
    if name in {"sgd", "adamw"}:
        torch.testing.assert_close(after["0.weight"], before["0.weight"] * (1 - 0.1 * 0.5))
    else:  # the decay is the whole gradient, which these divide by its own length
        length = {"adam": 1.0, "rmsprop": 0.1}[name]  # sqrt(1 - alpha), of a first step
        expected = before["0.weight"] - 0.1 / length * before["0.weight"].sign()
        torch.testing.assert_close(after["0.weight"], expected, rtol=0, atol=1e-3)
    for key in ("0.bias", "1.weight", "1.bias"):
        assert torch.equal(after[key], before[key]), key


@pytest.mark.parametrize(
    ("changes", "kind", "momentum"),
    [
        ({"optimizer": "sgd"}, torch.optim.SGD, 0.9),
        ({"optimizer": "sgd", "momentum": 0.7}, torch.optim.SGD, 0.7),
        ({"optimizer": "sgd", "momentum": 0.0}, torch.optim.SGD, 0.0),
        ({"optimizer": "rmsprop"}, torch.optim.RMSprop, 0.0),
        ({"optimizer": "rmsprop", "momentum": 0.5}, torch.optim.RMSprop, 0.5),
        ({"optimizer": "adam"}, torch.optim.Adam, None),
        ({"optimizer": "adamw"}, torch.optim.AdamW, None),
    ],
    ids=str,
)
def test_optimizers_by_name(
    make_train_settings: Callable[..., Train], changes: dict[str, object], kind: type, momentum: float | None
) -> None:
    optimizer = make_optimizer(nn.Linear(2, 2), make_train_settings(**changes))
    assert type(optimizer) is kind
    assert optimizer.param_groups[0].get("momentum") == momentum
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2


def _parts() -> nn.ModuleDict:
    encoder = nn.ModuleDict({"first": nn.Conv2d(1, 1, 1), "second": nn.Conv2d(1, 1, 1)})
    return nn.ModuleDict({"encoder": encoder, "head": nn.Conv2d(1, 1, 1)})


@pytest.mark.parametrize(
    ("encoder", "free", "decayed"),
    [
        ("swin_tiny_patch4_window7_224", "relative_position_bias_table", "attn.qkv.weight"),
        ("swinv2_tiny_window8_256", "cpb_mlp.0.weight", "attn.qkv.weight"),
        ("vit_tiny_patch16_224", "pos_embed", "attn.qkv.weight"),
        ("vit_tiny_patch16_224", "cls_token", "patch_embed.proj.weight"),
        ("xcit_nano_12_p16_224", "attn.temperature", "attn.qkv.weight"),
        ("convnextv2_atto", "grn.weight", "mlp.fc1.weight"),
    ],
)
def test_what_is_no_matrix_of_a_layer_is_not_decayed(encoder: str, free: str, decayed: str) -> None:
    with torch.device("meta"):
        network = timm.create_model(encoder)
    names = find_decayed(nn.ModuleDict({"encoder": network}))
    every = [f"encoder.{name}" for name, parameter in network.named_parameters() if parameter.ndim > 1]
    assert [name for name in every if name.endswith(free)] or free == "grn.weight"
    assert not [name for name in names if name.endswith(free)]
    chosen = {name for name in every if name.endswith(decayed)}
    assert chosen and chosen <= names


def test_an_embedding_is_not_decayed_and_attention_is() -> None:
    module = nn.ModuleDict({"table": nn.Embedding(4, 8), "mixer": nn.MultiheadAttention(8, 2)})
    assert find_decayed(module) == {"mixer.in_proj_weight", "mixer.out_proj.weight"}


def test_factors_and_decay_by_hand(make_train_settings: Callable[..., Train]) -> None:
    network = _parts()
    factors = {"encoder": 0.5, "encoder.second": 0.1, "head": 2.0}
    settings = make_train_settings(learning_rate=0.2, weight_decay=0.3, learning_rate_factors=factors)
    names = {parameter: name for name, parameter in network.named_parameters()}
    found = {
        names[parameter]: (group["lr"], group["weight_decay"])
        for group in make_optimizer(network, settings).param_groups
        for parameter in group["params"]
    }
    assert found == {
        "encoder.first.weight": (pytest.approx(0.1), 0.3),
        "encoder.first.bias": (pytest.approx(0.1), 0.0),
        "encoder.second.weight": (pytest.approx(0.02), 0.3),
        "encoder.second.bias": (pytest.approx(0.02), 0.0),
        "head.weight": (pytest.approx(0.4), 0.3),
        "head.bias": (pytest.approx(0.4), 0.0),
    }


def test_what_is_frozen_has_no_optimizer(make_train_settings: Callable[..., Train]) -> None:
    network = _parts()
    settings = make_train_settings(freeze=["encoder"])
    freeze(network, settings)
    trained = [p for group in make_optimizer(network, settings).param_groups for p in group["params"]]
    assert {id(parameter) for parameter in trained} == {id(parameter) for parameter in network["head"].parameters()}


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_keeps_the_factors(make_train_settings: Callable[..., Train], name: str) -> None:
    settings = make_train_settings(
        schedule={"name": name, "warmup_share": 0.3, **SCHEDULES[name]}, learning_rate_factors={"encoder": 0.125}
    )
    optimizer = make_optimizer(_parts(), settings)
    schedule = make_schedule(optimizer, settings.schedule, num_steps=10, steps_per_epoch=5)
    plateau = make_plateau(optimizer, settings.schedule, validate_every=1)
    for step in range(10):
        rates = {group["lr"] for group in optimizer.param_groups}
        assert len(rates) == 2
        assert min(rates) == pytest.approx(max(rates) / 8)
        optimizer.step()
        schedule.step()
        if plateau is not None and step % 5 == 4:
            plateau.step(0.0)
