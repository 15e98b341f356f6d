"""The lineage of a registered version: from its run, from its tags, or a warning that it is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import mlflow
import pytest
from facts import missing
from mlflow.entities.model_registry import ModelVersion
from mlflow.tracking import MlflowClient

from segpipe.errors import IncomparableError
from segpipe.tracking.lineage import RunLineage
from segpipe.tracking.registered import fetch_lineage, fetch_version

TODAY = {"segpipe.git_commit": "c0ffee", "segpipe.dvc_lock_sha256": "abc", "segpipe.environment.device": "cpu"}
EARLIER = {**TODAY, "segpipe.dvc.data": "ddd.dir", "segpipe.environment.torch": "2"}
KEPT = '{"data": {"data": "ddd.dir"}, "environment": {"torch": "2", "device": "cpu"}}'
WHOLE = RunLineage(data={"data": "ddd.dir"}, environment={"torch": "2", "device": "cpu"})
OF_TAGS = RunLineage(environment={"device": "cpu"})

Register = Callable[..., ModelVersion]


@pytest.fixture(autouse=True)
def _store(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The store of `client` is the one that downloads ask, as after `connect`."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", client.tracking_uri)
    mlflow.set_tracking_uri(client.tracking_uri)
    yield
    mlflow.set_tracking_uri(None)


@pytest.fixture
def register(client: MlflowClient, tmp_path: Path) -> Register:
    """Registers a version of `boxes` whose run keeps this text as its lineage; None keeps nothing."""

    def make(tags: Mapping[str, str], text: str | None) -> ModelVersion:
        experiment = client.create_experiment("boxes", artifact_location=(tmp_path / "files").as_uri())
        run_id = client.create_run(experiment).info.run_id
        if text is not None:
            client.log_text(run_id, text, "lineage/lineage.json")
        client.create_registered_model("boxes")
        return client.create_model_version("boxes", f"runs:/{run_id}/model", run_id, dict(tags), await_creation_for=0)

    return make


@pytest.mark.parametrize(("tags", "text"), [(TODAY, KEPT), (EARLIER, None)])
def test_the_lineage_is_in_the_run_or_of_an_earlier_release_in_the_tags(
    register: Register, tags: Mapping[str, str], text: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    assert fetch_lineage(register(tags, text)) == WHOLE
    assert caplog.text == ""


@pytest.mark.parametrize("text", [None, "", "[]"])
def test_a_lineage_that_cannot_be_read_is_told(
    register: Register, text: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    version = register(TODAY, text)
    assert fetch_lineage(version) == OF_TAGS
    (record,) = caplog.records
    assert (record.levelname, record.name) == ("WARNING", "segpipe.tracking.registered")
    assert not missing(record.getMessage(), "version 1", "'boxes'", "lineage/lineage.json", str(version.run_id))


def test_a_version_of_another_program_has_no_lineage_to_miss(
    register: Register, caplog: pytest.LogCaptureFixture
) -> None:
    assert fetch_lineage(register({}, None)) == RunLineage()
    assert caplog.text == ""


def test_a_version_without_a_run_has_that_of_its_tags(
    add_version: Callable[..., ModelVersion], caplog: pytest.LogCaptureFixture
) -> None:
    assert fetch_lineage(add_version()) == RunLineage()
    assert caplog.text == ""


def test_a_version_of_another_program_is_no_failure_of_the_network(client: MlflowClient, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "MLmodel").write_text("flavors: {}", encoding="utf-8")
    client.create_registered_model("boxes")
    client.create_model_version("boxes", source=(tmp_path / "model").as_uri(), await_creation_for=0)
    with pytest.raises(IncomparableError, match="was not registered by segpipe"):
        fetch_version("boxes", "1", tmp_path / "output")
