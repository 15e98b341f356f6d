"""Watches for new labels: a pushed revision with another `data.dvc`, or a source whose content has changed."""

import contextlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from filelock import FileLock, Timeout
from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.states import Completed
from prefect.variables import Variable

from pipelines.flows import call
from pipelines.workspace import CURRENT, HOME, find_revision, open_workspace
from segpipe.errors import CommandError
from segpipe.parent_death import die_with_parent
from segpipe.places import LOCKS
from segpipe.project import FETCH_SECONDS, git

DATA_CHANGED = "segpipe.data.changed"
# The Prefect variable with the state that was seen last. If it is lost, one retraining more or less is started.
SEEN = "segpipe_data_seen"
WATCH_LOCK = LOCKS / "watch.lock"


@flow(name="watch", persist_result=False)
def watch(branch: str = "main") -> State[Any]:
    """Watches for new labels and emits the event that starts a retraining.

    Args:
        branch: The branch at the clone's origin whose data.dvc is watched.
    """
    die_with_parent()
    log = get_run_logger()
    changes = _tell_changes(branch, log.info)
    return Completed(message="; ".join(what for *_, what in changes) or "nothing new")


def _tell_changes(branch: str, say: Callable[[str], None]) -> list[tuple[str, str, str]]:
    """Emits an event for all that has changed since the last look.

    One look at a time in this clone: two would find the same change, and start two retrainings. The other finds
    nothing, and what it would have found is found by the next.

    Returns:
        Where something has changed, the revision to train, and what has changed.
    """
    (HOME / LOCKS).mkdir(exist_ok=True)
    try:
        with FileLock(HOME / WATCH_LOCK, timeout=0):
            seen: dict[str, str] = dict(Variable.get(SEEN, default={}) or {})
            now = {"pushed": _pushed(branch), "source": _source(say)}
            changes = _compare(seen, now, branch)
            for name, revision, what in changes:
                say(f"{name}: {what}")
                resource = {"prefect.resource.id": f"segpipe.data.{name}", "prefect.resource.name": name}
                emit_event(DATA_CHANGED, resource=resource, payload={"revision": revision, "what": what})
            known = now["pushed"] or seen.get("pushed")  # the origin may be out of reach for a while
            # Last: a look that is killed before is made again, while a change that is known would never be told.
            Variable.set(SEEN, {**now, "pushed": known}, overwrite=True)
            return changes
    except Timeout:
        say("another look is under way in this clone")
        return []


def _compare(seen: Mapping[str, str], now: Mapping[str, str], branch: str) -> list[tuple[str, str, str]]:
    changes = []
    if now["pushed"] and seen.get("pushed") not in (None, now["pushed"]):
        changes.append((f"origin/{branch}", now["pushed"].partition(" ")[0], "a new data.dvc was pushed"))
    if now["source"] and seen.get("source") != now["source"]:
        changes.append((CURRENT, CURRENT, f"the source has changed: {now['source']}"))
    return changes


def _pushed(branch: str) -> str:
    """Gives the commit and the content of `data.dvc` at the origin; '' where there is no such file or no answer."""
    with contextlib.suppress(CommandError):
        git(HOME, "fetch", "--quiet", "origin", timeout_seconds=FETCH_SECONDS)
        blob = git(HOME, "rev-parse", "--verify", "--quiet", f"refs/remotes/origin/{branch}:data.dvc")
        commit = git(HOME, "log", "-1", "--format=%H", f"refs/remotes/origin/{branch}", "--", "data.dvc")
        return f"{commit} {blob}"
    return ""


def _source(say: Callable[[str], None]) -> str:
    """Gives the inputs of the download stage that have changed, as DVC reports them; '' for none."""
    lines: list[str] = []
    workspace = open_workspace(find_revision(CURRENT, None), say)
    call(workspace, ["dvc", "--wait-for-lock", "status", "--json", "download"], "", lines.append, "dvc status")
    document: dict[str, Any] = next((json.loads(line) for line in lines if line.startswith("{")), {})
    deps = [change.get("changed deps", {}) for change in document.get("download", []) if isinstance(change, dict)]
    files = {name: what for changes in deps for name, what in changes.items() if not name.startswith("src/")}
    return ", ".join(f"{name} {what}" for name, what in sorted(files.items()))
