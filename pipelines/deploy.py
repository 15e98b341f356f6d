"""Creates segpipe's work pools, deployments, schedules and automations on the Prefect server; may be repeated.

A user's settings in the UI stay: a schedule that is switched on, its times, an automation that is switched off.
"""

import argparse
import sys
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

from prefect.automations import Automation
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import StateType
from prefect.deployments.runner import RunnerDeployment
from prefect.events.actions import ChangeFlowRunState, RunDeployment, SendNotification
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound
from prefect.flows import Flow
from prefect.schedules import Cron, Schedule
from prefect.types.entrypoint import EntrypointType
from prefect.workers.process import ProcessWorker

from pipelines import champions, flows, placement, predicting, watch
from pipelines.graph import POOLS
from segpipe.stages.stage import report_errors

CONTROL = "control"
# Only the engine's process: by default Prefect first starts another one for the working directory, which takes seconds.
COMMAND = "python -m prefect.engine"
NIGHTLY = Cron("0 2 * * *", timezone="UTC", active=False)
OFTEN = Cron("*/5 * * * *", timezone="UTC", active=False)
TAG = "segpipe"
# The UI can filter deployments and runs by a tag that they have, but not by one that they lack.
FOR_USERS, INTERNAL = "user", "internal"
NOT_FOR_USERS = (flows.stage, predicting.shard)
HEARTBEAT_SECONDS = 30
HEARTBEATS_MISSED = timedelta(seconds=3 * HEARTBEAT_SECONDS)

DESCRIPTIONS = {
    CONTROL: "Retrainings and predictions themselves: they wait for the runs that they start, and compute nothing.",
    "cpu": "Stages without a GPU, and predictions.",
    "gpu": "Training. One worker for each GPU; one worker on a machine without a GPU.",
}


def main() -> None:
    """Creates everything that this clone needs on the server that PREFECT_API_URL names."""
    parser = argparse.ArgumentParser(prog="deploy", description="Work pools, deployments, schedules and automations.")
    parser.add_argument("--wait", nargs="+", default=[], metavar="POOL", help="wait until these have a worker")
    parser.add_argument("--notify", default="", metavar="BLOCK", help="send outcomes by this block: slack-webhook/team")
    options = parser.parse_args()
    placement.check_server()
    block_id = placement.find_notifier_id(options.notify)
    with get_client(sync_client=True) as client:
        for pool, description in DESCRIPTIONS.items():
            _ensure_pool(client, pool, description)
        on_demand = _deploy(client, flows.retrain, "on-demand", CONTROL)
        _deploy(client, flows.retrain, "nightly", CONTROL, NIGHTLY)
        _deploy(client, watch.watch, "every-5-minutes", CONTROL, OFTEN)
        _deploy(client, predicting.predict, "on-demand", CONTROL)
        for pool in POOLS:
            _deploy(client, flows.stage, pool, pool)
            _deploy(client, predicting.shard, pool, pool)
    _ensure_automation(_crash_zombies())
    _ensure_automation(_retrain_on_new_data(on_demand))
    if block_id is not None:
        for automation in (_tell_of_champion(block_id), _tell_of_failure(block_id)):
            _ensure_automation(automation)
    placement.check_workers(options.wait)


def _ensure_pool(client: SyncPrefectClient, name: str, description: str) -> None:
    try:
        client.read_work_pool(name)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        pool = WorkPoolCreate(name=name, description=description, type="process", base_job_template=template)
        client.create_work_pool(pool)


def _deploy(
    client: SyncPrefectClient, flow: Flow[..., Any], name: str, pool: str, schedule: Schedule | None = None
) -> Any:
    """Gives the deployment's id."""
    try:
        client.read_deployment_by_name(f"{flow.name}/{name}")
        is_new = False
    except ObjectNotFound:
        is_new = True
    made = flow.to_deployment(
        name,
        description=(flow.description or "").partition("Args:")[0].strip(),
        schedule=schedule if is_new else None,
        tags=[TAG, pool, INTERNAL if flow in NOT_FOR_USERS else FOR_USERS],
        work_pool_name=pool,
        # The form offers this clone's recipes, but another revision may have others.
        enforce_parameter_schema=flow is not flows.retrain,
        # The log goes to the server: with the worker's console, a flow could not report its end if the worker dies.
        # The heartbeat is set here, so that a worker's environment cannot change it.
        job_variables={
            "command": COMMAND,
            "stream_output": False,
            "env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS)},
        },
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    deployment = cast(RunnerDeployment, made)  # a coroutine only in asynchronous code
    if not is_new:
        deployment.model_fields_set.difference_update({"schedules", "paused"})  # or they would be set again
    return deployment.apply()


def _crash_zombies() -> Automation:
    """Marks a run without heartbeats as crashed: Prefect's own server does not do it.

    Only runs of our deployments, by their tag: those of other projects may have slower heartbeats.
    """
    states = ("Completed", "Failed", "Cancelled", "Crashed")
    return Automation(
        name="segpipe: silent runs have crashed",
        description=f"No heartbeat of a running flow in {HEARTBEATS_MISSED.seconds} s.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat", *(f"prefect.flow-run.{state}" for state in states)},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            match_related=ResourceSpecification(
                {"prefect.resource.id": [f"prefect.tag.{TAG}"], "prefect.resource.role": ["tag"]}
            ),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=HEARTBEATS_MISSED,
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message="no heartbeat: its machine or process is gone")],
    )


def _on(event: str) -> EventTrigger:
    return EventTrigger(expect={event}, posture=Posture.Reactive, threshold=1, within=timedelta(seconds=0))


def _retrain_on_new_data(deployment_id: Any) -> Automation:
    return Automation(
        name="segpipe: retrain on new data",
        description="A new revision of the labels was pushed, or a watched source has changed.",
        trigger=_on(watch.DATA_CHANGED),
        actions=[
            RunDeployment(
                source="selected",
                deployment_id=deployment_id,
                parameters={
                    "revision": {"__prefect_kind": "jinja", "template": "{{ event.payload.revision }}"},
                },
            )
        ],
    )


def _tell_of_champion(block_id: UUID) -> Automation:
    return Automation(
        name="segpipe: tell of a new champion",
        description="A retraining found another champion.",
        trigger=_on(champions.CHAMPION_MOVED),
        actions=[
            SendNotification(
                block_document_id=block_id,
                subject="{{ event.payload.model_name }}: version {{ event.payload.champion }} is the champion",
                body=(
                    "Before: {{ event.payload.champion_before or 'none' }}. {{ event.payload.reasons }} "
                    "{{ event.payload.page }}"
                ),
            )
        ],
    )


def _tell_of_failure(block_id: UUID) -> Automation:
    """Sends a message when a retraining or another of a user's flows has failed; its stages are not told twice."""
    return Automation(
        name="segpipe: tell of a failed run",
        description="A retraining, prediction or watch has failed or crashed.",
        trigger=EventTrigger(
            expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed"},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            match_related=ResourceSpecification(
                {"prefect.resource.id": [f"prefect.tag.{FOR_USERS}"], "prefect.resource.role": ["tag"]}
            ),
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(seconds=0),
        ),
        actions=[
            SendNotification(
                block_document_id=block_id,
                subject="{{ flow_run.name }}: {{ flow_run.state.name }}",
                body="{{ flow_run.state.message }}\n{{ flow_run|ui_url }}",
            )
        ],
    )


def _ensure_automation(wanted: Automation) -> None:
    try:
        found = cast(Automation, Automation.read(name=wanted.name))  # a coroutine only in asynchronous code
    except ValueError:
        wanted.create()
        return
    wanted.id, wanted.enabled = found.id, found.enabled
    wanted.update()


if __name__ == "__main__":
    sys.exit(report_errors(main))
