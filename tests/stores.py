"""How tests open an MLflow store."""

import warnings

from mlflow.tracking import MlflowClient


def open_store(address: str) -> MlflowClient:
    """A client of a store that has been opened, so that SQLAlchemy has found its faults with MLflow's tables."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = MlflowClient(address)
        client.search_registered_models(max_results=1)
        client.search_experiments(max_results=1)
        return client
