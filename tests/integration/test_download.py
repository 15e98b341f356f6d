"""`download` from a real https server on this machine."""

import contextlib
import hashlib
import http.server
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.project import Project


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; `/broken/NAME` announces all of NAME and sends half of it."""

    def do_GET(self) -> None:
        if not self.path.startswith("/broken/"):
            super().do_GET()
            return
        content = Path(self.directory, Path(self.path).name).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])

    def log_message(self, *arguments: object) -> None:
        pass


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
def server(certificate: Path, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """An https server's address and the folder it serves."""
    folder = tmp_path / "served"
    folder.mkdir()
    listening = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *arguments: Handler(*arguments, directory=str(folder))
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    listening.socket = context.wrap_socket(listening.socket, server_side=True)
    listening.handle_error = lambda *_: None
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    yield f"https://127.0.0.1:{listening.server_port}", folder
    listening.shutdown()
    thread.join()
    listening.server_close()


@pytest.fixture
def client(sources: Project, server: tuple[str, Path], certificate: Path) -> Project:
    """A project whose data lies on the server as labels.zip."""
    address, folder = server
    shutil.make_archive(str(folder / "labels"), "zip", sources.root / "data")
    sources.change_params("download.source", f"{address}/labels.zip")
    sources.change_params("download.sha256", hashlib.sha256((folder / "labels.zip").read_bytes()).hexdigest())
    return Project(sources.root, {"SSL_CERT_FILE": str(certificate), "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"})


def test_an_archive_comes_over_https(client: Project) -> None:
    client.stage("download")
    source = client.json("build/raw/source.json")
    assert source["name"] == "labels"
    assert source["sha256"].keys() == {path.removeprefix("data/") for path in client.files("data")}
    client.stage("preprocess")
    assert not list((client.root / "build/raw").glob("*.zip"))


def test_another_content_than_expected(client: Project) -> None:
    client.change_params("download.sha256", "0" * 64)
    message = client.refused("download")
    assert "has another content than expected" in message
    assert client.files() == {}


def test_a_connection_that_breaks(client: Project, server: tuple[str, Path]) -> None:
    client.change_params("download.source", f"{server[0]}/broken/labels.zip")
    message = client.refused("download")
    assert f"{server[0]}/broken/labels.zip: " in message
    assert client.files() == {}


def test_a_file_that_the_server_does_not_have(client: Project, server: tuple[str, Path]) -> None:
    client.change_params("download.source", f"{server[0]}/other.zip")
    assert "404" in client.refused("download")
    assert client.files() == {}


def test_a_server_that_refuses_the_connection(client: Project) -> None:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        client.change_params("download.source", f"https://127.0.0.1:{probe.getsockname()[1]}/labels.zip")
        assert "cannot be downloaded: " in client.refused("download")
    assert client.files() == {}


def test_a_certificate_that_nobody_vouches_for(client: Project) -> None:
    distrustful = Project(client.root, {**client.variables, "SSL_CERT_FILE": "/dev/null"})
    assert "CERTIFICATE_VERIFY_FAILED" in distrustful.refused("download")
    assert client.files() == {}


def test_an_address_without_sha256_or_without_tls_is_refused(client: Project) -> None:
    client.change_params("download.source", client_address(client).replace("https://", "http://"))
    assert "an address must begin with https://" in client.refused("download")
    client.change_params("download.source", "https://127.0.0.1/labels.zip")
    client.change_params("download.sha256", None)
    assert "must be given for an address" in client.refused("download")


def client_address(client: Project) -> str:
    text = (client.root / "params.yaml").read_text(encoding="utf-8")
    return "https://" + text.partition("https://")[2].split()[0].rstrip(",}")
