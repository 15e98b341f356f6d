"""The services of `make up` in a test's project, and what a user does in Prefect's UI, through its API."""

import base64
import contextlib
import shutil
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import psutil
import pytest
from daemons import find_free_ports
from integration.project import Project
from mlflow.tracking import MlflowClient

# So long only where something hangs: on a machine that does ten other things, a retraining takes minutes.
RETRAINING_SECONDS = 600.0
UNASKED_SECONDS = 240.0
# Logs are sent in batches, some seconds after the run's end.
LOG_SECONDS = 20.0
MARK = "SEGPIPE_SERVICES"
# Prefect answers so while its SQLite is locked; its own clients repeat such a request too.
BUSY, NUM_TRIES, BUSY_SECONDS = 503, 10, 0.5
# A server that wants no tokens against forged requests answers so.
NO_TOKENS = 422
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


def processes_of(project: Project) -> list[psutil.Process]:
    """All processes that `up` has started in a project, and those below them."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            is_alive = process.status() != psutil.STATUS_ZOMBIE
            if is_alive and process.environ().get(MARK) == str(project.root):
                found.append(process)
    return found


def service_pids(project: Project) -> set[int]:
    """The servers and workers among them; a flow run's process may still be about to end when the run has ended."""
    pids = set()
    for process in processes_of(project):
        with contextlib.suppress(psutil.Error):
            if not any(name.startswith("PREFECT__FLOW") for name in process.environ()):
                pids.add(process.pid)
    return pids


@dataclass(frozen=True)
class Services:
    """The services of a project, and what its user does in the UI.

    Args:
        project: where they run.
        prefect_port: of the Prefect server.
        mlflow_port: of the MLflow server.
    """

    project: Project
    prefect_port: int
    mlflow_port: int

    @property
    def command_up(self) -> tuple[str, ...]:
        """`make up`."""
        ports = ("--prefect-port", str(self.prefect_port), "--mlflow-port", str(self.mlflow_port))
        return ("python", "-m", "pipelines.services", "up", *ports, "--gpus", "1")

    def up(self) -> str:
        """Runs `make up`, which must succeed; gives what it says."""
        return self.project.call(*self.command_up)

    def login(self) -> str:
        """What the user types into Prefect's login form: the environment's, or what `make up` has made."""
        given = self.project.variables.get("PREFECT_API_AUTH_STRING")
        return given or (self.project.root / ".services/login").read_text(encoding="utf-8").strip()

    def request(self, method: str, path: str, body: object = None) -> Any:
        """Asks Prefect's API as its UI does: with the login, and for a change with a token against forged requests."""
        token = base64.b64encode(self.login().encode()).decode()
        with httpx.Client(
            base_url=f"http://127.0.0.1:{self.prefect_port}/api",
            headers={"Authorization": f"Basic {token}"},
            trust_env=False,
            timeout=60,
        ) as client:
            if method != "GET":
                client.headers.update(self._tokens(client))
            response = self._send(client, method, path, body)
        assert response.is_success, f"{method} {path}: {response.status_code} {response.text}"
        return response.json() if response.content else None

    @staticmethod
    def _send(client: httpx.Client, method: str, path: str, body: object) -> httpx.Response:
        for _ in range(NUM_TRIES):
            response = client.request(method, path, json=body)
            if response.status_code != BUSY:
                break
            time.sleep(BUSY_SECONDS)
        return response

    def _tokens(self, client: httpx.Client) -> dict[str, str]:
        name = str(uuid.uuid4())
        answer = self._send(client, "GET", f"/csrf-token?client={name}", None)
        if answer.status_code == NO_TOKENS:
            return {}
        return {"Prefect-Csrf-Client": name, "Prefect-Csrf-Token": answer.json()["token"]}

    def start(self, deployment: str, run_name: str | None = None, **parameters: object) -> str:
        """The button "Quick run" or "Custom run" of a deployment; gives the flow run's id."""
        found = self.request("GET", f"/deployments/name/{deployment}")
        path = f"/deployments/{found['id']}/create_flow_run"
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}, **({"name": run_name} if run_name else {})}
        return str(self.request("POST", path, body)["id"])

    def start_retraining(self, **parameters: Any) -> str:
        """Starts the retraining on demand; gives the flow run's id."""
        return self.start("retrain/on-demand", **parameters)

    def retrainings(self, deployment: str = "on-demand") -> set[str]:
        """The ids of a deployment's retrainings that have begun; a schedule plans others ahead."""
        wanted = {
            "flows": {"name": {"any_": ["retrain"]}},
            "deployments": {"name": {"any_": [deployment]}},
            "flow_runs": {"state": {"type": {"not_any_": ["SCHEDULED"]}}},
        }
        return {str(run["id"]) for run in self.request("POST", "/flow_runs/filter", wanted)}

    def switch(self, deployment: str, active: bool, **changes: object) -> None:
        """The switch of a deployment's only schedule, and what the pencil next to it changes."""
        found = self.request("GET", f"/deployments/name/{deployment}")
        (schedule,) = found["schedules"]
        body = {"active": active, **changes}
        self.request("PATCH", f"/deployments/{found['id']}/schedules/{schedule['id']}", body)

    def wait_for_new_retrainings(self, before: set[str], deployment: str = "on-demand") -> list[str]:
        """Waits until a retraining begins that no test has started; gives the ids of all that have begun."""
        deadline = time.monotonic() + UNASKED_SECONDS
        while not (begun := self.retrainings(deployment) - before):
            assert time.monotonic() < deadline, f"no retraining has begun within {UNASKED_SECONDS:g} s"
            time.sleep(0.5)
        return sorted(begun)

    def find_run(self, run_id: str) -> "Run":
        """A flow run as it is now."""
        state = self.request("GET", f"/flow_runs/{run_id}")["state"]
        return Run(self, run_id, state["type"], state["message"] or "")

    def wait_for(self, run_id: str) -> "Run":
        """Waits for the end of a flow run."""
        deadline = time.monotonic() + RETRAINING_SECONDS
        while time.monotonic() < deadline:
            run = self.find_run(run_id)
            if run.state in FINAL:
                return run
            time.sleep(0.5)
        pytest.fail(f"the retraining has not ended after {RETRAINING_SECONDS:g} s")

    def retrain(self, **parameters: Any) -> "Run":
        """Starts a retraining and waits for its end."""
        return self.wait_for(self.start_retraining(**parameters))

    def client(self) -> MlflowClient:
        """A client of the MLflow server."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return MlflowClient(f"http://127.0.0.1:{self.mlflow_port}")


@dataclass(frozen=True)
class Run:
    """A flow run as it was when the server was asked.

    Args:
        services: where.
        id: in Prefect.
        state: COMPLETED or another type.
        message: of the state.
    """

    services: Services
    id: str
    state: str
    message: str

    @property
    def name(self) -> str:
        """As the UI shows it now."""
        return str(self.services.request("GET", f"/flow_runs/{self.id}")["name"])

    def children(self) -> list[dict[str, Any]]:
        """The flow runs that it has started, in their order."""
        wanted = {"flow_runs": {"parent_flow_run_id": {"any_": [self.id]}}, "sort": "START_TIME_ASC"}
        return list(self.services.request("POST", "/flow_runs/filter", wanted))

    def tasks(self) -> dict[str, tuple[str, set[str]]]:
        """Its tasks by name: the state, and the tasks that each waited for; without those that stand for flow runs."""
        wanted = {"flow_runs": {"id": {"any_": [self.id]}}}
        found = self.services.request("POST", "/task_runs/filter", wanted)
        names = {one["id"]: one["name"] for one in found}
        return {
            one["name"]: (one["state"]["name"], {names[it["id"]] for it in one["task_inputs"].get("wait_for", [])})
            for one in found
            if "run_deployment" not in one["task_key"]
        }

    def artifacts(self) -> dict[str, Any]:
        """What it has left on its page, by key."""
        wanted = {"artifacts": {"flow_run_id": {"any_": [self.id]}}}
        return {one["key"]: one for one in self.services.request("POST", "/artifacts/filter", wanted)}

    def log(self, expected: str) -> str:
        """What it has logged, once the expected text has arrived, or no more comes."""
        wanted = {"logs": {"flow_run_id": {"any_": [self.id]}}, "sort": "TIMESTAMP_ASC", "limit": 200}
        deadline = time.monotonic() + LOG_SECONDS
        while True:
            text = "\n".join(one["message"] for one in self.services.request("POST", "/logs/filter", wanted))
            if expected in text or time.monotonic() > deadline:
                return text
            time.sleep(0.5)


@contextlib.contextmanager
def running_services(project: Project, start: Callable[[Services], object] = Services.up) -> Iterator[Services]:
    """Starts the services of a project; stops them and removes the project at the end, however the tests end."""
    services = Services(project, *find_free_ports(2))
    try:
        start(services)
        yield services
    finally:
        with contextlib.suppress(Exception):
            project.run("python", "-m", "pipelines.services", "down")
        for process in processes_of(project):
            with contextlib.suppress(psutil.Error):
                process.kill()
        shutil.rmtree(project.root, ignore_errors=True)
