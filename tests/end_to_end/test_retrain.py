"""Retrainings as a user starts them, through Prefect's API, on the real services of one machine.

The tests share the services, and a project that plain `dvc repro` has finished before them.
"""

import json
import re
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from daemons import find_free_ports
from integration.attacks import EVIL_NAME, attacks_on_mlflow, attacks_on_prefect, is_socket_open_to_strangers, send
from integration.project import (
    MODEL_NAME,
    STAGES,
    TIMEOUT_SECONDS,
    Project,
    add_pipelines,
    add_sample,
    message_of_refusal,
    paint,
    with_environment,
)
from integration.schedules import BRANCH, add_origin, let_nightly_fire, let_watch_start, push_label, watch_once
from integration.services import (
    LOG_SECONDS,
    Run,
    Services,
    processes_of,
    running_services,
    service_pids,
)

POOLS = {
    "download": "cpu",
    "preprocess": "cpu",
    "class_weights": "cpu",
    "train": "gpu",
    "evaluate": "gpu",
    "register": "cpu",
}


# Which stages each waits for.
GRAPH = {
    "download": set(),
    "preprocess": {"download"},
    "class_weights": {"preprocess"},
    "train": {"preprocess", "class_weights"},
    "evaluate": {"preprocess", "train"},
    "register": {"preprocess", "train", "evaluate"},
}


def start_twice_at_once(services: Services) -> None:
    """`make up` in two terminals: one waits for the other, and both end with the services running."""
    processes = [services.project.start(*services.command_up) for _ in range(2)]
    texts = [process.communicate(timeout=TIMEOUT_SECONDS) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], texts
    assert sorted("waiting" in out for out, _ in texts) == [False, True]
    assert all(f"http://127.0.0.1:{services.prefect_port}" in out for out, _ in texts)


@pytest.fixture(scope="module")
def services(original: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """The services of a project in which plain `dvc repro` has run."""
    folder = tmp_path_factory.mktemp("retrain")
    project = add_pipelines(original.copy_to(folder / "project"))
    add_origin(project, folder / "origin")
    with running_services(project, start_twice_at_once) as services:
        yield services


def lock_of(project: Project) -> str:
    return (project.root / "dvc.lock").read_text(encoding="utf-8")


def test_what_dvc_alone_has_trained_is_in_the_server(services: Services) -> None:
    registration = services.project.json("build/registration.json")
    client = services.client()
    (version,) = client.search_model_versions(f"name = '{MODEL_NAME}'")
    assert version.version == registration["version"]
    assert client.get_run(version.run_id).info.status == "FINISHED"
    assert client.get_model_version_by_alias(MODEL_NAME, "champion").version == registration["champion"]


def champion_events(services: Services) -> list[dict[str, Any]]:
    """The payloads of the events that a champion has moved, once there is one."""
    deadline = time.monotonic() + LOG_SECONDS
    while True:
        wanted = {"filter": {"event": {"name": ["segpipe.champion.moved"]}}}
        found = services.request("POST", "/events/filter", wanted)["events"]
        if found or time.monotonic() > deadline:
            return [one["payload"] for one in found]
        time.sleep(0.5)


def test_a_finished_project_runs_no_stage_and_tells_of_its_champion(services: Services) -> None:
    lock = lock_of(services.project)
    # As if another version had been the champion when a retraining told of it last.
    services.request("POST", "/variables/", {"name": "segpipe_champions_told", "value": {MODEL_NAME: "7"}})
    run = services.retrain()
    (event,) = champion_events(services)
    assert (event["model_name"], event["champion"], event["champion_before"]) == (MODEL_NAME, "1", "7")
    assert event["reasons"] == "There was no champion."
    assert services.request("GET", "/variables/name/segpipe_champions_told")["value"] == {MODEL_NAME: "1"}
    assert (run.state, run.children()) == ("COMPLETED", []), run.message
    assert run.name == f"retrain-current-{services.project.call('git', 'rev-parse', 'HEAD')[:12]}"
    assert run.tasks() == {name: ("Cached", GRAPH[name]) for name in STAGES}
    assert f"{MODEL_NAME} version 1 promoted; the champion is version 1; nothing was stale" in run.message
    artifacts = run.artifacts()
    assert artifacts["retraining"]["type"] == "markdown"
    story = artifacts["retraining"]["data"]
    for row in ("| decision | **promoted** |", "| champion now | version 1 |", "| stages run | none"):
        assert row in story
    page = f"http://127.0.0.1:{services.mlflow_port}/#/models/{MODEL_NAME}/versions/1"
    assert f"[{MODEL_NAME} version 1]({page})" in story
    assert artifacts["scores"]["type"] == "table"
    scores = {row["measure"]: row for row in json.loads(artifacts["scores"]["data"])}
    measured = services.project.json("build/evaluation/metrics.json")
    assert scores["mIoU"]["val"] == round(measured["val"]["mean_iou"], 4)
    assert {"pixel accuracy", "IoU ground", "IoU sky", "IoU box"} <= scores.keys()
    assert lock_of(services.project) == lock
    assert services.project.call("git", "status", "--porcelain") == ""


def test_a_branch_is_worked_on_in_a_clone_that_shares_the_cache(services: Services) -> None:
    project = services.project
    sha = project.call("git", "rev-parse", "HEAD").strip()
    branch = project.call("git", "rev-parse", "--abbrev-ref", "HEAD").strip()
    run = services.retrain(run_name="labels of May", revision=branch)
    assert (run.state, run.children()) == ("COMPLETED", []), run.message
    assert run.name == "labels of May", "what a user has typed stays"
    assert run.log("making a clone of").count(f"making a clone of {sha[:12]}") == 1
    clone = project.root / "clones" / sha[:12]
    assert (clone / "dvc.lock").read_text(encoding="utf-8") == lock_of(project)
    assert (clone / "build/registration.json").exists()
    assert len(services.client().search_model_versions(f"name = '{MODEL_NAME}'")) == 1


def test_what_cannot_be_had_is_refused_with_a_message_and_nothing_is_started(services: Services) -> None:
    asked = {
        "revision 'mian' is neither in": {"revision": "mian"},
        "recipes/slow.yaml is not in": {"recipe": "slow"},
        "notify: there is no block 'slack-webhook/nobody'": {"notify": "slack-webhook/nobody"},
    }
    started = {message: services.start_retraining(**parameters) for message, parameters in asked.items()}
    for message, run_id in started.items():
        run = services.wait_for(run_id)
        assert (run.state, run.children()) == ("FAILED", [])
        assert message in run.message


def test_neither_a_page_nor_a_stranger_gets_in_by_the_ports(services: Services) -> None:
    proof = services.project.root.parent / "a-command-was-run"
    num_runs = services.request("POST", "/flow_runs/count", {})
    for attack in attacks_on_prefect(services, f"touch {proof}") + attacks_on_mlflow(services):
        answer = send(attack)
        assert answer.status_code in {400, 401, 403}, f"{attack.name}: {answer.status_code} {answer.text}"
    for path in ("/events/in", "/events/out", "/logs/out"):
        assert not is_socket_open_to_strangers(services, path, None)
        assert not is_socket_open_to_strangers(services, path, "segpipe:wrong")
        assert is_socket_open_to_strangers(services, path, services.login()), "the test asks in the wrong way"
    assert services.request("POST", "/flow_runs/count", {}) == num_runs
    names = {model.name for model in services.client().search_registered_models()}
    assert MODEL_NAME in names
    assert EVIL_NAME not in names
    assert not proof.exists()


def test_the_login_is_for_its_owner_and_its_own_server_alone(services: Services) -> None:
    project, login = services.project, services.login()
    assert (project.root / ".services/login").stat().st_mode & 0o777 == 0o600
    assert login.partition(":")[2] not in (project.root / ".services/log").read_text(encoding="utf-8")
    assert project.call("git", "status", "--porcelain", "--untracked-files=all") == ""

    def login_for(address: str, before: str = "") -> str:
        variables = f"PREFECT_API_URL={address} PREFECT_API_AUTH_STRING={before}"
        script = f'export {variables}; . pipelines/login.sh; echo "$PREFECT_API_AUTH_STRING"'
        return project.call("sh", "-c", script).strip()

    for ours in ("", f"http://127.0.0.1:{services.prefect_port}/api", f"http://localhost:{services.prefect_port}/api"):
        assert login_for(ours) == login
    assert login_for("https://prefect.example.org/api") == ""
    assert login_for("", "team:password") == "team:password"
    assert "nightly" in project.call("sh", "-c", ". pipelines/login.sh && prefect deployment ls")


def test_every_deployment_sets_the_heartbeat_that_its_automation_waits_for(services: Services) -> None:
    found = services.request("POST", "/deployments/filter", {})
    assert len(found) == 8
    for deployment in found:
        assert "segpipe" in deployment["tags"]
        is_internal = deployment["name"] in {"cpu", "gpu"}
        assert ("internal" in deployment["tags"], "user" in deployment["tags"]) == (is_internal, not is_internal)
        assert deployment["job_variables"]["env"] == {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}


def test_a_second_up_changes_nothing_that_the_user_has_set(services: Services) -> None:
    nightly = services.request("GET", "/deployments/name/retrain/nightly")
    (schedule,) = nightly["schedules"]
    assert not schedule["active"], "nothing starts by itself before a user says so"
    watch = services.request("GET", "/deployments/name/watch/every-5-minutes")
    automations = services.request("POST", "/automations/filter", {})
    services.request("PATCH", f"/deployments/{nightly['id']}/schedules/{schedule['id']}", {"active": True})
    services.request("PATCH", f"/deployments/{watch['id']}", {"paused": True})
    for automation in automations:
        services.request("PATCH", f"/automations/{automation['id']}", {"enabled": False})
    before, login = service_pids(services.project), services.login()

    text = services.up()

    assert services.login() == login
    assert login.partition(":")[2] not in text
    assert f"http://127.0.0.1:{services.prefect_port}" in text
    assert service_pids(services.project) == before
    after = services.request("GET", "/deployments/name/retrain/nightly")
    assert [one["schedule"] for one in after["schedules"]] == [schedule["schedule"]]
    assert [one["active"] for one in after["schedules"]] == [True]
    assert services.request("GET", "/deployments/name/watch/every-5-minutes")["paused"]
    found = services.request("POST", "/automations/filter", {})
    assert {one["id"]: one["enabled"] for one in found} == {one["id"]: False for one in automations}


def test_an_up_with_other_ports_is_refused_while_services_run(services: Services) -> None:
    prefect_port, mlflow_port = find_free_ports(2)
    ports = ("--prefect-port", str(prefect_port), "--mlflow-port", str(mlflow_port))
    message = message_of_refusal(services.project.run("python", "-m", "pipelines.services", "up", *ports))
    assert f"the services run at http://127.0.0.1:{services.prefect_port}" in message
    assert "`make down` first" in message
    services.request("GET", "/health")


def test_a_schedule_that_is_switched_on_fires_and_its_run_completes(services: Services) -> None:
    run = let_nightly_fire(services)
    assert (run.state, run.children()) == ("COMPLETED", []), run.message
    found = services.request("GET", f"/flow_runs/{run.id}")
    assert found["auto_scheduled"]
    assert found["deployment_id"] == services.request("GET", "/deployments/name/retrain/nightly")["id"]


def events_of(services: Services, run_id: str) -> tuple[set[str], list[set[str]]]:
    """The names of a finished flow run's events, and for each event its tags; they come some seconds after its end."""
    wanted = {
        "filter": {"any_resource": {"id": [f"prefect.flow-run.{run_id}"]}, "event": {"prefix": ["prefect.flow-run."]}}
    }
    deadline = time.monotonic() + LOG_SECONDS
    while True:
        events = services.request("POST", "/events/filter", wanted)["events"]
        if "prefect.flow-run.Completed" in {event["event"] for event in events} or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    related = [[one["prefect.resource.id"] for one in event["related"]] for event in events]
    tags = [{name.removeprefix("prefect.tag.") for name in names} for names in related]
    return {event["event"] for event in events}, tags


def test_a_pushed_label_is_noticed_and_runs_what_is_stale_where_it_belongs(services: Services, tmp_path: Path) -> None:
    project = services.project
    for automation in services.request("POST", "/automations/filter", {}):
        services.request("PATCH", f"/automations/{automation['id']}", {"enabled": True})
    deployment = services.request("GET", "/deployments/name/watch/every-5-minutes")
    services.request("PATCH", f"/deployments/{deployment['id']}", {"paused": False})
    before = services.retrainings()
    assert watch_once(services) == "nothing new"

    sha = push_label(project, tmp_path / "labeller", "a_099")
    run_id = let_watch_start(services, before)
    assert watch_once(services) == "nothing new"
    run = services.wait_for(run_id)
    assert run.state == "COMPLETED", run.message
    assert watch_once(services) == "nothing new"
    assert services.retrainings() - before == {run.id}, "the same change starts no second retraining"
    children = run.children()
    assert [child["name"] for child in children] == [f"{stage} {sha[:12]} attempt 1" for stage in STAGES]
    assert {child["name"].split()[0]: child["work_pool_name"] for child in children} == POOLS
    assert {child["state"]["type"] for child in children} == {"COMPLETED"}

    for run_id in (run.id, *(child["id"] for child in children)):
        names, tags = events_of(services, run_id)
        assert {"prefect.flow-run.heartbeat", "prefect.flow-run.Completed"} <= names
        assert all("segpipe" in found for found in tags), "the automation on silent runs listens to this tag"

    # The same labels in this clone: a changed source, for which everything has been computed.
    project.call("git", "pull", "--quiet", "--ff-only", "origin", BRANCH)
    restored = services.wait_for(let_watch_start(services, before | {run.id}))
    assert (restored.state, restored.children()) == ("COMPLETED", []), restored.message

    registration = project.json("build/registration.json")
    assert registration["version"] == "2"
    assert registration["reasons"]
    assert f"version 2 {registration['decision']}; the champion is version {registration['champion']}" in run.message
    assert f"ran {', '.join(STAGES)}" in run.message
    story = run.artifacts()["retraining"]["data"]
    assert "| champion before | version 1 |" in story
    assert f"| champion now | version {registration['champion']} |" in story
    assert " ".join(registration["reasons"]) in story
    champion = services.client().get_model_version_by_alias(MODEL_NAME, "champion")
    assert champion.version == registration["champion"]
    # Plain DVC sees the same results.
    assert json.loads(project.call("dvc", "status", "--json")) == {}
    assert "Running stage" not in project.call("dvc", "repro")


def test_a_recipe_is_trained_in_a_clone_and_its_results_go_to_a_branch(services: Services) -> None:
    project = services.project
    project.call("git", "add", "--all")
    project.call("git", "commit", "--quiet", "--message", "Results of a new label")
    project.call("git", "push", "--quiet", "origin", f"HEAD:{BRANCH}")
    sha, lock = project.call("git", "rev-parse", "HEAD").strip(), lock_of(project)

    deployment = services.request("GET", "/deployments/name/retrain/on-demand")
    assert deployment["parameter_openapi_schema"]["properties"]["recipe"]["enum"] == ["", "quick"]
    run = services.retrain(run_name="Tasty-Otter", recipe="quick", commit_to="results")  # as the form fills it in

    assert run.state == "COMPLETED", run.message
    assert run.name == f"retrain-current-quick-{sha[:12]}"
    # The recipe has fewer epochs: what comes before the training is in the cache.
    assert [child["name"].split()[0] for child in run.children()] == ["train", "evaluate", "register"]
    assert {child["name"].split(maxsplit=1)[1] for child in run.children()} == {f"{sha[:12]} quick attempt 1"}
    computed = {"train", "evaluate", "register"}
    assert run.tasks() == {
        name: ("Completed" if name in computed else "Cached", before) for name, before in GRAPH.items()
    }
    assert project.call("git", "diff", "--name-only", sha, "results").split() == [
        "dvc.lock",
        "metrics.json",
        "params.yaml",
    ]
    assert project.call("git", "show", "results:params.yaml") == (project.root / "recipes/quick.yaml").read_text()
    assert project.call("git", "show", "results:dvc.lock") != lock
    assert project.call("git", "status", "--porcelain") == ""
    assert lock_of(project) == lock


@pytest.mark.slow
def test_a_version_made_by_a_retraining_with_a_recipe_is_rebuilt_identical(services: Services) -> None:
    run = services.retrain(recipe="quick")
    assert run.state == "COMPLETED", run.message
    version = max(services.client().search_model_versions(f"name = '{MODEL_NAME}'"), key=lambda v: int(v.version))
    assert (version.tags["segpipe.recipe"], version.tags["segpipe.git_dirty"]) == ("quick", "false")
    address = f"http://127.0.0.1:{services.mlflow_port}"
    project = Project(services.project.root, {**services.project.variables, "MLFLOW_TRACKING_URI": address})
    assert "identical." in project.call("segpipe", "registry", "rebuild", str(version.version))


def test_two_shards_predict_what_one_call_predicts(services: Services, tmp_path: Path) -> None:
    project, shots = services.project, tmp_path / "shots"
    shots.mkdir()
    for path in sorted((project.root / "data/images").iterdir())[:8]:
        shutil.copy(path, shots)
    (shots / "damaged.png").write_bytes(b"no image")
    form = {"images": str(shots), "output": str(tmp_path / "by_shards"), "shards": 2, "confidence": True}
    run_id = services.start("predict/on-demand", **form)
    call = ("segpipe", "predict", str(shots), "--output", str(tmp_path / "whole"), "--confidence")
    assert project.run(*call).returncode == 2
    run = services.wait_for(run_id)
    assert run.state == "COMPLETED", run.message
    assert services.request("GET", f"/flow_runs/{run_id}")["state"]["name"] == "Some skipped"
    assert "8 were predicted before" in run.message and "1 skipped" in run.message
    assert run.artifacts()["prediction"]["data"].count("damaged.png")
    names = {f"predict {shots} {what} attempt 1" for what in ("shard 1/2", "shard 2/2", "tables")}
    assert {child["name"] for child in run.children()} == names
    assert {child["work_pool_name"] for child in run.children()} == {"cpu"}
    whole, by_shards = (
        {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*.*") if ".progress" not in file.parts}
        for folder in (tmp_path / "whole", tmp_path / "by_shards")
    )
    assert len(whole) == 4 * 8 + len({"predictions.csv", "legend.csv", "skipped.csv", "job.json"})
    assert by_shards == whole


def test_a_bad_label_fails_its_stage_and_the_retraining_with_the_stages_message(services: Services) -> None:
    project = services.project
    mask = paint("a", 50)[1]
    mask[:8, :8] = 99
    add_sample(project.root / "data", "a_050", mask=mask)
    champion = services.client().get_model_version_by_alias(MODEL_NAME, "champion").version
    try:
        run = services.retrain()
    finally:
        for path in (project.root / "data").glob("*/a_050.png"):
            path.unlink()
    assert run.state == "FAILED"
    assert run.tasks()["preprocess"] == ("Failed", {"download"})
    *_, last = run.children()
    assert last["state"]["type"] == "FAILED"
    child = Run(services, last["id"], last["state"]["type"], last["state"]["message"])
    for text in (run.message, child.message, child.log("masks/a_050.png")):
        assert "masks/a_050.png" in text
        assert "99" in text
    assert not list((project.root / "build").glob(".*.part"))
    assert (project.root / "build/dataset/manifest.parquet").exists(), "the older results are back"
    assert services.client().get_model_version_by_alias(MODEL_NAME, "champion").version == champion


def test_down_leaves_no_process_and_a_second_one_finds_nothing(services: Services) -> None:
    assert processes_of(services.project)
    for said in ("stopped: Prefect, MLflow, worker control, worker cpu, worker gpu", "nothing was running"):
        assert services.project.call("python", "-m", "pipelines.services", "down").splitlines() == [said]
        assert processes_of(services.project) == []
    for port in (services.prefect_port, services.mlflow_port):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_taken_port_is_named_and_nothing_is_started(finished: Project) -> None:
    project = add_pipelines(finished)
    (free,) = find_free_ports(1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ports = ("--prefect-port", str(free), "--mlflow-port", str(port))
        try:
            done = project.run("python", "-m", "pipelines.services", "up", *ports)
            left = processes_of(project)
        finally:
            project.run("python", "-m", "pipelines.services", "down")
    message = message_of_refusal(done)
    assert re.search(rf"port {port}: .*; take another: `make up MLFLOW_PORT=", message)
    assert str(free) not in message
    assert left == []


RESTORE = """
from pipelines.flows import restore
from pipelines.workspace import find_revision, open_workspace
workspace = open_workspace(find_revision("current", None), print)
assert workspace.remote == "store", workspace
print("stale:", restore(workspace, print))
"""


def test_another_clone_takes_everything_from_the_remote_and_computes_nothing(finished: Project, tmp_path: Path) -> None:
    first = add_pipelines(finished)
    first.call("dvc", "remote", "add", "--default", "store", str(tmp_path / "remote"))
    first.call("git", "commit", "--quiet", "--all", "--message", "A remote")
    first.call("dvc", "push", "--quiet", "--run-cache")

    root = tmp_path / "second"
    first.call("git", "clone", "--quiet", str(first.root), str(root))
    second = with_environment(root)
    (root / "dvc.lock").unlink()
    assert second.python(RESTORE).splitlines()[-1] == "stale: None"

    assert lock_of(second) == lock_of(first)
    assert second.files() == first.files()
    for trace_of_a_stage in ("mlflow.db", "mlruns", "checkpoints"):
        assert not (root / trace_of_a_stage).exists()
    assert "Running stage" not in second.call("dvc", "repro", "--dry")
    # What a retraining does at its end: this clone's own registry gets the same champion.
    registration = json.loads(second.call("segpipe", "publish", "--json"))["registration"]
    assert registration == first.json("build/registration.json")
    champion = second.client().get_model_version_by_alias(MODEL_NAME, "champion")
    assert champion.tags["segpipe.weights_sha256"] == registration["weights_sha256"]


def test_a_clone_without_a_remote_names_the_first_stage_instead_of_running_it(
    finished: Project, tmp_path: Path
) -> None:
    first, root = add_pipelines(finished), tmp_path / "second"
    first.call("git", "clone", "--quiet", str(first.root), str(root))
    second = with_environment(root)
    code = RESTORE.replace('== "store"', "is None")
    assert second.python(code).splitlines()[-1] == "stale: download"
    assert not (root / "build").exists()
