"""Tests that no database is locked for users of the UIs: runs retrainings while browsers request the UIs' pages.

Needs the services of this clone (`make up`, then `. pipelines/login.sh` in this shell) and a clean commit. Each browser
repeats the requests of the pages of Prefect and MLflow, with a pause of 0.05 s and without retries, and sometimes saves
a variable. A retraining is `force` of `recipes/smoke.yaml`, six stages. Prints the answers by their status, and the
messages about locks in the servers' log.
"""

import argparse
import collections
import itertools
import json
import os
import statistics
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import httpx
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment

from pipelines.services import ADDRESSES, LOG
from pipelines.workspace import find_revision

RECIPE = "smoke"
PAUSE_SECONDS = 0.05
Page = tuple[str, str, dict[str, Any] | None]

SCHEDULED = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}, "limit": 50}
PREFECT: tuple[Page, ...] = (
    ("POST", "/flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 50}),
    ("POST", "/flow_runs/filter", SCHEDULED),
    ("POST", "/flow_runs/paginate", {"limit": 20}),
    ("POST", "/flow_runs/count", {}),
    ("POST", "/task_runs/filter", {"limit": 50}),
    ("POST", "/task_runs/count", {}),
    ("POST", "/logs/filter", {"sort": "TIMESTAMP_DESC", "limit": 200}),
    ("POST", "/deployments/paginate", {"limit": 50}),
    ("POST", "/flows/paginate", {"limit": 50}),
    ("POST", "/artifacts/latest/filter", {"limit": 50}),
    ("POST", "/work_pools/filter", {}),
    ("POST", "/work_pools/gpu/workers/filter", {}),
    ("POST", "/work_pools/gpu/queues/filter", {}),
    ("POST", "/automations/filter", {}),
    ("POST", "/events/filter", {"limit": 50}),
    ("GET", "/health", None),
)
MLFLOW: tuple[Page, ...] = (
    ("GET", "/experiments/search?max_results=100", None),
    ("GET", "/registered-models/search?max_results=100", None),
    ("GET", "/model-versions/search?max_results=100", None),
    ("POST", "/runs/search", {"max_results": 100, "order_by": ["attributes.start_time DESC"]}),
)


@dataclass
class Tally:
    """The answers of one server to its browsers.

    Attributes:
        answers: how often each status came, or the name of an error without an answer.
        seconds: of each request.
        failures: how often each request failed.
    """

    answers: "collections.Counter[str]" = field(default_factory=collections.Counter)
    seconds: list[float] = field(default_factory=list)
    failures: "collections.Counter[str]" = field(default_factory=collections.Counter)

    def ask(self, client: httpx.Client, method: str, path: str, body: dict[str, Any] | None) -> httpx.Response | None:
        """Makes one request; None where no answer came."""
        begin, response = time.monotonic(), None
        try:
            response = client.request(method, path, json=body)
            answer = str(response.status_code)
        except httpx.HTTPError as error:
            answer = type(error).__name__
        self.seconds.append(time.monotonic() - begin)
        self.answers[answer] += 1
        if not answer.startswith("2"):
            self.failures[f"{method} {path}: {answer}"] += 1
        time.sleep(PAUSE_SECONDS)
        return response


def browse_prefect(address: str, end: float, tally: Tally) -> None:
    """Is one browser, until `end`."""
    user, _, password = os.environ.get("PREFECT_API_AUTH_STRING", "").partition(":")
    name = f"ui_polling_{uuid.uuid4().hex[:8]}"
    with httpx.Client(
        base_url=address, auth=(user, password) if user else None, trust_env=False, timeout=120
    ) as client:
        token = client.get("/csrf-token", params={"client": name})
        if token.is_success:  # of a server that wants one with each change
            client.headers.update({"Prefect-Csrf-Client": name, "Prefect-Csrf-Token": token.json()["token"]})
        save: tuple[Page, ...] = (
            ("POST", "/variables/", {"name": name, "value": 1}),
            ("PATCH", f"/variables/name/{name}", {"value": 2}),
            ("DELETE", f"/variables/name/{name}", None),
        )
        while time.monotonic() < end:
            for page in (*PREFECT, *save):
                tally.ask(client, *page)


def browse_mlflow(address: str, end: float, tally: Tally) -> None:
    """Is one browser, until `end`."""
    with httpx.Client(base_url=f"{address}/ajax-api/2.0/mlflow", trust_env=False, timeout=120) as client:
        experiments: list[str] = []
        for method, path, body in itertools.cycle(MLFLOW):
            if time.monotonic() > end:
                return
            response = tally.ask(client, method, path, {**body, "experiment_ids": experiments} if body else None)
            if response is not None and response.is_success and path.startswith("/experiments"):
                experiments = [one["experiment_id"] for one in response.json()["experiments"]]


def retrain_until(end: float) -> Sequence[str]:
    """Gives how each retraining ended."""
    states = []
    parameters = {"revision": find_revision("current", None).sha, "recipe": RECIPE, "force": True}
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
    prefect = os.environ.get("PREFECT_API_URL")
    if not prefect or not ADDRESSES.exists():
        sys.exit("no services of this clone: `make up`, then `. pipelines/login.sh` in this shell")
    mlflow = json.loads(ADDRESSES.read_text(encoding="utf-8"))["mlflow"]
    end, offset = time.monotonic() + options.minutes * 60, LOG.stat().st_size
    tallies = {"Prefect": Tally(), "MLflow": Tally()}
    browsers = [
        threading.Thread(target=browse, args=(address, end, tallies[server]))
        for browse, address, server in ((browse_prefect, prefect, "Prefect"), (browse_mlflow, mlflow, "MLflow"))
        for _ in range(options.browsers)
    ]
    for browser in browsers:
        browser.start()
    states = retrain_until(end)
    for browser in browsers:
        browser.join()
    print(f"{len(states)} retrainings: {dict(collections.Counter(states))}")
    for server, tally in tallies.items():
        seconds = sorted(tally.seconds)
        times = f"median {statistics.median(seconds):.3f} s, 99 % {seconds[int(len(seconds) * 0.99)]:.2f} s"
        print(f"{server}: {dict(tally.answers)}; {times}, slowest {seconds[-1]:.2f} s")
        for failure, number in tally.failures.most_common():
            print(f"  {number} x {failure}")
    with LOG.open("rb") as log:
        log.seek(offset)
        text = log.read()
    inside, lost = text.count(b"sqlite3.OperationalError: database is locked"), text.count(b"dead letter")
    print(f"inside Prefect's server 'database is locked' {inside} times, messages given up: {lost}")


if __name__ == "__main__":
    main()
