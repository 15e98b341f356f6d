"""`download` from a real https server on this machine."""

import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from facts import missing
from integration.project import Project
from web_server import Served, breaks_after, says, serve


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 and its key, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    path = tmp_path_factory.mktemp("certificate") / "server.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(path) + ".key"]
    command = ["openssl", "req", "-x509", "-days", "2", *key, "-out", str(path), *subject]
    subprocess.run(command, check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + Path(f"{path}.key").read_bytes())
    return path


@pytest.fixture
def server(certificate: Path, sources: Project) -> Iterator[Served]:
    """An https server that holds the project's data as an archive."""
    archive = shutil.make_archive(str(sources.root.with_name("labels")), "zip", sources.root / "data")
    with serve(Served(Path(archive).read_bytes()), certificate) as served:
        yield served


@pytest.fixture
def client(sources: Project, server: Served, certificate: Path, tmp_path: Path) -> Project:
    """A project whose data lies on the server as labels.zip, and that does not wait between two tries."""
    sources.change_params("download.source", "labels.yaml")
    sha256 = hashlib.sha256(server.content).hexdigest()
    write_remote(sources, source=f"{server.address}/labels.zip", sha256=sha256)
    (tmp_path / "impatient").mkdir()
    (tmp_path / "impatient/sitecustomize.py").write_text("import time\ntime.sleep = lambda seconds: None\n")
    path = os.pathsep.join([str(tmp_path / "impatient"), str(sources.root / "src")])
    no_proxy = {"no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
    return Project(sources.root, {"SSL_CERT_FILE": str(certificate), "PYTHONPATH": path, **no_proxy})


def write_remote(project: Project, **changes: str | bool | None) -> None:
    """Changes the file that says where the data lies."""
    path = project.root / "labels.yaml"
    document = {**(json.loads(path.read_text()) if path.exists() else {}), **changes}
    path.write_text(json.dumps(document))  # JSON is YAML


def test_an_archive_comes_over_https(client: Project) -> None:
    client.stage("download")
    source = client.json("build/raw/source.json")
    assert source["name"] == "labels"
    labels = [path for path in client.files("build/raw") if path.startswith("build/raw/labels/")]
    assert labels == [path.replace("data/", "build/raw/labels/", 1) for path in client.files("data")]
    client.stage("preprocess")
    assert not list((client.root / "build/raw").rglob("*.zip"))


def test_a_second_run_needs_no_server(client: Project, server: Served) -> None:
    client.stage("download")
    shutil.rmtree(client.root / "build")
    write_remote(client, source="https://127.0.0.1:1/labels.zip")
    client.stage("download")
    assert len(server.requests) == 1


def test_another_content_than_expected(client: Project) -> None:
    write_remote(client, sha256="0" * 64)
    message = client.refused("download")
    assert not missing(message, "its content", f"`sha256:` is {'0' * 64}", "get the file again")
    assert client.files() == {}


def test_a_connection_that_breaks_is_taken_up(client: Project, server: Served) -> None:
    server.script = [breaks_after(1000)]
    client.stage("download")
    assert server.ranges() == [None, "bytes=1000-"]


def test_a_connection_that_always_breaks(client: Project, server: Served) -> None:
    server.script = [breaks_after(1000)] * 20
    message = client.refused("download")
    assert f"{server.address}/labels.zip: cannot be downloaded: " in message
    assert "next run" in message
    assert client.files() == {}
    server.script = []
    client.stage("download")
    assert server.ranges()[-1] == "bytes=1000-"


def test_a_file_that_the_server_does_not_have(client: Project, server: Served) -> None:
    server.script = [says(404)]
    assert not missing(client.refused("download"), "server", "says 404")
    assert client.files() == {}


def test_a_server_that_refuses_the_connection(client: Project) -> None:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        write_remote(client, source=f"https://127.0.0.1:{probe.getsockname()[1]}/labels.zip")
        assert not missing(client.refused("download"), "downloaded", "[Errno 111]")
    assert client.files() == {}


def test_a_certificate_that_nobody_vouches_for(client: Project, server: Served) -> None:
    distrustful = Project(client.root, {**client.variables, "SSL_CERT_FILE": "/dev/null"})
    message = distrustful.refused("download")
    assert "CERTIFICATE_VERIFY_FAILED" in message
    assert "SSL_CERT_FILE" in message
    assert server.requests == []
    assert client.files() == {}


@pytest.mark.parametrize("is_allowed", [False, True])
def test_a_redirect_from_https_to_http(client: Project, server: Served, is_allowed: bool) -> None:
    write_remote(client, allow_http=is_allowed)
    with serve(Served(server.content)) as plain:
        server.script = [says(302, Location=f"{plain.address}/labels.zip")]
        if is_allowed:
            client.stage("download")
        else:
            assert f"leads to {plain.address}/labels.zip, which is not https" in client.refused("download")
        assert len(plain.requests) == is_allowed


def test_an_address_without_sha256_or_without_tls_is_refused(client: Project, server: Served) -> None:
    write_remote(client, source=server.address.replace("https://", "http://") + "/labels.zip")
    assert not missing(client.refused("download"), "address", "https://")
    write_remote(client, source=f"{server.address}/labels.zip")
    write_remote(client, sha256=None)
    assert "sha256" in client.refused("download")
    assert server.requests == []


def test_nothing_secret_is_shown(client: Project, server: Served) -> None:
    address = server.address.replace("https://", "https://me:pass-word@") + "/labels.zip?token=to-ken"
    write_remote(client, source=address)
    server.script = [says(503)] * 2 + [says(404)]
    said = client.refused("download") + client.stage("download")
    assert "pass-word" not in said
    assert "to-ken" not in said
    assert b"to-ken" not in client.files()["build/raw/source.json"]
