"""A lock: one change of a registry at a time, across processes and machines, using only MLflow's store.

MLflow has no compare-and-set, but the name of a registered model is unique in its database, SQLite or PostgreSQL. The
process that creates the registered model `NAME.lock` holds the lock, and deletes it afterwards. A holder that was
killed leaves it behind. A process that has seen the same holder for `LEASE_SECONDS` removes it. The removal takes a
lock of its own: a slow process must not remove the lock that a quicker one has taken since. Clocks of machines are
never compared. docs/decisions/0009 says why the registry stays right if a holder is slower than its lease.
"""

import contextlib
import getpass
import logging
import os
import random
import socket
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from segpipe.errors import TrackingError
from segpipe.tracking.client import retry_busy, search_newest_versions
from segpipe.tracking.tags import HOLDER

log = logging.getLogger(__name__)

LOCK_SUFFIX = ".lock"
LEASE_SECONDS = 30.0
LOCK_WAIT_SECONDS = 600.0
LOCK_POLL_SECONDS = (0.05, 0.25)


def describe_self() -> str:
    """Gives the name of this process's user, as `user@machine`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


@dataclass(frozen=True)
class Lease:
    """How long the holder may use the lock.

    Attributes:
        ends: when, seconds of this process's monotonic clock; after half the time that the others wait.
    """

    ends: float

    def check(self) -> None:
        """Must be called before each write that needs the lock.

        Raises:
            TrackingError: the lease is over, so another process may have taken the lock.
        """
        if time.monotonic() > self.ends:
            raise TrackingError("MLflow answered too slowly to change the champion safely; try again")


@contextlib.contextmanager
def hold_lock(client: MlflowClient, model_name: str) -> Iterator[Lease]:
    """Holds the lock on the champion of a registered model, waiting for its present holder.

    Raises:
        TrackingError: the lock was not free within ten minutes, or a model with versions has its name.
    """
    name, me = model_name + LOCK_SUFFIX, f"{describe_self()} {uuid.uuid4().hex}"
    gives_up = time.monotonic() + LOCK_WAIT_SECONDS
    watched, since = None, time.monotonic()
    asked = since  # the others may see this holder from then on, however late the answer comes
    # Waiting makes one cheap request at a time, so that it does not load the server.
    while (holder := _holder(client, name)) or not _create(client, name, me):
        if holder != watched:
            watched, since = holder, time.monotonic()
        elif holder and time.monotonic() - since > LEASE_SECONDS:
            if search_newest_versions(client, name, 1):
                raise TrackingError(f"registered model {name!r} has versions, and the name of a lock; rename it")
            log.warning("%s was left behind by %s, which has ended; it is removed", name, holder.split()[0])
            with hold_lock(client, name):
                _delete(client, name, holder)
        if time.monotonic() > gives_up:
            raise TrackingError(f"registered model {name!r} is held by {holder}; delete it if that process has ended")
        time.sleep(random.uniform(*LOCK_POLL_SECONDS))
        asked = time.monotonic()
    try:
        yield Lease(asked + LEASE_SECONDS / 2)
    finally:
        _delete(client, name, me)


def _create(client: MlflowClient, name: str, holder: str) -> bool:
    about = f"{holder.split()[0]} is changing the champion; this goes away by itself."
    try:
        retry_busy(lambda: client.create_registered_model(name, {HOLDER: holder}, about))
    except MlflowException as error:
        # MLflow reads the model that has the name already, which may be deleted meanwhile.
        if error.error_code not in {"RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"}:
            raise
        # If the answer to the first call was lost, the second call finds this process's own lock.
        return _holder(client, name) == holder
    return True


def _holder(client: MlflowClient, name: str) -> str | None:
    try:
        return str(client.get_registered_model(name).tags.get(HOLDER, "somebody"))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def _delete(client: MlflowClient, name: str, holder: str) -> None:
    if _holder(client, name) == holder:
        with contextlib.suppress(MlflowException):  # another was quicker
            retry_busy(lambda: client.delete_registered_model(name))
