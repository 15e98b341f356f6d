"""The connection to MLflow: a server where `MLFLOW_TRACKING_URI` names one, else a store in the repository root."""

import contextlib
import logging
import os
import re
import urllib.error
import urllib.request

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

from segpipe.errors import TrackingError

# What `mlflow ui` opens when it is typed in the repository root.
DEFAULT_STORE = "sqlite:///mlflow.db"
PING_SECONDS = 5


def mlflow_name(name: str) -> str:
    """Gives a class's or a sample's name as MLflow takes it for a metric, tag or picture."""
    return re.sub(r"[^A-Za-z0-9_\-. /]", "_", name)


def connect() -> MlflowClient:
    """Opens the store.

    Raises:
        TrackingError: the server does not answer, or the store cannot be read.
    """
    for name in ("alembic", "mlflow.store.db.utils", "mlflow.system_metrics", "mlflow.pyfunc"):
        logging.getLogger(name).setLevel(logging.WARNING)
    address = os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_STORE
    mlflow.set_tracking_uri(address)
    try:
        if address.startswith(("http://", "https://")):
            # mlflow's own first call would hang through its retries.
            with contextlib.suppress(urllib.error.HTTPError):  # an answer, if a refusal: the server is there
                urllib.request.urlopen(f"{address.rstrip('/')}/health", timeout=PING_SECONDS).close()
        client = MlflowClient()
        client.search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, urllib.error.URLError, OSError) as error:
        reason = str(error).splitlines()[0]
        if "401" in reason:
            mend = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to a user of that server"
        else:
            mend = "start it, or unset MLFLOW_TRACKING_URI to use mlflow.db in this folder"
        raise TrackingError(f"MLflow at {address} cannot be used: {reason}; {mend}") from error
    return client
