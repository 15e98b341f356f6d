"""The addresses of models, and the registry that stays; tests/integration/test_python.py downloads."""

from __future__ import annotations

import os
from pathlib import Path

import mlflow
import pytest

from segpipe.errors import PredictionError
from segpipe.registry.addresses import TRACKING, Alias, as_before, find_model, read_alias


@pytest.fixture(autouse=True)
def _no_registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(TRACKING, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("address", ["some/folder", Path("some/folder"), Path("champion")])
def test_a_folder_is_taken_as_it_is(address: str | Path) -> None:
    with find_model(address) as found:
        assert (found.folder, found.name, found.version) == (Path(address), None, None)


@pytest.mark.parametrize("address", ["models:/streets", "models:/a/b/3", "models:/streets/newest", "models:/@champion"])
def test_another_form_is_refused(address: str) -> None:
    with pytest.raises(PredictionError, match="models:/NAME/VERSION"), find_model(address):
        pass


def test_an_alias_is_read_without_the_registry() -> None:
    assert read_alias("models:/streets@newest") == Alias("streets", "newest")
    assert read_alias("models:/streets/3") is None
    assert read_alias("some/folder") is None
    with pytest.raises(PredictionError, match="models:/NAME/VERSION"):
        read_alias("models:/streets")


def test_a_champion_needs_a_project_or_a_registry() -> None:
    with pytest.raises(PredictionError) as caught, find_model("champion"):
        pass
    assert all(fact in str(caught.value) for fact in ("params.yaml", "--registry ADDRESS", TRACKING))


@pytest.mark.parametrize("before", [None, "sqlite:///mine.db"])
def test_a_caller_keeps_its_own_registry(before: str | None) -> None:
    with as_before():  # of the test's own settings
        mlflow.set_tracking_uri(before)
        with as_before(), pytest.raises(PredictionError), find_model("models:/streets", "sqlite:///other.db"):
            pass
        with as_before():
            os.environ[TRACKING] = "https://user.example.org"
            os.environ["MLFLOW_TRACKING_PASSWORD"] = "secret"
            mlflow.set_tracking_uri("sqlite:///other.db")
        assert os.environ.get(TRACKING) == before
        assert "MLFLOW_TRACKING_PASSWORD" not in os.environ
        assert mlflow.is_tracking_uri_set() == (before is not None)
        assert before is None or mlflow.get_tracking_uri() == before
