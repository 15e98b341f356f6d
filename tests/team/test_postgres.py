"""Both servers as a team runs them: on Debian's own PostgreSQL, with passwords, MLflow serving the artifacts."""

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from daemons import answers, find_free_ports, listens, running
from integration.project import (
    EXPERIMENT,
    MODEL_NAME,
    REPOSITORY,
    STAGES,
    Project,
    add_pipelines,
    environment,
    message_of_refusal,
)
from integration.schedules import add_origin, every, let_nightly_fire, push_label, watch_once
from integration.services import Services
from mlflow.tracking import MlflowClient

BINARIES = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name), default=None)
SUPERUSER, SUPERUSER_PASSWORD = "postgres", "super-secret"
PASSWORDS = {"PREFECT_DATABASE_PASSWORD": "prefect-secret", "MLFLOW_DATABASE_PASSWORD": "mlflow-secret"}
AUTH_STRING = "team:prefect-password"
ADMIN = ("admin", "password-of-the-admin")
TRAINER = ("trainer", "password-of-the-trainer")
READER = ("reader", "password-of-the-reader")
AUTH_CONFIG = """\
[mlflow]
default_permission = READ
database_uri = {database}
auth_cache_ttl_seconds = 60
"""
ADD_USERS = """
import sys
from mlflow.server import get_app_client
client = get_app_client("basic-auth", sys.argv[1])
for name, password in zip(sys.argv[2::2], sys.argv[3::2]):
    client.create_user(name, password)
"""
PUBLIC = "https://mlflow.example.org"
NUM_IMAGES = 12
EVENT_SECONDS = 30.0

pytestmark = [
    pytest.mark.team,
    pytest.mark.skipif(BINARIES is None, reason="no PostgreSQL here: apt-get install postgresql"),
]


@dataclass(frozen=True)
class Team:
    """The addresses of both servers, and what lies behind them."""

    prefect: str
    mlflow: str
    artifacts: Path

    def of(self, user: tuple[str, str]) -> dict[str, str]:
        """What a worker has in its environment."""
        return {
            "PREFECT_API_URL": f"{self.prefect}/api",
            "PREFECT_API_AUTH_STRING": AUTH_STRING,
            "MLFLOW_TRACKING_URI": self.mlflow,
            "MLFLOW_TRACKING_USERNAME": user[0],
            "MLFLOW_TRACKING_PASSWORD": user[1],
        }


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """Debian's PostgreSQL with the databases of mlflow/databases.sh; gives its address."""
    assert BINARIES is not None
    # PostgreSQL refuses to run as root, and its own user cannot look into pytest's folders.
    user = SUPERUSER if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="segpipe-postgres-"))
    (port,) = find_free_ports(1)
    (folder / "password").write_text(SUPERUSER_PASSWORD, encoding="utf-8")
    if user is not None:
        shutil.chown(folder, user, user)
        shutil.chown(folder / "password", user, user)
    data = folder / "data"
    initialize = [str(BINARIES / "initdb"), "--pgdata", str(data), "--username", SUPERUSER, "--encoding", "UTF8"]
    initialize += ["--auth", "scram-sha-256", "--pwfile", str(folder / "password"), "--no-sync"]
    groups = None if user is None else []
    env = environment(folder)
    try:
        subprocess.run(
            initialize, user=user, group=user, extra_groups=groups, cwd=folder, env=env, check=True, capture_output=True
        )
        serve = [str(BINARIES / "postgres"), "-D", str(data), "-p", str(port), "-k", str(folder), "-F"]
        log = folder / "log"
        with running(serve, env, log, user, signal.SIGINT) as postgres:
            postgres.wait_until(lambda: _accepts(port))
            connection = {"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGPASSWORD": SUPERUSER_PASSWORD}
            script = REPOSITORY / "mlflow/databases.sh"
            env |= {**connection, **PASSWORDS, "POSTGRES_USER": SUPERUSER}
            subprocess.run(["sh", str(script)], env=env, check=True)
            yield f"127.0.0.1:{port}"
    finally:
        shutil.rmtree(folder)


def _accepts(port: int) -> bool:
    assert BINARIES is not None
    command = [str(BINARIES / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    return listens(port) and subprocess.run(command).returncode == 0


@pytest.fixture(scope="module")
def team(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """Both servers with the settings of mlflow/compose.yaml; a folder stands in for S3."""
    folder = tmp_path_factory.mktemp("servers")
    prefect_port, mlflow_port = find_free_ports(2)
    team = Team(f"http://127.0.0.1:{prefect_port}", f"http://127.0.0.1:{mlflow_port}", folder / "artifacts")
    prefect_env = {
        **environment(folder),
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://prefect:prefect-secret@{database}/prefect",
        "PREFECT_SERVER_API_AUTH_STRING": AUTH_STRING,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    mlflow_database = f"postgresql+psycopg2://mlflow:mlflow-secret@{database}"
    config = folder / "basic_auth.ini"
    config.write_text(AUTH_CONFIG.format(database=f"{mlflow_database}/mlflow_auth"), encoding="utf-8")
    mlflow_env = {
        **environment(folder),
        "MLFLOW_BACKEND_STORE_URI": f"{mlflow_database}/mlflow",
        "MLFLOW_AUTH_CONFIG_PATH": str(config),
        "MLFLOW_AUTH_ADMIN_USERNAME": ADMIN[0],
        "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN[1],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "signs the forms of the user interface",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    address = ["--host", "127.0.0.1", "--port"]
    serve_prefect = ["prefect", "server", "start", *address, str(prefect_port)]
    serve_mlflow = ["mlflow", "server", *address, str(mlflow_port), "--workers", "1", "--app-name", "basic-auth"]
    serve_mlflow += ["--serve-artifacts", "--artifacts-destination", str(team.artifacts)]
    serve_mlflow += ["--allowed-hosts", f"127.0.0.1:{mlflow_port}", "--cors-allowed-origins", PUBLIC]
    with (
        running(serve_prefect, prefect_env, folder / "prefect.log") as prefect,
        running(serve_mlflow, mlflow_env, folder / "mlflow.log") as mlflow,
    ):
        prefect.wait_until(lambda: answers(f"{team.prefect}/api/health"))
        mlflow.wait_until(lambda: answers(f"{team.mlflow}/health"))
        Project(folder, team.of(ADMIN)).call("python", "-c", ADD_USERS, team.mlflow, *TRAINER, *READER)
        yield team


# Prefect


@pytest.fixture
def clone(team: Team, tmp_path: Path) -> Project:
    """What `make deploy` needs of a clone, and the environment of a worker."""
    for name in ("pipelines", "src"):
        shutil.copytree(REPOSITORY / name, tmp_path / "clone" / name, ignore=shutil.ignore_patterns("__pycache__"))
    return Project(tmp_path / "clone", {**team.of(TRAINER), "PREFECT_HOME": str(tmp_path / "prefect")})


def ask_prefect(team: Team, path: str, body: Any, auth_string: str = AUTH_STRING, method: str = "POST") -> Any:
    """A request as the user interface makes it."""
    token = base64.b64encode(auth_string.encode()).decode()
    headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{team.prefect}/api/{path}", json.dumps(body).encode(), headers, method=method)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.loads(answer.read() or "null")


def deployed(team: Team) -> dict[str, Any]:
    """Everything that `make deploy` makes."""
    flows = {flow["id"]: flow["name"] for flow in ask_prefect(team, "flows/filter", {})}
    deployments = ask_prefect(team, "deployments/filter", {})
    return {
        "pools": {(pool["id"], pool["name"], pool["type"]) for pool in ask_prefect(team, "work_pools/filter", {})},
        "deployments": {
            (found["id"], f"{flows[found['flow_id']]}/{found['name']}", found["work_pool_name"])
            for found in deployments
        },
        "schedules": {
            (found["name"], schedule["schedule"]["cron"], schedule["active"])
            for found in deployments
            for schedule in found["schedules"]
        },
        "automations": {
            (found["id"], found["name"], found["enabled"]) for found in ask_prefect(team, "automations/filter", {})
        },
    }


def test_deploy_twice_is_deploy_once(team: Team, clone: Project) -> None:
    clone.call("python", "-m", "pipelines.deploy")
    found = deployed(team)
    assert {(name, kind) for _, name, kind in found["pools"]} == {
        (name, "process") for name in ("control", "cpu", "gpu")
    }
    assert {(name, pool) for _, name, pool in found["deployments"]} == {
        ("retrain/on-demand", "control"),
        ("retrain/nightly", "control"),
        ("watch/every-5-minutes", "control"),
        ("predict/on-demand", "control"),
        ("shard/cpu", "cpu"),
        ("shard/gpu", "gpu"),
        ("stage/cpu", "cpu"),
        ("stage/gpu", "gpu"),
    }
    assert found["schedules"] == {("nightly", "0 2 * * *", False), ("every-5-minutes", "*/5 * * * *", False)}
    assert len(found["automations"]) == 2
    assert all(enabled for *_, enabled in found["automations"])

    # What a user has set in the user interface stays.
    (nightly,) = (found for found in ask_prefect(team, "deployments/filter", {}) if found["name"] == "nightly")
    path = f"deployments/{nightly['id']}/schedules/{nightly['schedules'][0]['id']}"
    ask_prefect(team, path, {"active": True}, method="PATCH")
    (zombies,) = (key for key, name, _ in found["automations"] if "silent" in name)
    ask_prefect(team, f"automations/{zombies}", {"enabled": False}, method="PATCH")
    changed = deployed(team)
    assert changed["schedules"] == {("nightly", "0 2 * * *", True), ("every-5-minutes", "*/5 * * * *", False)}
    assert sum(enabled for *_, enabled in changed["automations"]) == 1

    clone.call("python", "-m", "pipelines.deploy")
    assert deployed(team) == changed


def test_an_event_starts_a_retraining(team: Team, clone: Project) -> None:
    # The server's own services evaluate automations, and ask the API with the server's auth string.
    clone.call("python", "-m", "pipelines.deploy")
    (on_demand,) = (found for found, name, _ in deployed(team)["deployments"] if name == "retrain/on-demand")
    event = {
        "occurred": datetime.now(UTC).isoformat(),
        "event": "segpipe.data.changed",
        "resource": {"prefect.resource.id": "segpipe.data.origin/main"},
        "payload": {"revision": "0123abc", "what": "new labels"},
        "id": str(uuid.uuid4()),
    }
    ask_prefect(team, "events", [event])
    deadline = time.monotonic() + EVENT_SECONDS
    while not (runs := ask_prefect(team, "flow_runs/filter", {"deployments": {"id": {"any_": [on_demand]}}})):
        assert time.monotonic() < deadline, "no automation has answered"
        time.sleep(0.5)
    assert [run["parameters"]["revision"] for run in runs] == ["0123abc"]


@pytest.mark.parametrize("auth_string", ["team:wrong", ""], ids=["wrong", "none"])
def test_a_wrong_auth_string_is_a_message(team: Team, clone: Project, auth_string: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        ask_prefect(team, "deployments/filter", {}, auth_string)
    stranger = Project(clone.root, {**clone.variables, "PREFECT_API_AUTH_STRING": auth_string})
    assert "PREFECT_API_AUTH_STRING" in message_of_refusal(stranger.run("python", "-m", "pipelines.deploy"))


# MLflow


def snapshot(client: MlflowClient) -> dict[str, Any]:
    """What publishing twice must not change."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    return {
        "runs": {run.info.run_id: run.to_dictionary() for run in runs},
        "artifacts": {run.info.run_id: [item.path for item in client.list_artifacts(run.info.run_id)] for run in runs},
        "models": [model.to_dictionary() for model in client.search_logged_models([experiment.experiment_id])],
        "versions": [
            (version.version, version.tags, version.description, version.last_updated_timestamp)
            for version in client.search_model_versions(f"name = '{MODEL_NAME}'")
        ],
        "aliases": dict(client.get_registered_model(MODEL_NAME).aliases),
    }


@pytest.fixture
def client(team: Team, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    for name, value in team.of(READER).items():
        monkeypatch.setenv(name, value)
    return MlflowClient(team.mlflow)


def test_a_finished_project_is_published_once_and_read_by_others(
    finished: Project, team: Team, client: MlflowClient
) -> None:
    trainer, reader = Project(finished.root, team.of(TRAINER)), Project(finished.root, team.of(READER))
    local = {path.name: path.read_bytes() for path in finished.root.glob("mlflow.db*")}

    said = trainer.call("segpipe", "publish", "--json").splitlines()
    (published,) = (json.loads(line) for line in said if line.startswith("{"))
    assert published["registration"]["version"] == published["registration"]["champion"] == "1"
    assert published["registration"]["decision"] == "promoted"
    found = snapshot(client)
    assert found["aliases"] == {"champion": 1} or found["aliases"] == {"champion": "1"}
    assert [run["info"]["status"] for run in found["runs"].values()] == ["FINISHED"]
    # Through the server, not to a path that only the publisher's machine has.
    assert all(run["info"]["artifact_uri"].startswith("mlflow-artifacts:/") for run in found["runs"].values())
    assert list(team.artifacts.rglob("weights.safetensors"))
    assert {path.name: path.read_bytes() for path in finished.root.glob("mlflow.db*")} == local

    trainer.call("segpipe", "publish")
    assert snapshot(client) == found

    said = reader.call("segpipe", "predict", "data/images", "--output", "by_champion", "--device", "cpu")
    assert f"{NUM_IMAGES} images predicted" in said
    reader.call(
        "segpipe", "predict", "data/images", "--output", "by_build", "--device", "cpu", "--model", "build/model"
    )
    masks = {path.name: path.read_bytes() for path in (finished.root / "by_champion/masks").iterdir()}
    assert masks == {path.name: path.read_bytes() for path in (finished.root / "by_build/masks").iterdir()}
    assert len(masks) == NUM_IMAGES


@pytest.mark.parametrize(
    ("user", "reason"),
    [(("trainer", "not-the-password"), "401"), (READER, "403|[Pp]ermission denied")],
    ids=["wrong-password", "may-only-read"],
)
def test_who_may_not_publish_gets_a_message(
    finished: Project, team: Team, client: MlflowClient, user: tuple[str, str], reason: str
) -> None:
    Project(finished.root, team.of(TRAINER)).call("segpipe", "publish")
    found = snapshot(client)
    report = finished.root / "build/evaluation/report.html"
    content = report.read_bytes()
    report.unlink()  # it may be a link into the cache
    report.write_bytes(content + b"<!-- another evaluation -->")
    message = message_of_refusal(Project(finished.root, team.of(user)).run("segpipe", "publish"))
    assert re.search(reason, message), message
    assert snapshot(client) == found


def test_pages_of_other_hosts_are_refused(team: Team) -> None:
    def status(headers: dict[str, str], user: tuple[str, str] = TRAINER) -> int:
        token = base64.b64encode(":".join(user).encode()).decode()
        headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json", **headers}
        address = f"{team.mlflow}/api/2.0/mlflow/experiments/search"
        request = urllib.request.Request(address, b'{"max_results": 1}', headers)
        try:
            return int(urllib.request.urlopen(request, timeout=20).status)
        except urllib.error.HTTPError as error:
            return error.code

    assert status({}) == 200
    assert status({}, ("trainer", "not-the-password")) == 401
    assert status({"Origin": PUBLIC}) == 200
    assert status({"Origin": "https://elsewhere.example"}) == 403
    assert status({"Host": "elsewhere.example"}) == 403


# Schedules


@pytest.fixture
def services(finished: Project, team: Team, tmp_path: Path) -> Iterator[Services]:
    """A clone with an origin, deployed, and its workers as `make worker` starts them."""
    variables = {**team.of(TRAINER), "PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_WORKER_QUERY_SECONDS": "1"}
    project = add_pipelines(finished)
    project = Project(project.root, {**project.variables, **variables})
    add_origin(project, tmp_path / "origin")
    project.call("python", "-m", "pipelines.deploy")
    services = Services(project, *(int(address.rpartition(":")[2]) for address in (team.prefect, team.mlflow)))
    for left_over in services.request("POST", "/flow_runs/filter", {}):
        services.request("DELETE", f"/flow_runs/{left_over['id']}")
    env = {**environment(project.root), **project.variables}
    with contextlib.ExitStack() as stack:
        for arguments in (["control"], ["cpu"], ["gpu", "0"]):
            command = [str(project.root / "pipelines/worker.sh"), *arguments]
            stack.enter_context(running(command, env, project.root / "workers.log"))
        yield services


def test_schedules_fire_and_a_pushed_label_starts_a_retraining_by_itself(services: Services, tmp_path: Path) -> None:
    nightly = let_nightly_fire(services)
    assert (nightly.state, nightly.children()) == ("COMPLETED", []), nightly.message
    assert services.request("GET", f"/flow_runs/{nightly.id}")["auto_scheduled"]

    watch_once(services)
    before = services.retrainings()
    services.switch("watch/every-5-minutes", True, **every(30))
    push_label(services.project, tmp_path / "labeller", "a_099")
    (run_id,) = services.wait_for_new_retrainings(before)
    run = services.wait_for(run_id)
    services.switch("watch/every-5-minutes", False)
    assert run.state == "COMPLETED", run.message
    assert [child["name"].split()[0] for child in run.children()] == list(STAGES)
    assert {child["state"]["type"] for child in run.children()} == {"COMPLETED"}
