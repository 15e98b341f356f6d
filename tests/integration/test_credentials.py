"""A password in the address of a real MLflow server with users: it works, and is found nowhere afterwards."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from daemons import answers, find_free_ports, running
from integration.project import Project, environment, message_of_refusal

USER, PASSWORD = "trainer", "p%40ss:w/rd of 'hers'"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Host and port, and the folder that holds all that the server keeps."""
    folder = tmp_path_factory.mktemp("server")
    (port,) = find_free_ports(1)
    config = folder / "basic_auth.ini"
    config.write_text(
        "[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///users.db\n"
        f"admin_username = {USER}\nadmin_password = {PASSWORD.replace('%', '%%')}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n",
        encoding="utf-8",
    )
    variables = {
        **environment(folder),
        "MLFLOW_AUTH_CONFIG_PATH": str(config),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "signs forms",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    command = ["mlflow", "server", "--app-name", "basic-auth", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--serve-artifacts"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    with running(command, variables, folder / "log") as mlflow:
        mlflow.wait_until(lambda: answers(f"http://127.0.0.1:{port}/health"))
        config.unlink()  # the only place in which it may stand
        yield f"127.0.0.1:{port}", folder


def address_of(server: tuple[str, Path], password: str = PASSWORD) -> str:
    return f"http://{USER}:{quote(password, safe='')}@{server[0]}"


def with_server(project: Project, address: str) -> Project:
    return Project(project.root, {"MLFLOW_TRACKING_URI": address})


def holds_secret(content: bytes, password: str = PASSWORD) -> bool:
    forms = [password, quote(password), quote(password, safe=""), repr(password)[1:-1]]
    forms += [base64.b64encode(f"{USER}:{password}".encode()).decode()]
    return any(form.encode() in content for form in forms)


def files_with_secret(folder: Path) -> list[str]:
    return [
        path.relative_to(folder).as_posix()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".git" not in path.parts and holds_secret(path.read_bytes())
    ]


# Each of the hundreds of files of a model is a request, and for each the server hashes the password.
@pytest.mark.slow
def test_a_password_in_the_address_works_and_is_kept_nowhere(server: tuple[str, Path], finished: Project) -> None:
    address = address_of(server)
    source = f"download: {{source: data, format: folder}}  # once {address}/boxes.zip?token=1"
    params = finished.root / "params.yaml"
    params.write_text(params.read_text().replace("download: {source: data, format: folder}", source))
    (finished.root / "boxes.dvc").write_text(f"deps:\n- path: {address}/boxes.zip\nouts:\n- path: boxes.zip\n")
    finished.call("rm", "-rf", "checkpoints")
    finished.stage("train")  # keeps what it came from, for the publish
    assert files_with_secret(finished.root) == ["boxes.dvc", "params.yaml"]

    project = with_server(finished, address)
    said = []
    for command in (
        ["publish"],
        ["registry", "show", "1", "--json"],
        ["registry", "lineage", "champion", "--json"],
    ):
        done = project.run("segpipe", *command)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout + done.stderr)
    assert f"http://{server[0]}" in said[0]
    assert not holds_secret("".join(said).encode())
    assert files_with_secret(finished.root) == ["boxes.dvc", "params.yaml"]
    assert files_with_secret(server[1]) == []
    # What a run keeps is what was written, without the secret.
    (kept,) = (server[1] / "artifacts").rglob("lineage/params.yaml")
    assert f"# once http://{server[0]}/boxes.zip?...\n" in kept.read_text()
    (patch,) = (server[1] / "artifacts").rglob("lineage/uncommitted.patch")
    assert b"passwords and queries were removed" in patch.read_bytes()


def refuse(project: Project, place: str) -> str:
    """Asks a server with a wrong password; gives the message, which does not hold it."""
    wrong = f"http://{USER}:{quote('wr/ng', safe='')}@{place}"
    done = with_server(project, wrong).run("segpipe", "registry", "list")
    assert not holds_secret((done.stdout + done.stderr).encode(), "wr/ng")
    message = message_of_refusal(done)
    assert f"http://{place}" in message
    return message


@pytest.mark.slow
def test_a_server_that_refuses_is_told_without_the_password(server: tuple[str, Path], finished: Project) -> None:
    assert "MLFLOW_TRACKING_PASSWORD" in refuse(finished, server[0])


def test_a_server_that_is_down_is_told_without_the_password(finished: Project) -> None:
    (port,) = find_free_ports(1)
    assert "; start it" in refuse(finished, f"127.0.0.1:{port}")


def test_an_address_that_cannot_be_read_is_told_without_the_password(finished: Project) -> None:
    done = with_server(finished, "http://trainer:p%40ss:w/rd@127.0.0.1:1").run("segpipe", "registry", "list")
    message = message_of_refusal(done)
    assert "%2F for /" in message
    assert "ss:w" not in done.stdout + done.stderr
