"""Several processes compute what one computes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from gloo import run_ranks
from samples import Sample
from shared_steps import Steps, Validation
from torch import nn

from segpipe.data.store import Store
from segpipe.errors import ConfigError
from segpipe.inference import evaluate
from segpipe.inference.predictor import Predictor
from segpipe.training.processes.launching import Placement
from segpipe.training.processes.ranks import ALONE


def test_three_processes_take_the_steps_of_one() -> None:
    expected, expected_losses, own_votes = Steps()(ALONE)
    assert own_votes == [0] * 3
    results = run_ranks(Steps(), 3)  # five samples: two, two and one
    for state, losses, votes in results:
        assert votes == [2] * 3
        assert losses == pytest.approx(expected_losses, abs=1e-6)
        for name, value in expected.items():
            torch.testing.assert_close(state[name], value, rtol=1e-4, atol=1e-5, msg=name)
        for name, value in results[0][0].items():
            assert torch.equal(state[name], value), f"{name} differs between the processes"


def test_parts_of_different_sizes_are_in_step() -> None:
    results = run_ranks(Steps(num_parts=2), 2)  # of three and of two samples
    for name, value in results[0][0].items():
        assert torch.equal(results[1][0][name], value), name
        assert value.isfinite().all()


def test_a_shared_validation_is_equal_to_the_last_digit(
    make_store: Callable[..., Store], make_sample: Callable[..., Sample]
) -> None:
    # Three batches, because only neighbours of one size share one.
    heights = (32, 32, 40, 32, 32)
    samples = [make_sample(f"v_{i}", "val", height, 48) for i, height in enumerate(heights)]
    store = make_store([make_sample("t_0"), *samples])
    work = Validation(store.folder)
    expected = work(ALONE)
    assert 0 < expected[0] < 1
    assert len(list(evaluate._batches(Predictor(nn.Identity()), store.of_split("val")))) == 3
    assert run_ranks(work, 2) == [expected] * 2


def test_of_one_batch_only_one_process_has_something_to_validate(
    make_store: Callable[..., Store], make_sample: Callable[..., Sample]
) -> None:
    store = make_store([make_sample("t_0"), make_sample("v_0", "val")])
    work = Validation(store.folder)
    assert len(list(evaluate._batches(Predictor(nn.Identity()), store.of_split("val")))) == 1
    assert run_ranks(work, 2) == [work(ALONE)] * 2


@pytest.mark.parametrize(
    ("variables", "facts"),
    [
        ({"SEGPIPE_PROCESSES": "many"}, ["SEGPIPE_PROCESSES=many", "auto"]),
        ({"SEGPIPE_PROCESSES": "0"}, ["SEGPIPE_PROCESSES=0"]),
        ({"SEGPIPE_MACHINES": "x", "SEGPIPE_MACHINE": "-1"}, ["SEGPIPE_MACHINES=x", "SEGPIPE_MACHINE=-1"]),
        ({"SEGPIPE_MACHINES": "2"}, ["SEGPIPE_MEETING=HOST:PORT"]),
        ({"SEGPIPE_MACHINES": "2", "SEGPIPE_MEETING": "node1"}, ["SEGPIPE_MEETING=node1"]),
        ({"SEGPIPE_MACHINES": "2", "SEGPIPE_MACHINE": "2", "SEGPIPE_MEETING": "a:1"}, ["SEGPIPE_MACHINE=2", "below"]),
    ],
)
def test_a_placement_that_cannot_be_is_refused(variables: dict[str, str], facts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        Placement.of(variables, "auto")
    assert [fact for fact in facts if fact not in str(caught.value)] == []


def test_one_process_is_the_default_and_a_named_gpu_is_for_one() -> None:
    assert not Placement.of({}, "auto").is_shared
    assert not Placement.of({"SEGPIPE_PROCESSES": "1"}, "cuda:1").is_shared
    with pytest.raises(ConfigError, match="cuda:1 is for one process"):
        Placement.of({"SEGPIPE_PROCESSES": "2"}, "cuda:1")
    assert Placement.of({"SEGPIPE_PROCESSES": "2"}, "cpu") == Placement(processes=2)
