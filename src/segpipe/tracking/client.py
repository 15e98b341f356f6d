"""The connection to MLflow: the server in `MLFLOW_TRACKING_URI`, or else the clone's own store."""

import contextlib
import logging
import os
import random
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import TypeVar

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

from segpipe.addresses import spare_loopback, split_login
from segpipe.errors import TrackingError
from segpipe.tracking.default_store import default_store

PING_SECONDS = 5
PAGE_SIZE = 10_000
MAX_ATTEMPTS = 8
FIRST_PAUSE_SECONDS = 0.05
# Parts of a store's messages when another process was quicker: the same call succeeds a moment later.
BUSY = (
    "database is locked",
    "Giving up after",
    "could not serialize",
    "deadlock detected",
    "UNIQUE constraint failed",  # SQLite: two have written the same row
    "duplicate key value",  # PostgreSQL: the same
)
READ_ONLY = "readonly database"  # MLflow gives this the code TEMPORARILY_UNAVAILABLE too

T = TypeVar("T")


def connect() -> MlflowClient:
    """Opens the store.

    Raises:
        TrackingError: the server does not answer, or the store cannot be read.
    """
    for name in ("alembic", "mlflow.system_metrics", "mlflow.pyfunc"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # MLflow logs each database error with its traceback, and then raises it; `refusals` makes a message of it.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    address = _take_login_out(os.environ.get("MLFLOW_TRACKING_URI") or default_store())
    mlflow.set_tracking_uri(address)
    os.environ |= spare_loopback(os.environ)
    if address.startswith("sqlite"):
        from segpipe.tracking.store import prepare  # here, because this import takes half a second

        prepare(address)
    try:
        if address.startswith(("http://", "https://")):
            # MLflow's own first call would wait for all its retries.
            with contextlib.suppress(urllib.error.HTTPError):  # a refusal is an answer too: the server runs
                urllib.request.urlopen(f"{address.rstrip('/')}/health", timeout=PING_SECONDS).close()
        client = MlflowClient()
        client.search_registered_models(max_results=1)
    except (MlflowException, SQLAlchemyError, urllib.error.URLError, OSError) as error:
        reason = str(error).splitlines()[0]
        if "error code 401" in reason:
            fix = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to a user of that server"
        else:
            fix = "start it, or unset MLFLOW_TRACKING_URI to use mlflow.db in this folder"
        raise TrackingError(f"MLflow at {address} cannot be used: {reason}; {fix}") from error
    return client


def _take_login_out(address: str) -> str:
    """Gives a server's address without user and password, and puts these into the environment for MLflow.

    In the address, they would appear in MLflow's messages, and `urllib` would read the password as a port.

    Raises:
        TrackingError: the address cannot be read.
    """
    if not address.startswith(("http://", "https://")):
        return address
    try:
        login = split_login(address)
    except ValueError as error:
        raise TrackingError(f"MLFLOW_TRACKING_URI: {error}") from None
    if login.user:
        variables = {"URI": login.address, "USERNAME": login.user, "PASSWORD": login.password}
        os.environ |= {f"MLFLOW_TRACKING_{name}": value for name, value in variables.items()}
    return login.address


@contextlib.contextmanager
def refusals(what: str) -> Iterator[None]:
    """Turns an error of MLflow, its store or a file into a message.

    Args:
        what: the first part of the message.

    Raises:
        TrackingError: MLflow refused or cannot be reached.
    """
    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        if READ_ONLY in str(error):
            reason = "this user may not write to its store; nothing was changed"
        who = "" if getattr(error, "filename", None) else "MLflow refused: "  # an error of the system names its file
        raise TrackingError(f"{what}: {who}{reason}") from error


def retry_busy(call: Callable[[], T]) -> T:
    """Makes a call to MLflow, and repeats it while the store is busy with another process.

    Args:
        call: may be made twice without harm.
    """
    for attempt in range(MAX_ATTEMPTS - 1):
        try:
            return call()
        except (MlflowException, SQLAlchemyError) as error:
            is_busy = getattr(error, "error_code", "") == "TEMPORARILY_UNAVAILABLE"
            is_busy |= any(sign in str(error) for sign in BUSY)
            if not is_busy or READ_ONLY in str(error):
                raise
            time.sleep(random.uniform(0.5, 1.5) * FIRST_PAUSE_SECONDS * 2**attempt)
    return call()


def search_newest_versions(client: MlflowClient, model_name: str, limit: int | None) -> list[ModelVersion]:
    """Gives the newest versions of a registered model, newest first; None for all."""
    if limit is None:
        return sorted(search_all_versions(client, model_name), key=lambda version: -int(version.version))
    order = ["version_number DESC"]
    return list(client.search_model_versions(f"name = '{model_name}'", max_results=limit, order_by=order))


def search_all_versions(client: MlflowClient, model_name: str, **tags: str) -> list[ModelVersion]:
    """Gives all versions of a registered model that have these tags, in no order; empty if it does not exist."""
    conditions = [f"name = '{model_name}'", *(f"tags.`{name}` = '{value}'" for name, value in tags.items())]
    versions: list[ModelVersion] = []
    token = None
    while token != "":
        page = client.search_model_versions(" and ".join(conditions), max_results=PAGE_SIZE, page_token=token)
        versions += page
        token = page.token or ""
    return versions
