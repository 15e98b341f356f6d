"""Is the database locked for whoever looks on? Retrainings one after the other, while several browsers poll both UIs.

Needs the services of this clone (`make up`, then its `export` lines) and a clean commit. Each browser repeats, without
a pause between its requests and without trying again, what the pages of Prefect and MLflow ask for: deployments, flow
runs, task runs, logs, events, artifacts, workers, experiments, runs, histories, models. A retraining is `force` of
`recipes/smoke.yaml`, six stages. Prints the answers by status, and what the servers' log says of locks.
"""

import argparse
import collections
import itertools
import os
import statistics
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any, cast

import httpx
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment

from pipelines.services import LOG
from pipelines.workspace import find_revision

RECIPE = "smoke"
PAUSE_SECONDS = 0.05
NEWEST = {"sort": "START_TIME_DESC", "limit": 50}
SCHEDULED = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}, "limit": 50}
PREFECT: tuple[tuple[str, dict[str, Any] | None], ...] = (
    ("/flow_runs/filter", NEWEST),
    ("/flow_runs/filter", SCHEDULED),
    ("/flow_runs/count", {}),
    ("/task_runs/filter", {"limit": 50}),
    ("/task_runs/count", {}),
    ("/logs/filter", {"sort": "TIMESTAMP_DESC", "limit": 200}),
    ("/deployments/filter", {"limit": 50}),
    ("/flows/filter", {"limit": 50}),
    ("/artifacts/latest/filter", {"limit": 50}),
    ("/work_pools/filter", {}),
    ("/work_pools/gpu/workers/filter", {}),
    ("/work_pools/gpu/queues/filter", {}),
    ("/automations/filter", {}),
    ("/events/filter", {"limit": 50}),
    ("/variables/filter", {}),
    ("/health", None),
)
MLFLOW: tuple[tuple[str, dict[str, Any] | None], ...] = (
    ("/experiments/search?max_results=100", None),
    ("/registered-models/search?max_results=100", None),
    ("/model-versions/search?max_results=100", None),
    ("/runs/search", {"experiment_ids": [], "max_results": 100, "order_by": ["attributes.start_time DESC"]}),
)


@dataclass
class Tally:
    """What the browsers were answered.

    Attributes:
        answers: how often each status came, or the name of an error without an answer, by server.
        seconds: of each request, by server.
        failures: how often each path was answered other than well.
    """

    answers: dict[str, "collections.Counter[str]"] = field(
        default_factory=lambda: collections.defaultdict(collections.Counter)
    )
    seconds: dict[str, list[float]] = field(default_factory=lambda: collections.defaultdict(list))
    failures: "collections.Counter[str]" = field(default_factory=collections.Counter)


def poll(
    server: str, base: str, pages: tuple[tuple[str, dict[str, Any] | None], ...], end: float, tally: Tally
) -> None:
    """Is one browser with one UI open, until `end`."""
    login = os.environ.get("PREFECT_API_AUTH_STRING", "") if server == "Prefect" else ""
    auth = tuple(login.split(":", 1)) if login else None
    with httpx.Client(base_url=base, auth=cast(Any, auth), trust_env=False, timeout=120) as client:
        experiments: list[str] = []
        for path, body in itertools.cycle(pages):
            if time.monotonic() > end:
                return
            sent = {**body, "experiment_ids": experiments} if body and "experiment_ids" in body else body
            begin = time.monotonic()
            try:
                response = client.get(path) if sent is None else client.post(path, json=sent)
                answer = str(response.status_code)
                if path.startswith("/experiments/search") and response.is_success:
                    experiments = [one["experiment_id"] for one in response.json()["experiments"]]
            except httpx.HTTPError as error:
                answer = type(error).__name__
            tally.seconds[server].append(time.monotonic() - begin)
            tally.answers[server][answer] += 1
            if not answer.startswith("2"):
                tally.failures[f"{server} {answer} {path}"] += 1
            time.sleep(PAUSE_SECONDS)


def retrain_until(end: float, recipe: str) -> list[str]:
    """Gives how each retraining ended."""
    states = []
    parameters = {"revision": find_revision("current", None).sha, "recipe": recipe, "force": True}
    while time.monotonic() < end:
        run = cast(FlowRun, run_deployment("retrain/on-demand", parameters=parameters, poll_interval=1))
        states.append(run.state.type.value if run.state else "none")
    return states


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--browsers", type=int, default=3, help="with both UIs open each")
    options = parser.parse_args()
    prefect, mlflow = os.environ.get("PREFECT_API_URL"), os.environ.get("MLFLOW_TRACKING_URI")
    if not prefect or not mlflow:
        sys.exit("set PREFECT_API_URL and MLFLOW_TRACKING_URI to what `make up` printed")
    tally, end, offset = Tally(), time.monotonic() + options.minutes * 60, LOG.stat().st_size
    targets = (("Prefect", prefect, PREFECT), ("MLflow", f"{mlflow}/ajax-api/2.0/mlflow", MLFLOW))
    browsers = [
        threading.Thread(target=poll, args=(*target, end, tally)) for target in targets for _ in range(options.browsers)
    ]
    for browser in browsers:
        browser.start()
    states = retrain_until(end, RECIPE)
    for browser in browsers:
        browser.join()
    print(f"{len(states)} retrainings: {dict(collections.Counter(states))}")
    for server, answers in sorted(tally.answers.items()):
        seconds = sorted(tally.seconds[server])
        late = seconds[int(len(seconds) * 0.99)]
        median = statistics.median(seconds)
        print(f"{server}: {dict(answers)}; median {median:.3f} s, 99 % {late:.2f} s, slowest {seconds[-1]:.2f} s")
    for failure, number in tally.failures.most_common():
        print(f"  {number} x {failure}")
    with LOG.open("rb") as log:
        log.seek(offset)
        print(f"'database is locked' in the log: {log.read().count(b'database is locked')} lines")


if __name__ == "__main__":
    main()
