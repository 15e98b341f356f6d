"""Which runs the automation on silent runs listens to, asked of Prefect's own matching of events."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from prefect.server.events.schemas.automations import EventTrigger
from prefect.server.events.schemas.events import ReceivedEvent, RelatedResource, Resource

from pipelines import champions, deploy


def event(name: str, tags: list[str]) -> ReceivedEvent:
    """An event of a flow run as Prefect sends it: the run's tags are related resources."""
    related = [{"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"} for tag in tags]
    deployment = {"prefect.resource.id": "prefect.deployment.segpipe", "prefect.resource.role": "deployment"}
    return ReceivedEvent(
        occurred=datetime.now(UTC),
        event=f"prefect.flow-run.{name}",
        resource=Resource({"prefect.resource.id": f"prefect.flow-run.{uuid4()}"}),
        related=[RelatedResource(one) for one in [deployment, *related]],
        id=uuid4(),
    )


@pytest.mark.parametrize("name", ["heartbeat", "Completed", "Failed", "Cancelled", "Crashed"])
def test_it_listens_to_runs_with_our_tag_alone(name: str) -> None:
    trigger = EventTrigger.model_validate(deploy._crash_zombies().trigger.model_dump())
    assert trigger.covers(event(name, ["control", deploy.TAG]))
    assert trigger.covers(event(name, [deploy.TAG, "gpu", "train", "auto-scheduled"]))
    assert not trigger.covers(event(name, []))
    assert not trigger.covers(event(name, ["control", f"not-{deploy.TAG}"]))


def test_a_run_may_miss_two_heartbeats() -> None:
    assert deploy.HEARTBEATS_MISSED.total_seconds() >= 3 * deploy.HEARTBEAT_SECONDS


def test_failures_are_told_of_runs_that_people_start_and_of_no_other() -> None:
    trigger = EventTrigger.model_validate(deploy._tell_of_failure(uuid4()).trigger.model_dump())
    assert trigger.covers(event("Failed", [deploy.TAG, deploy.FOR_USERS]))
    assert not trigger.covers(event("Failed", [deploy.TAG, deploy.INTERNAL]))


def test_a_moved_champion_is_told_by_the_event_that_a_retraining_emits() -> None:
    automation = deploy._tell_of_champion(uuid4())
    trigger = EventTrigger.model_validate(automation.trigger.model_dump())
    moved = event("Completed", []).model_copy(update={"event": champions.CHAMPION_MOVED})
    assert trigger.covers(moved) and trigger.expects(moved.event)
    assert not trigger.expects("segpipe.data.changed")
