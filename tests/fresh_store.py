"""A registry of its own for each test: real MLflow on an SQLite file."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from stores import open_store


@pytest.fixture(scope="session")
def _empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    open_store(f"sqlite:///{path}")
    return path


@pytest.fixture
def client(_empty_store: Path, tmp_path: Path) -> MlflowClient:
    """A client of an empty store."""
    return open_store(f"sqlite:///{shutil.copyfile(_empty_store, tmp_path / 'mlflow.db')}")


@pytest.fixture
def add_version(client: MlflowClient) -> Callable[..., ModelVersion]:
    """Registers a version of `boxes`: `add_version(weights_sha256)`; without, as somebody does by hand."""

    def add(weights_sha256: str | None = None) -> ModelVersion:
        try:
            client.create_registered_model("boxes")
        except MlflowException as error:
            assert error.error_code == "RESOURCE_ALREADY_EXISTS"
        tags = {"segpipe.weights_sha256": weights_sha256} if weights_sha256 else {}
        return client.create_model_version("boxes", source="runs:/x/model", tags=tags, await_creation_for=0)

    return add
