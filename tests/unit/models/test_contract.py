"""The contract of every model that the registry finds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from model_contract import CHECKS, list_models

# More blocks of the same kind as the smaller network of the same file: `make test` looks at the whole contract of that
# one, and of these at what depends on the number of blocks and computes nothing. `make zoo` does the rest.
DEEPER = {
    "deeplabv3_resnet101": "deeplabv3_resnet50",
    "fc_densenet67": "fc_densenet56",
    "fc_densenet103": "fc_densenet56",
    "fcn_resnet101": "fcn_resnet50",
}
OF_THE_DEPTH = {"card_and_parts", "number_of_parameters_is_the_published_one", "training_takes_odd_sizes"}


def list_cases() -> list[object]:
    """Gives each model with each check; those of `make zoo` are marked."""
    marks = {True: [pytest.mark.zoo], False: []}
    return [
        pytest.param(name, check, id=f"{name}-{key}", marks=marks[name in DEEPER and key not in OF_THE_DEPTH])
        for name in list_models()
        for key, check in CHECKS.items()
    ]


@pytest.mark.parametrize(("name", "check"), list_cases())
def test_contract(name: str, check: Callable[[str], None]) -> None:
    check(name)


def test_a_deeper_network_and_the_one_that_stands_for_it_are_models() -> None:
    assert {*DEEPER, *DEEPER.values()} <= {*list_models()}
    assert CHECKS.keys() >= OF_THE_DEPTH
