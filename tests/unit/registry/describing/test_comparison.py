"""What a comparison names as different."""

from __future__ import annotations

from collections.abc import Callable

from mlflow.entities.model_registry import ModelVersion
from mlflow.tracking import MlflowClient

from segpipe.registry.describing.comparison import _differences, _params
from segpipe.tracking.tags import INFERENCE


def test_versions_that_differ_only_in_how_they_predict(
    client: MlflowClient, add_version: Callable[..., ModelVersion]
) -> None:
    first, second = add_version("a" * 64), add_version("a" * 64)
    client.set_model_version_tag(second.name, second.version, INFERENCE, "f" * 32)
    second = client.get_model_version(second.name, second.version)
    (row,) = _differences(_params(client, first), _params(client, second))
    assert row.name == "evaluate.inference"
    assert row.first == "the network alone"
    assert "f" * 32 in str(row.second)
