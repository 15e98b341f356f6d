"""Servers that cannot be used, against real answers over HTTP; and when a stage is worth another attempt."""

from __future__ import annotations

import importlib.metadata
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import prefect
import pytest
from prefect.client.schemas.filters import FlowRunFilter
from prefect.exceptions import ObjectNotFound
from prefect.logging import disable_run_logger
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Cancelled, Completed, Crashed, Failed, Running, Scheduled, State

from pipelines import flows, placement
from pipelines.errors import PipelineError
from pipelines.graph import Stage
from pipelines.workspace import Revision

Answers = dict[str, tuple[int, str]]
GOOD: Answers = {
    "/api/admin/version": (200, json.dumps(prefect.__version__)),
    "/version": (200, importlib.metadata.version("mlflow")),
}


def check(address: str | None) -> None:
    url = None if address is None else f"{address}/api"
    with temporary_settings({PREFECT_API_URL: url, PREFECT_CLIENT_MAX_RETRIES: 0}):
        placement.check_server()


def test_servers_of_our_versions_are_taken(serve: Callable[[Answers], str]) -> None:
    check(serve(GOOD))


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (
            {"/api/admin/version": (200, '"3.0.1"')},
            rf"Prefect server at .* is 3\.0\.1, this clone has {prefect.__version__}",
        ),
        ({"/api/admin/version": (401, "")}, "refuses: 401; set PREFECT_API_AUTH_STRING"),
        ({"/api/admin/version": (500, "")}, "refuses: 500; see its log"),
        ({"/version": (200, "2.1.0")}, r"MLflow server at .* is 2\.1\.0, this clone has "),
    ],
)
def test_a_server_that_cannot_be_used_is_refused(
    serve: Callable[[Answers], str], answers: Answers, message: str
) -> None:
    with pytest.raises(PipelineError, match=message):
        check(serve({**GOOD, **answers}))


def test_a_server_that_does_not_answer_is_named() -> None:
    with pytest.raises(PipelineError, match=r"the Prefect server at http://127\.0\.0\.1:9/api does not answer"):
        check("http://127.0.0.1:9")


def test_a_queue_of_no_worker_is_refused_with_those_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    class Client:
        def __enter__(self) -> Client:
            return self

        def __exit__(self, *_: object) -> None: ...

        def read_work_queue_by_name(self, name: str, work_pool_name: str) -> None:
            if (name, work_pool_name) != ("host-gpu-0", "gpu"):
                raise ObjectNotFound(ValueError("404"))

        def read_work_queues(self, work_pool_name: str) -> list[Any]:
            return [SimpleNamespace(name="host-gpu-0"), SimpleNamespace(name="default")]

    monkeypatch.setattr(placement, "get_client", lambda **_: Client())
    placement.check_queue("gpu", "host-gpu-0")
    with pytest.raises(PipelineError, match=r"no queue 'host-gpu-O'.* its queues are default, host-gpu-0;"):
        placement.check_queue("gpu", "host-gpu-O")


def test_a_retraining_with_a_wrong_queue_is_refused_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pool: str, queue: str) -> None:
        raise PipelineError(f"{pool} {queue}")

    monkeypatch.setattr(placement, "check_server", lambda: None)
    monkeypatch.setattr(placement, "check_queue", refuse)
    monkeypatch.setattr(flows, "find_revision", lambda *_: pytest.fail("the revision was looked for"))
    with pytest.raises(PipelineError, match="gpu host-gpu-O"):
        flows._retrain("current", None, False, None, "host-gpu-O", print)


def test_a_retraining_that_has_waited_takes_the_clone_as_it_is_then(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before, now = (Revision("current", sha * 40) for sha in "ab")
    found, checked, begun = iter([before, now]), [], []

    @contextmanager
    def alone(say: Any) -> Iterator[None]:
        yield

    def begin(workspace: Any, revision: Revision, *_: Any) -> None:
        begun.append(revision)
        raise SystemExit

    monkeypatch.setattr(placement, "check_server", lambda: None)
    monkeypatch.setattr(flows, "find_revision", lambda *_: next(found))
    monkeypatch.setattr(flows, "check_branch", lambda revision, branch: checked.append(revision))
    monkeypatch.setattr(flows, "open_workspace", lambda *_: SimpleNamespace(root=tmp_path, alone=alone))
    monkeypatch.setattr(flows, "read_stages", lambda root: {})
    monkeypatch.setattr(flows, "_bring_up_to_date", begin)
    with pytest.raises(SystemExit):
        flows._retrain("current", None, False, "results", None, print)
    assert begun == [now]
    assert checked == [before, now]


def test_a_stage_that_is_stale_again_has_one_of_two_reasons(tmp_path: Path) -> None:
    here = flows.why_stale_again("train", tmp_path, f"done in {tmp_path} on {os.uname().nodename}")
    assert "were changed meanwhile" in here
    assert "dvc remote" not in here
    assert "dvc remote add" in flows.why_stale_again("train", tmp_path, "done in /far on another")


def test_without_a_server_prefect_does_not_start_one_of_its_own() -> None:
    with pytest.raises(PipelineError, match="PREFECT_API_URL is not set"):
        check(None)


@pytest.mark.parametrize(
    ("retries", "states", "num_attempts", "refusal"),
    [
        (0, [Completed()], 1, None),
        (2, [Failed(), Failed(), Completed()], 3, None),
        (2, [Failed(), Failed(), Failed(message="no network")], 3, r"attempt 3: failed\. no network"),
        (0, [Failed(message="a wrong label")], 1, r"attempt 1: failed\. a wrong label"),
        (0, [Crashed(), Crashed(), Completed()], 3, None),
        (0, [Crashed(), Crashed(), Crashed()], 3, "attempt 3: crashed"),
        (1, [Crashed(), Failed(), Completed()], 3, None),
        (2, [Cancelled()], 1, "attempt 1: cancelled"),
    ],
)
def test_what_is_worth_another_attempt_gets_one(
    monkeypatch: pytest.MonkeyPatch, retries: int, states: list[State[Any]], num_attempts: int, refusal: str | None
) -> None:
    started, ends = [], iter(states)
    monkeypatch.setattr(flows, "RETRY_DELAY_SECONDS", 0.0)
    monkeypatch.setattr(placement, "start_child", lambda *asked: started.append(asked) or SimpleNamespace())
    monkeypatch.setattr(placement, "wait_for", lambda *asked: next(ends))

    def run() -> None:
        stage = Stage("train", "gpu", retries=retries)
        flows._run_on_worker(stage, Revision("main", "c0ffee" * 7), False, None, lambda line: None)

    if refusal is None:
        run()
    else:
        with pytest.raises(PipelineError, match=refusal):
            run()
    assert [name for _, name, *_ in started] == [f"train c0ffeec0ffee attempt {i + 1}" for i in range(num_attempts)]
    assert {(deployment, *tags) for deployment, *_, tags in started} == {("stage/gpu", "train")}


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[dict[str, State[Any]]]], dict[str, Any]]:
    """Two children, and what the server says of them each time that it is asked; a state for each that is there."""

    def make(answers: list[dict[str, State[Any]]]) -> dict[str, Any]:
        named = {key: SimpleNamespace(id=uuid4(), name=f"run {key}") for key in ("a", "b")}
        coming = iter(answers)

        class Client:
            def __enter__(self) -> Client:
                return self

            def __exit__(self, *_: object) -> None: ...

            def read_flow_runs(self, flow_run_filter: FlowRunFilter, limit: int) -> list[Any]:
                assert flow_run_filter.id and flow_run_filter.id.any_ == [child.id for child in named.values()]
                return [SimpleNamespace(id=named[key].id, state=state) for key, state in next(coming).items()]

        monkeypatch.setattr(placement, "get_client", lambda **_: Client())
        monkeypatch.setattr(placement, "POLL_SECONDS", 0.0)
        return named

    return make


def test_the_first_of_several_children_that_ends_is_given(children: Any) -> None:
    answers = [{"a": Running(), "b": Running()}, {"a": Running(), "b": Completed(message="done")}]
    key, state = placement.wait_for_first(children(answers), "cpu", lambda line: None)
    assert (key, state.message) == ("b", "done")


def test_a_child_that_a_user_has_deleted_is_not_waited_for(children: Any) -> None:
    with pytest.raises(PipelineError, match="run b was deleted"):
        placement.wait_for_first(children([{"a": Running()}]), "cpu", lambda line: None)


def test_children_in_a_pool_without_a_worker_are_not_waited_for(children: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "WORKER_PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(placement, "_is_served", lambda client, pool: False)
    waiting = [{"a": Running(), "b": Scheduled()}] * 2
    with pytest.raises(PipelineError, match=r"^run b: not started.*'cpu'.*`make worker POOL=cpu`"):
        placement.wait_for_first(children(waiting), "cpu", lambda line: None)


@pytest.mark.parametrize("machines", ["", "1"])
def test_one_machine_is_no_group(monkeypatch: pytest.MonkeyPatch, machines: str) -> None:
    monkeypatch.setenv("SEGPIPE_MACHINES", machines)
    placement.check_machines()


def test_a_stage_on_several_machines_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGPIPE_MACHINES", "2")
    with pytest.raises(PipelineError, match=r"SEGPIPE_MACHINES=2.*several-gpus\.md"):
        placement.check_machines()
    monkeypatch.setattr(flows, "die_with_parent", lambda: None)  # it is this process that would
    with disable_run_logger(), pytest.raises(PipelineError, match="SEGPIPE_MACHINES=2"):
        flows.stage.fn("train", {}, False, 1.0, "")
