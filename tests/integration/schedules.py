"""What a user does who leaves the work to schedules: switches them on, pushes a label from another clone, waits."""

from pathlib import Path
from typing import Any

from integration.project import Project, add_sample, with_environment
from integration.services import Run, Services

BRANCH = "main"
SECONDS = 20  # between two fires; on a busy machine a run takes ten


def every(seconds: int) -> dict[str, Any]:
    """What the pencil next to a schedule's switch sends."""
    return {"schedule": {"interval": seconds, "timezone": "UTC"}}


def add_origin(project: Project, origin: Path) -> None:
    """Gives a project an origin, with the branch that `watch` looks at."""
    project.call("git", "init", "--quiet", "--bare", "--initial-branch", BRANCH, str(origin))
    project.call("git", "remote", "add", "origin", str(origin))
    project.call("git", "push", "--quiet", "origin", f"HEAD:{BRANCH}")


def push_label(project: Project, clone: Path, sample_id: str) -> str:
    """Commits a new label in another clone of the project's origin, and pushes it; gives the commit."""
    origin = project.call("git", "remote", "get-url", "origin").strip()
    project.call("git", "clone", "--quiet", origin, str(clone))
    labeller = with_environment(clone)
    add_sample(clone / "data", sample_id)
    labeller.call("dvc", "commit", "--quiet", "--force", "data.dvc")
    labeller.call("git", "add", "--all")
    labeller.call("git", "commit", "--quiet", "--message", f"A label for {sample_id}")
    labeller.call("git", "push", "--quiet", "origin", f"HEAD:{BRANCH}")
    return labeller.call("git", "rev-parse", "HEAD").strip()


def let_nightly_fire(services: Services) -> Run:
    """Switches the nightly retraining on, to fire soon; gives the run that the schedule has started, at its end."""
    before = services.retrainings("nightly")
    services.switch("retrain/nightly", True, **every(SECONDS))
    try:
        run_id, *_ = services.wait_for_new_retrainings(before, "nightly")  # on a busy machine two begin at once
    finally:
        services.switch("retrain/nightly", False)  # before it fires again
    return services.wait_for(run_id)


def let_watch_start(services: Services, before: set[str]) -> str:
    """Switches the watch on, to look soon, until it has started a retraining; gives the retraining's id."""
    services.switch("watch/every-5-minutes", True, **every(SECONDS))
    try:
        (run_id,) = services.wait_for_new_retrainings(before)
        return run_id
    finally:
        services.switch("watch/every-5-minutes", False)  # each look costs seconds of this machine


def watch_once(services: Services) -> str:
    """Starts `watch` by hand; gives what it has found."""
    run = services.wait_for(services.start("watch/every-5-minutes"))
    assert run.state == "COMPLETED", run.message
    return run.message
