"""What the form of `predict` may hold, and how its shards are run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from facts import missing
from prefect.logging import disable_run_logger
from prefect.states import Cancelled, Completed, Crashed, Failed, State

from pipelines import deploy, placement, predicting
from pipelines.errors import PipelineError
from pipelines.predicting import Request, run_parts, summarize
from pipelines.workspace import HOME, identity

GOOD = Request("/shots", "/out")


def test_what_can_be_used_is_taken() -> None:
    for one in (
        GOOD,
        Request("shots; rm -rf $(x) 'a' \"b\" | c", "predictions", device="cuda:1"),  # odd names of files
        Request("shots/**/*.jpg", "predictions/may", model="models:/streets@champion"),
        Request("list.txt", f"{HOME}/predictions/x/../y", model="build/model"),
    ):
        one.check()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": ""}, "images: is empty"),
        ({"output": ""}, "output: is empty"),
        ({"images": "--again"}, r"images: .*--again.*write \./--again"),
        ({"output": "-o"}, r"output: .*-o"),
        ({"model": "--registry=http://evil"}, "model: .*--registry"),
        ({"images": "a\0b"}, "images: .*control characters"),
        ({"model": "a\nb"}, "model: .*control characters"),
        ({"device": "cpu --again"}, "device: .*cpu --again"),
        ({"device": "cpu\n"}, "device: "),
        ({"output": "build/dataset"}, r"output: .*build/dataset lies in the project; write predictions/NAME"),
        ({"output": ".git/x"}, r"output: .*\.git/x lies in the project"),
        ({"output": "predictions/../src"}, "output: .*src lies in the project"),
        ({"output": "."}, "output: .*holds the project itself"),
        ({"output": "/"}, "output: .*holds the project itself"),
        ({"output": "~/masks"}, "output: .*lies in the project"),
    ],
)
def test_what_a_form_may_not_hold_is_refused(changes: dict[str, str], message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        replace(GOOD, **changes).check()


def test_all_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(PipelineError) as raised:
        Request("-a", "-b", "-c", "tpu").check()
    assert not missing(str(raised.value), "images: ", "output: ", "model: ", "device: ")


def test_no_text_of_the_form_can_become_an_option() -> None:
    odd = Request("-x", "-y", "-z", "-w", 2, 3, True, True)  # as if the check were not there
    command = odd.to_command("2/4", False)
    assert command[:2] == ["segpipe", "predict"] and command[-2:] == ["--", "-x"]
    assert {"--output=-y", "--model=-z", "--device=-w", "--every=2", "--batch=3", "--shard=2/4"} < set(command)
    assert {"--confidence", "--probabilities"} < set(command) and "--again" not in command
    assert GOOD.to_command("", True)[2:] == [
        "--output=/out", "--device=auto", "--every=1", "--batch=4", "--again", "--", "/shots"
    ]  # fmt: skip


def test_a_worker_that_does_not_see_the_images_says_where(tmp_path: Path) -> None:
    (tmp_path / "shots").mkdir()
    replace(GOOD, images=str(tmp_path / "shots")).check_here("other:/clone")
    replace(GOOD, images=str(tmp_path / "*.png")).check_here("other:/clone")
    Request("pipelines", "predictions").check_here(identity())
    for images in ("/nowhere/shots", f"/{'x' * 300}"):
        with pytest.raises(PipelineError) as raised:
            Request(images, "/out").check_here(identity())
        assert not missing(str(raised.value), images, identity())
    with pytest.raises(PipelineError) as raised:
        Request("pipelines", "/out").check_here("other:/clone")
    assert not missing(str(raised.value), "pipelines", "other:/clone", "absolute")


def test_a_flow_with_a_wrong_form_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predicting, "die_with_parent", lambda: None)  # it is this process that would
    monkeypatch.setattr(predicting, "call", lambda *asked: pytest.fail("a command was run"))
    monkeypatch.setattr(placement, "start_child", lambda *asked: pytest.fail("a run was started"))
    with disable_run_logger():
        with pytest.raises(PipelineError, match="images"):
            predicting.predict.fn("--again", "/out")
        with pytest.raises(PipelineError, match="images"):
            predicting.shard.fn({"images": "-x", "output": "/out"}, "", False, identity())
        with pytest.raises(PipelineError, match="part"):
            predicting.shard.fn({"images": "/", "output": "/out"}, "1/2 --again", False, identity())


@pytest.mark.parametrize("shards", [1, 2])
def test_the_folder_is_emptied_once_before_anything_is_predicted(monkeypatch: pytest.MonkeyPatch, shards: int) -> None:
    started: list[tuple[str, bool]] = []

    def start_child(deployment: str, name: str, parameters: dict[str, Any], *_: object) -> Any:
        started.append((parameters["part"], parameters["again"]))
        return SimpleNamespace(id=name, name=name)

    def wait_for_first(running: Mapping[str, Any], *_: object) -> tuple[str, State[Any]]:
        part = next(iter(running))
        is_first_try = running[part].name.endswith("attempt 1") and part != f"0/{shards}"
        return part, Crashed() if is_first_try else Completed(message="1 images predicted")

    monkeypatch.setattr(predicting, "RETRY_DELAY_SECONDS", 0.0)
    monkeypatch.setattr(predicting, "die_with_parent", lambda: None)
    monkeypatch.setattr(predicting.summary, "create_prediction_artifact", lambda *_: None)
    for name, fake in (
        ("check_server", lambda: None),
        ("check_workers", lambda pools: None),
        ("start_child", start_child),
        ("wait_for_first", wait_for_first),
    ):
        monkeypatch.setattr(placement, name, fake)
    with disable_run_logger():
        predicting.predict.fn("/shots", "/out", shards=shards, again=True)
    assert started[0] == (f"0/{shards}", True)
    assert len(started) > 2 and not any(again for _, again in started[1:])


Ends = list[tuple[str, State[Any]]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs parts that end as a list says; gives the attempts that were started, the ends, and what was cancelled."""

    def start_and_wait(parts: list[str], ends: Ends) -> tuple[list[str], Any, list[str]]:
        started: list[str] = []
        cancelled: list[str] = []
        coming = iter(ends)

        def start(part: str, attempt: int) -> Any:
            started.append(f"{part} {attempt}")
            return SimpleNamespace(id=f"{part} {attempt}", name=f"shard {part} attempt {attempt}")

        def wait_for_first(running: Mapping[str, Any], pool: str, say: object) -> tuple[str, State[Any]]:
            part, state = next(coming)
            assert part in running
            return part, state

        class Client:
            def __enter__(self) -> Client:
                return self

            def __exit__(self, *_: object) -> None: ...

            def set_flow_run_state(self, run_id: str, state: State[Any]) -> None:
                cancelled.append(run_id)

        monkeypatch.setattr(predicting, "RETRY_DELAY_SECONDS", 0.0)
        monkeypatch.setattr(placement, "wait_for_first", wait_for_first)
        monkeypatch.setattr(placement, "get_client", lambda **_: Client())
        try:
            outcome: Any = run_parts(parts, start, "cpu", lambda line: None)
        except PipelineError as error:
            outcome = error
        return started, outcome, cancelled

    return start_and_wait


def test_all_shards_are_started_at_once_and_a_lost_worker_is_replaced(run: Any) -> None:
    ends: Ends = [("2/2", Crashed()), ("1/2", Completed()), ("2/2", Crashed()), ("2/2", Completed(message="x"))]
    started, outcome, cancelled = run(["1/2", "2/2"], ends)
    assert started == ["1/2 1", "2/2 1", "2/2 2", "2/2 3"]
    assert {part: state.message for part, state in outcome.items()} == {"1/2": None, "2/2": "x"}
    assert cancelled == []


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ([("1/2", Failed(message="no such folder"))], r"shard 1/2 attempt 1: failed\. no such folder"),
        ([("1/2", Cancelled())], "shard 1/2 attempt 1: cancelled"),
        ([("1/2", Crashed())] * 3, "shard 1/2 attempt 3: crashed"),
    ],
)
def test_a_shard_that_is_lost_for_good_ends_the_others(run: Any, ends: Ends, message: str) -> None:
    _, outcome, cancelled = run(["1/2", "2/2"], ends)
    assert isinstance(outcome, PipelineError)
    with pytest.raises(PipelineError, match=message):
        raise outcome
    assert cancelled == ["2/2 1"]


def test_the_headline_says_how_many_were_skipped() -> None:
    lines = ["the model is a/3", "8 images predicted: masks/ in out", "segpipe: 2 skipped, see out/skipped.csv:", "  a"]
    assert summarize(lines) == "8 images predicted: masks/ in out; 2 skipped"
    assert summarize(lines[:2]) == "8 images predicted: masks/ in out"
    assert (summarize(["odd"]), summarize([])) == ("odd", "done")


def test_shards_are_no_deployment_that_people_start() -> None:
    assert predicting.shard in deploy.NOT_FOR_USERS and predicting.predict not in deploy.NOT_FOR_USERS
