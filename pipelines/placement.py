"""Runs child flows on work pools: checks servers and workers, waits for a child's end, cancels it if needed."""

import contextlib
import importlib.metadata
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast
from uuid import UUID

import httpx
import prefect
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, State, WorkerStatus
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.settings import get_current_settings
from prefect.states import Cancelling

from pipelines.errors import PipelineError
from segpipe.addresses import redact, split_login
from segpipe.places import MACHINES

POLL_SECONDS = 0.5
MLFLOW_ANSWER_SECONDS = 5.0
# A worker that has just been started or restarted is not yet listed.
WORKER_PATIENCE_SECONDS = 60.0
UNAUTHORIZED = 401

log = logging.getLogger(__name__)


def check_server() -> None:
    """Refuses a server that cannot be used or has another version: its API changes with each version.

    Raises:
        PipelineError: no server is named, it does not answer, refuses the credentials, or has another version.
    """
    address = get_current_settings().api.url
    if address is None:
        raise PipelineError("PREFECT_API_URL is not set; `make up` starts a server and prints its address")
    try:
        with get_client(sync_client=True) as client:
            version = client.request("GET", "/admin/version").json()
    except httpx.HTTPStatusError as error:
        fix = "set PREFECT_API_AUTH_STRING" if error.response.status_code == UNAUTHORIZED else "see its log"
        raise PipelineError(f"the Prefect server at {address} refuses: {error.response.status_code}; {fix}") from None
    except httpx.TransportError as error:
        raise PipelineError(
            f"the Prefect server at {address} does not answer: {error}; start it (`make up`)"
        ) from error
    if version != prefect.__version__:
        raise PipelineError(
            f"the Prefect server at {address} is {version}, this clone has {prefect.__version__}; run both from the "
            "same requirements.lock (`make setup`, then `make down` and `make up`)"
        )
    _check_mlflow(os.environ.get("MLFLOW_TRACKING_URI", ""))


def check_machines() -> None:
    """Refuses an environment that asks for several machines: Prefect starts a stage on one.

    Raises:
        PipelineError: it does.
    """
    if (machines := os.environ.get(MACHINES, "")) not in {"", "1"}:
        raise PipelineError(
            f"{MACHINES}={machines}: Prefect starts a stage on one machine and knows no group of machines; unset it, "
            "or run the training by Slurm or Kubernetes (docs/several-gpus.md)"
        )


def _check_mlflow(address: str) -> None:
    if not address.startswith("http"):
        return
    ours = importlib.metadata.version("mlflow")
    with contextlib.suppress(httpx.HTTPError, ValueError):  # the stage that needs MLflow reports such an error
        login = split_login(address)
        auth = (login.user, login.password) if login.user else None
        answer = httpx.get(f"{login.address.rstrip('/')}/version", auth=auth, timeout=MLFLOW_ANSWER_SECONDS)
        if answer.is_success and answer.text != ours:
            raise PipelineError(
                f"the MLflow server at {address} is {answer.text}, this clone has {ours}; run both from the same "
                "requirements.lock"
            )


def check_workers(pools: Iterable[str]) -> None:
    """Waits a little for a worker in each pool.

    Raises:
        PipelineError: pools have none.
    """
    deadline = time.monotonic() + WORKER_PATIENCE_SECONDS
    with get_client(sync_client=True) as client:
        while empty := sorted(pool for pool in pools if not _is_served(client, pool)):
            if time.monotonic() > deadline:
                named = ", ".join(repr(pool) for pool in empty)
                raise PipelineError(
                    f"no worker is online in pool {named}, so nothing was started; start one with "
                    f"`make worker POOL={empty[0]}` (docs/operations.md) and start the run again"
                )
            time.sleep(POLL_SECONDS)


def _is_served(client: SyncPrefectClient, pool: str) -> bool:
    try:
        workers = client.read_workers_for_work_pool(pool)
    except ObjectNotFound as error:
        raise PipelineError(f"there is no work pool {pool!r}; run `make deploy`") from error
    return any(worker.status == WorkerStatus.ONLINE for worker in workers)


def check_queue(pool: str, queue: str) -> None:
    """Refuses a queue that no worker has made: Prefect would make it, and a run in it would wait for ever.

    Raises:
        PipelineError: the pool has no such queue; names those that it has.
    """
    with get_client(sync_client=True) as client:
        try:
            client.read_work_queue_by_name(queue, work_pool_name=pool)
        except ObjectNotFound as error:
            known = ", ".join(sorted(found.name for found in client.read_work_queues(pool))) or "none"
            raise PipelineError(
                f"pool {pool!r} has no queue {queue!r}, so nothing was started; its queues are {known}; a worker makes "
                "the queue of its own name"
            ) from error


def find_notifier(slug: str) -> Callable[[str, str], None]:
    """Gives a function that sends a subject and a body by a notification block; for '' it sends nothing.

    Raises:
        PipelineError: there is no such block.
    """
    if not slug:
        return lambda subject, body: None
    block = _load_notifier(slug)

    def send(subject: str, body: str) -> None:
        try:
            cast(None, block.notify(body, subject))  # a coroutine only in asynchronous code
        except Exception as error:  # the retraining is done, even if its notification fails
            # Without the error's text: a service's address is often its password.
            log.error("the notification by %s was not sent (%s)", slug, type(error).__name__)

    return send


def find_notifier_id(slug: str) -> UUID | None:
    """Gives the id of a notification block, for an automation; None for ''.

    Raises:
        PipelineError: there is no such block.
    """
    return _load_notifier(slug)._block_document_id if slug else None


def _load_notifier(slug: str) -> NotificationBlock:
    try:
        block = Block.load(slug)
    except ValueError as error:
        raise PipelineError(f"notify: there is no block {slug!r}; create it in the UI under Blocks") from error
    if not isinstance(block, NotificationBlock):
        raise PipelineError(
            f"notify: {slug} is a {type(block).__name__}, which sends no notifications; name a block that does, like "
            "slack-webhook/team"
        )
    return block


def rename_run(name: str | None) -> None:
    """Renames this flow run; None leaves its name. A refusal changes nothing else."""
    if name is None or flow_run.id is None:
        return
    with contextlib.suppress(httpx.HTTPError), get_client(sync_client=True) as client:
        client.update_flow_run(UUID(str(flow_run.id)), name=name)


def start_child(
    deployment: str, name: str, parameters: dict[str, Any], queue: str | None, tags: Sequence[str]
) -> FlowRun:
    """Puts a child of this flow run into a pool's queue.

    Raises:
        PipelineError: there is no such deployment.
    """
    try:
        child = run_deployment(
            deployment, parameters=parameters, flow_run_name=name, work_queue_name=queue, tags=tags, timeout=0
        )
        return cast(FlowRun, child)  # a coroutine only in asynchronous code
    except ObjectNotFound as error:
        raise PipelineError(f"no deployment {deployment!r}, or no queue {queue!r}; run `make deploy`") from error


def wait_for(child: FlowRun, pool: str, say: Callable[[str], None]) -> State[Any]:
    """Waits for a child's end as `wait_for_first` does; cancels the child if this flow is ended."""
    with cancelling({child.name: child}):
        return wait_for_first({child.name: child}, pool, say)[1]


def wait_for_first(children: Mapping[str, FlowRun], pool: str, say: Callable[[str], None]) -> tuple[str, State[Any]]:
    """Waits until one of several children in a pool has ended, also while the server is down.

    Returns:
        Its key, and its last state.

    Raises:
        PipelineError: children were not started, because the pool has no worker any more; or one was deleted.
    """
    by_id = {child.id: key for key, child in children.items()}
    with get_client(sync_client=True) as client:
        is_server_there, last_served = True, time.monotonic()
        waiting: list[str] = []
        while True:
            try:
                found = client.read_flow_runs(
                    flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=list(by_id))), limit=len(by_id)
                )
                if not is_server_there:
                    say("the Prefect server is back")
                is_server_there = True
                for run in found:
                    if run.state is not None and run.state.is_final():
                        return by_id[run.id], run.state
                if deleted := by_id.keys() - {run.id for run in found}:
                    raise PipelineError(f"{children[by_id[deleted.pop()]].name} was deleted in Prefect")
                waiting = [
                    children[by_id[run.id]].name for run in found if run.state is not None and run.state.is_scheduled()
                ]
                if not waiting or _is_served(client, pool):
                    last_served = time.monotonic()
            except (httpx.TransportError, httpx.HTTPStatusError) as error:
                if is_server_there:
                    say(redact(f"the Prefect server does not answer ({error}); waiting"))
                is_server_there, last_served = False, time.monotonic()
            if time.monotonic() - last_served > WORKER_PATIENCE_SECONDS:
                raise PipelineError(
                    f"{', '.join(waiting)}: not started, because the last worker of "
                    f"pool {pool!r} has ended; start one with `make worker POOL={pool}`, and start the run again"
                )
            time.sleep(POLL_SECONDS)


@contextlib.contextmanager
def cancelling(children: Mapping[str, FlowRun]) -> Iterator[None]:
    """Cancels the children that a mapping holds at the end if the body does not finish."""
    try:
        yield
    except BaseException:
        # Without the server they continue: their workers or the heartbeats report their end.
        with contextlib.suppress(httpx.TransportError), get_client(sync_client=True) as client:
            for child in children.values():
                with contextlib.suppress(httpx.HTTPStatusError, ObjectNotFound):
                    client.set_flow_run_state(child.id, Cancelling(message="the run that started it was ended"))
        raise
