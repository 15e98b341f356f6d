"""The flows `retrain` (a revision to a registered model) and `stage` (one of its stages).

DVC decides which stages are stale; a flow decides only where they run. A retraining lets DVC bring everything up to
date from its cache alone. If DVC would have to run a stage, a worker runs that stage, and then DVC is called again.
"""

import contextlib
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, cast

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from pipelines import champions, placement, summary
from pipelines.errors import PipelineError
from pipelines.graph import Stage, ancestors_of, read_stages
from pipelines.names import by_parameters, with_commit
from pipelines.workspace import (
    CURRENT,
    HOME,
    Revision,
    Workspace,
    check_branch,
    commit_lock,
    find_revision,
    identity,
    open_workspace,
)
from segpipe.documents import Publication
from segpipe.errors import CommandError
from segpipe.parent_death import die_with_parent
from segpipe.places import RECIPES
from segpipe.process import run
from segpipe.stages.dvc_locks import repair_locks

NUM_CRASHES_FORGIVEN = 2
RETRY_DELAY_SECONDS = 10.0
PROGRESS_SECONDS = 5.0
CACHED, UP_TO_DATE = "Cached", "up to date, or restored from a cache"
REFUSED = re.compile(r"^would have to run: (\S+)$", re.MULTILINE)
# The recipes in the form, as they were when the flow was deployed; other revisions may have others.
RECIPE_NAMES = ["", *sorted(path.stem for path in (HOME / RECIPES).glob("*.yaml"))]
EPOCH = re.compile(r"\bepoch (\d+)/(\d+)\b")


@flow(name="retrain", flow_run_name=by_parameters("retrain", "revision", "recipe"), persist_result=False)
def retrain(
    revision: Annotated[str, Field(min_length=1)] = CURRENT,
    recipe: Annotated[str, Field(json_schema_extra={"enum": [*RECIPE_NAMES]})] = "",
    force: bool = False,
    commit_to: str = "",
    gpu_queue: str = "",
    notify: str = "",
) -> State[Any]:
    """Runs the stages that are stale, registers the model, and promotes it if it is better.

    Args:
        revision: A branch, tag or commit; it gets a clone of its own. 'current' is the clone in which the services
            were started, as it is, with labels that are not committed yet.
        recipe: Name of a file in recipes/, without .yaml, that replaces params.yaml. Empty: params.yaml.
        force: Run every stage again, even if nothing has changed; only with workers of this clone.
        commit_to: A branch that gets dvc.lock, metrics.json and a recipe's params.yaml on top of the revision.
            Empty: no commit.
        gpu_queue: The queue of one GPU worker (its name in the work pool 'gpu'). Empty: any free worker.
        notify: A notification block, like slack-webhook/team, that sends the outcome. Empty: no notification.
    """
    die_with_parent()
    log = get_run_logger()
    send = placement.find_notifier(notify)
    try:
        outcome = _retrain(revision, recipe or None, force, commit_to or None, gpu_queue or None, log.info)
    except Exception as error:
        send(f"Retraining of {revision} failed", str(error))
        raise
    log.info(outcome.headline)
    send(f"Retraining of {revision}: {outcome.headline}", outcome.markdown)
    return Completed(message=outcome.headline)


def _retrain(
    revision: str,
    recipe: str | None,
    force: bool,
    commit_to: str | None,
    gpu_queue: str | None,
    say: Callable[[str], None],
) -> summary.Outcome:
    placement.check_server()
    if gpu_queue:
        placement.check_queue("gpu", gpu_queue)
    asked = _find(revision, recipe, commit_to)
    workspace = open_workspace(asked, say)
    with workspace.alone(say):
        if asked.is_here:  # the user may have changed this clone while another retraining ran in it
            asked = _find(revision, recipe, commit_to)
        stages = read_stages(workspace.root)
        for line in repair_locks(workspace.root):
            say(line)
        executed = _bring_up_to_date(workspace, asked, stages, force, gpu_queue, say)
        if not executed:
            say("nothing is stale: no stage was run")
        publication = _publish(workspace, say)
        _tell(publication, "register" in executed, say)
        commit = commit_lock(workspace.root, asked, commit_to) if commit_to else None
    outcome = summary.summarize(publication, asked, executed, commit)
    summary.create_artifacts(outcome)
    return outcome


def _find(revision: str, recipe: str | None, commit_to: str | None) -> Revision:
    """Finds the revision, names this run by it, and checks that its results can be committed."""
    asked = find_revision(revision, recipe)
    placement.rename_run(with_commit("retrain", asked))
    if commit_to:
        check_branch(asked, commit_to)
    return asked


def _bring_up_to_date(
    workspace: Workspace,
    revision: Revision,
    stages: dict[str, Stage],
    force: bool,
    gpu_queue: str | None,
    say: Callable[[str], None],
) -> list[str]:
    """Runs the stale stages on workers, each as a task that waits for those before it; gives their names, in order.

    A stage that is up to date, or comes from a cache, is a task in state `Cached`.
    """
    executed: list[str] = []
    tasks: dict[str, State[Any]] = {}
    to_force = list(stages) if force else []
    while True:
        stale = to_force.pop(0) if to_force else restore(workspace, say)
        # What a stale stage depends on is up to date, or DVC would have named that.
        ready = ancestors_of(stages, stale) if stale in stages else set(stages)
        for name in [name for name in stages if name in ready - tasks.keys()]:
            tasks[name] = _as_task(stages[name], tasks, lambda: Completed(name=CACHED, message=UP_TO_DATE))
        if stale is None:
            return executed
        if stale in executed:
            raise PipelineError(why_stale_again(stale, workspace.root, str(tasks[stale].message)))

        def run_stage(stale: str = stale) -> State[Any]:
            done, remaining = _split_at(stages, stale)
            placement.check_workers({stage.pool for stage in remaining})
            if not executed:
                _push(workspace, [stage.name for stage in done], say)  # the worker's clone may need these outs
            return Completed(message=_run_on_worker(stages[stale], revision, force, gpu_queue, say))

        try:
            tasks[stale] = _as_task(stages[stale], tasks, run_stage)
        except (PipelineError, CommandError):
            # DVC has removed the stage's old outs; they are restored from the cache, if there were any.
            with contextlib.suppress(CommandError):
                call(workspace, ["dvc", "checkout", "--quiet", stale], "", say, "dvc checkout")
            raise
        executed.append(stale)


def why_stale_again(stage: str, root: Path, said: str) -> str:
    """Says why a stage is stale although this retraining has run it.

    Args:
        stage: its name.
        root: the clone of the retraining.
        said: by the stage's run.
    """
    if said == _done_in(root):
        return (
            f"{stage} was run in {root}, and is stale again: the files that it depends on were changed meanwhile; "
            "start the retraining again"
        )
    return (
        f"{stage} was run, but its results are not in {root}: its worker has another clone, and the two have no common "
        "DVC remote; set one (`dvc remote add --default NAME URL`) on both machines, or start the worker here"
    )


def _done_in(root: Path) -> str:
    return f"done in {root} on {os.uname().nodename}"


def _as_task(stage: Stage, before: Mapping[str, State[Any]], work: Callable[[], State[Any]]) -> State[Any]:
    """Does a stage's work as a task of Prefect, so that the graph of the run shows it behind those that it waits for.

    Raises:
        Exception: the work's own.
    """
    as_task = task(name=stage.name, task_run_name=stage.name, cache_policy=NO_CACHE, persist_result=False)
    made: Callable[..., Any] = as_task(work)
    state = cast(State[Any], made(wait_for=[before[name] for name in stage.after if name in before], return_state=True))
    if state.is_failed():
        state.result()
    return state


def _split_at(stages: dict[str, Stage], name: str) -> tuple[list[Stage], list[Stage]]:
    ordered, index = list(stages.values()), list(stages).index(name)
    return ordered[:index], ordered[index:]


def _push(workspace: Workspace, names: list[str], say: Callable[[str], None]) -> None:
    """Pushes results and the run-cache to the DVC remote, if there is one."""
    if workspace.remote and names:
        call(workspace, ["dvc", "push", "--run-cache", *names], "", say, f"dvc push to remote {workspace.remote!r}")


def restore(workspace: Workspace, say: Callable[[str], None]) -> str | None:
    """Lets DVC bring everything up to date from its cache, its run-cache and its remote, without running a stage.

    Returns:
        The first stage that would have to be run; None where everything is up to date.

    Raises:
        CommandError: DVC failed for another reason.
    """
    lines: list[str] = []
    command = ["dvc", "--wait-for-lock", "repro", *(["--pull"] if workspace.remote else [])]
    try:
        call(workspace, command, "", lines.append, "dvc repro")
    except CommandError:
        refused = REFUSED.search("\n".join(lines))
        if refused is None:
            raise
        return refused.group(1)
    finally:
        for line in lines:
            if "is cached - skipping run" in line:
                say(line)
    return None


def _run_on_worker(
    stage: Stage, revision: Revision, force: bool, gpu_queue: str | None, say: Callable[[str], None]
) -> str:
    """Runs a stage as a flow run on its pool, again where that is worth it; gives what the last one said."""
    num_crashes = num_failures = 0
    while True:
        attempt = num_crashes + num_failures + 1
        parameters = {
            "stage": stage.name,
            "revision": asdict(revision),
            "force": force,
            "timeout_hours": stage.timeout_hours,
            "controller": identity(),
        }
        name = f"{stage.name} {revision.label} attempt {attempt}"
        queue = gpu_queue if stage.pool == "gpu" else None
        child = placement.start_child(f"stage/{stage.pool}", name, parameters, queue, [stage.name])
        say(f"{stage.name} is not up to date; flow run {name!r} in pool {stage.pool!r}")
        state = placement.wait_for(child, stage.pool, say)
        if state.is_completed():
            say(f"{stage.name}: {state.message}")
            return str(state.message)
        num_crashes += state.is_crashed()
        num_failures += state.is_failed()
        is_hopeless = num_failures > stage.retries or num_crashes > NUM_CRASHES_FORGIVEN
        if is_hopeless or not (state.is_crashed() or state.is_failed()):
            raise PipelineError(f"{name}: {state.type.value.lower()}. {state.message or ''}".strip())
        say(f"{name}: {state.type.value.lower()}; trying again in {RETRY_DELAY_SECONDS:g} s")
        time.sleep(RETRY_DELAY_SECONDS)


@flow(name="stage", persist_result=False)
def stage(stage: str, revision: dict[str, Any], force: bool, timeout_hours: float, controller: str) -> State[Any]:
    """Runs one stage on this worker's machine; started by `retrain`.

    Args:
        stage: Name of a stage in dvc.yaml.
        revision: The revision to train.
        force: Run it even if nothing has changed.
        timeout_hours: After so long it is stopped.
        controller: The clone of the retraining.
    """
    die_with_parent()
    log = get_run_logger()
    placement.check_machines()
    placement.check_server()
    asked = Revision(**{**revision, "changes": tuple(revision["changes"])})
    is_elsewhere = controller != identity()
    if is_elsewhere:
        if force:
            raise PipelineError(f"force needs a worker of the same clone: start one in {controller}")
        if asked.changes:
            raise PipelineError(
                f"{', '.join(asked.changes)} are not committed in {controller}, and this worker has another clone; "
                f"commit and push them, or start a worker in {controller}"
            )
        asked = Revision(asked.sha, asked.sha, asked.recipe)
    workspace = open_workspace(asked, log.info)
    command = ["dvc", "--wait-for-lock", "repro", *(["--pull"] if workspace.remote else [])]
    command += ["--force", "--single-item"] if force else []
    report = _Progress(f"{stage} of {asked.label}", log.info)
    # The controller holds the lock on its own clone.
    with workspace.alone(log.info) if is_elsewhere else contextlib.nullcontext():
        for line in repair_locks(workspace.root):  # a worker may have been killed
            log.info(line)
        call(workspace, [*command, stage], stage, report, f"dvc repro {stage}", timeout_hours * 3600)
        _push(workspace, [stage], log.info)
    return Completed(message=_done_in(workspace.root))


class _Progress:
    """Logs lines, and updates a progress artifact from lines about epochs."""

    def __init__(self, title: str, say: Callable[[str], None]) -> None:
        self.title, self.say = title, say
        self.artifact: Any = None
        self.next_time = 0.0

    def __call__(self, line: str) -> None:
        self.say(line)
        found = EPOCH.search(line)
        if found is None or (time.monotonic() < self.next_time and found.group(1) != found.group(2)):
            return
        self.next_time = time.monotonic() + PROGRESS_SECONDS
        share = 100 * int(found.group(1)) / int(found.group(2))
        try:
            if self.artifact is None:
                self.artifact = create_progress_artifact(share, description=self.title)
            else:
                update_progress_artifact(self.artifact, share)
        except Exception as error:  # the training does not depend on the server
            self.say(f"the progress could not be shown: {error}")


def call(
    workspace: Workspace,
    command: list[str],
    allowed_stage: str,
    on_line: Callable[[str], None],
    what: str,
    timeout_seconds: float | None = None,
) -> None:
    """Runs a program of the workspace's environment in the workspace.

    Raises:
        CommandError: it ended with an error.
    """
    program = str(workspace.bin / command[0])
    env = workspace.environment(allowed_stage)
    where = workspace.root
    run([program, *command[1:]], cwd=where, env=env, on_line=on_line, what=what, timeout_seconds=timeout_seconds)


def _tell(publication: Publication, is_new: bool, say: Callable[[str], None]) -> None:
    try:
        champions.tell_if_moved(publication, is_new)
    except Exception as error:  # the model is registered, whatever Prefect says to the event
        say(f"the change of the champion was not told: {error}")


def _publish(workspace: Workspace, say: Callable[[str], None]) -> Publication:
    """Publishes the results in `build/` to MLflow, also if every stage came from a cache."""
    printed: list[str] = []

    def read(line: str) -> None:  # both streams come together
        if line.startswith("{"):
            printed.append(line)
        else:
            say(line)

    call(workspace, ["segpipe", "publish", "--json"], "", read, "segpipe publish")
    return Publication.parse("".join(printed[:1]), "segpipe publish --json", "see the lines above")
