"""`segpipe serve` as a process: what it answers, whom it refuses, how it follows the registry, and how it ends."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import io
import json
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from facts import missing
from fresh_store import _empty_store, client
from integration.serving import PNG, SEGPIPE, Load, Server, draw_png, environment, read_mask, serving
from mlflow.tracking import MlflowClient
from tiny_network import write_network

from segpipe.inference.network import Network
from segpipe.serving import backends
from segpipe.serving.samples import SAMPLES_FILE

__all__ = ["_empty_store", "client"]
NAME, SECRET, TOKEN = "streets", "what both know", "a token of some length"
CPU = torch.device("cpu")
PROMPT_SECONDS = 3.0  # for a refusal, on a busy machine
NUM_CONNECTIONS, MAX_CONNECTIONS_MB = 500, 60
TIMEOUT_SECONDS = 2


def export(seed: int, folder: Path) -> Path:
    """Writes a network and its export into one folder, as a version of the registry may hold them."""
    network = write_network(folder / "network", seed)
    backends._export(network, folder / "export")
    for file in network.iterdir():
        file.rename(folder / "export" / file.name)
    return folder / "export"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(0, tmp_path_factory.mktemp("first"))


@pytest.fixture(scope="module")
def server(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all requests that must leave it unharmed."""
    options = ("--max-bytes", "3000000", "--timeout", str(TIMEOUT_SECONDS))
    with serving(tmp_path_factory.mktemp("serve"), "--model", str(exported), *options) as started:
        yield started


@pytest.fixture
def unharmed(server: Server, exported: Path) -> Iterator[Server]:
    """The service, which must answer rightly afterwards, soon, and without having taken much memory."""
    yield server
    content, pixels = draw_png(96, 131)
    began = time.monotonic()
    answer = httpx.post(f"{server.address}/predict", content=content, headers=PNG)
    assert time.monotonic() - began < PROMPT_SECONDS
    expected = Network.load(exported, CPU).predict(pixels[None])[0]
    assert (read_mask(answer) == expected).mean() > 0.999
    assert server.peak_mb() < 900


def bomb(height: int, width: int) -> bytes:
    """A PNG of kilobytes that claims any size, and holds zeros that unpack to a part of it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1 << 20), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "status", "facts"),
    [
        (b"no picture at all", 415, ("not an image",)),
        (bomb(30_000, 30_000), 413, ("30000x30000", "--max-px")),
        (bomb(40, 30_000_000), 413, ("30000000x40",)),
        (bomb(2000, 2000), 422, ("cannot be decoded",)),
        (bytes(3_000_001), 413, ("3000001", "--max-bytes")),
    ],
)
def test_a_hostile_body_is_refused_at_once(
    unharmed: Server, content: bytes, status: int, facts: tuple[str, ...]
) -> None:
    began = time.monotonic()
    answer = httpx.post(f"{unharmed.address}/predict", content=content, headers=PNG)
    assert time.monotonic() - began < PROMPT_SECONDS
    assert answer.status_code == status
    assert not missing(answer.json()["reason"], *facts)


def test_a_body_without_a_length_is_counted_while_it_comes(unharmed: Server) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(400):
            yield bytes(10_000)

    answer = httpx.post(f"{unharmed.address}/predict", content=endless(), headers=PNG)
    assert answer.status_code == 413


def read_status(connection: socket.socket) -> str:
    connection.settimeout(20)
    return connection.recv(4096).decode(errors="replace").partition("\r\n")[0]


def test_a_slow_sender_is_told_so_and_an_idle_connection_closed(unharmed: Server) -> None:
    head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{unharmed.port}\r\nContent-Type: image/png\r\n"
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", unharmed.port)) as slow:
        slow.sendall(f"{head}Content-Length: 1000\r\n\r\n123".encode())
        with (
            socket.create_connection(("127.0.0.1", unharmed.port)) as half,
            socket.create_connection(("127.0.0.1", unharmed.port)) as idle,
        ):
            half.sendall(head.encode())
            assert read_status(slow) == "HTTP/1.1 408 Request Timeout"
            assert read_status(half) == read_status(idle) == ""
    assert time.monotonic() - began < TIMEOUT_SECONDS + PROMPT_SECONDS


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextlib.contextmanager
def many_files(number: int) -> Iterator[None]:
    """Lets this process open so many files; many a shell allows 256 or 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number if hard == resource.RLIM_INFINITY else min(hard, number)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_500_connections_at_once_keep_nobody_out(unharmed: Server) -> None:
    """Half of them stay in the middle of a request, the others all ask."""
    content, _ = draw_png(40, 56)
    head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{unharmed.port}\r\nContent-Type: image/png\r\n"
    whole = f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content
    before_mb = unharmed.peak_mb()
    with many_files(2048), contextlib.ExitStack() as stack:
        connections = [
            stack.enter_context(socket.create_connection(("127.0.0.1", unharmed.port))) for _ in range(NUM_CONNECTIONS)
        ]
        ports = {connection.getsockname()[1] for connection in connections}
        wait_for(lambda: ports <= unharmed.ports_of_clients())
        silent, asking = connections[::2], connections[1::2]
        for connection in silent:
            connection.sendall(head.encode())
        for connection in asking:
            connection.sendall(whole)
        began = time.monotonic()
        assert httpx.get(f"{unharmed.address}/readyz").status_code == 200
        assert time.monotonic() - began < PROMPT_SECONDS
        said = {read_status(connection) for connection in asking}
        assert "HTTP/1.1 200 OK" in said
        assert said <= {"HTTP/1.1 200 OK", "HTTP/1.1 429 Too Many Requests"}
    assert unharmed.peak_mb() - before_mb < MAX_CONNECTIONS_MB


def test_a_name_of_a_file_leads_nowhere(unharmed: Server) -> None:
    content, _ = draw_png(40, 56)
    names = {"../../../tmp/evil.png": 200, "/etc/passwd": 200, "a\nb.png": 200, "x" * 5000 + ".png": 400}
    for name, status in names.items():
        files = {"file": (name, content, "image/png")}
        answer = httpx.post(f"{unharmed.address}/predict", files=files, headers={"Accept": "application/json"})
        assert answer.status_code == status
    for line in unharmed.daemon.log.read_text(encoding="utf-8").splitlines()[1:]:
        assert json.loads(line)["event"] == "request"


def test_another_host_or_origin_is_refused(unharmed: Server) -> None:
    for headers, status in (({"Host": "evil.example"}, 421), ({"Origin": "https://evil.example"}, 403)):
        answer = httpx.post(f"{unharmed.address}/predict", content=draw_png(40, 56)[0], headers={**PNG, **headers})
        assert answer.status_code == status


def test_nonsense_instead_of_http_is_refused(unharmed: Server) -> None:
    for nonsense in (b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"A" * 100_000):
        with socket.create_connection(("127.0.0.1", unharmed.port)) as connection:
            connection.sendall(nonsense)
            connection.shutdown(socket.SHUT_WR)
            assert read_status(connection) in ("HTTP/1.1 400 Bad Request", "")


def refused_start(*arguments: str, **variables: str) -> str:
    done = subprocess.run(
        [*SEGPIPE, "serve", *arguments], env=environment(**variables), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_start_that_cannot_be_says_what_to_write(server: Server, exported: Path, tmp_path: Path) -> None:
    model = ("--model", str(exported))
    assert not missing(refused_start("--host", "0.0.0.0", *model), "export SEGPIPE_SERVE_TOKEN=")
    assert not missing(refused_start(*model, "--port", "0", "--challenger"), str(exported), "--challenger ADDRESS")
    assert not missing(refused_start("--port", str(server.port), *model), str(server.port), "in use", "--port")
    assert not missing(refused_start("--model", str(tmp_path / "none"), "--port", "0"), "none", "no such folder")


@pytest.mark.slow
def test_other_machines_need_the_token(exported: Path, tmp_path: Path) -> None:
    content, _ = draw_png(40, 56)
    with serving(tmp_path, "--model", str(exported), host="0.0.0.0", SEGPIPE_SERVE_TOKEN=TOKEN) as open_to_all:
        for given, status in ((None, 401), ("wrong", 401), (TOKEN, 200)):
            headers = PNG if given is None else {**PNG, "Authorization": f"Bearer {given}"}
            answer = httpx.post(f"{open_to_all.address}/predict", content=content, headers=headers)
            assert answer.status_code == status
        assert TOKEN not in open_to_all.daemon.log.read_text(encoding="utf-8")


@pytest.mark.slow
def test_sigterm_answers_what_was_accepted_and_ends_with_0(exported: Path, tmp_path: Path) -> None:
    content, _ = draw_png(400, 500)
    with serving(tmp_path, "--model", str(exported)) as server:
        load = Load(server.address, content)
        with load.by(6):
            time.sleep(2)
            ended = time.monotonic()
            server.daemon.process.send_signal(signal.SIGTERM)
            assert server.daemon.process.wait(30) == 0
    assert {answer.status_code for answer in load.answers} == {200}
    assert all(moment >= ended for moment, _ in load.failures)
    log = [json.loads(line) for line in server.daemon.log.read_text(encoding="utf-8").splitlines()[1:]]
    assert len([line for line in log if line["path"] == "/predict"]) == len(load.answers)


LOADS_FOR_EVER = """
import sys, tempfile, threading
from pathlib import Path
from segpipe.cli import main, serve
from segpipe.serving import backends
from segpipe.serving.following import Follower, Source, Watch

folder, tempfile.tempdir = Path(sys.argv[1]), sys.argv[2]
is_loading = threading.Event()

def run(options, access, limits, bound, workspace):
    def load(files, version):
        while True:
            backends._load(folder, "onnx", files / "export", None)
            is_loading.set()

    source = Source("streets", "champion", lambda: "2", lambda version, place: place)
    watch = Watch(Follower(None, workspace, source, load))
    watch.start()
    is_loading.wait()
    watch.stop()
    sys.stdout.write("served")
    return watch

serve._run, serve.LOADING_SECONDS = run, 0.1
sys.exit(main(["serve", "--port", "0"]))
"""


def test_the_end_breaks_off_a_load_without_an_abort_and_leaves_no_folder(exported: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", LOADS_FOR_EVER, str(exported), str(tmp_path)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "served", "")
    assert not list(tmp_path.iterdir())


def sign(body: bytes) -> dict[str, str]:
    """The headers of a call of MLflow's webhook."""
    moment = str(int(time.time()))
    digest = hmac.digest(SECRET.encode(), b".".join([b"1", moment.encode(), body]), hashlib.sha256)
    signature = "v1," + base64.b64encode(digest).decode()
    return {"X-MLflow-Delivery-Id": "1", "X-MLflow-Timestamp": moment, "X-MLflow-Signature": signature}


@pytest.mark.slow
def test_an_alias_moves_under_load_and_no_request_is_lost(client: MlflowClient, exported: Path, tmp_path: Path) -> None:
    second = export(1, tmp_path / "second")
    broken = export(2, tmp_path / "broken")
    (broken / SAMPLES_FILE).write_bytes((second / SAMPLES_FILE).read_bytes())  # torch would give other masks
    client.create_registered_model(NAME)
    for folder in (exported, second, broken):
        client.create_model_version(NAME, source=folder.as_uri(), await_creation_for=0)
    client.set_registered_model_alias(NAME, "champion", "1")
    content, pixels = draw_png(96, 131)
    masks = {
        version: Network.load(folder, CPU).predict(pixels[None])[0]
        for version, folder in (("1", exported), ("2", second))
    }
    assert (masks["1"] != masks["2"]).mean() > 0.1

    registry = ("--registry", f"sqlite:///{tmp_path}/mlflow.db")
    options = ("--model", f"models:/{NAME}@champion", *registry, "--poll", "600")
    with serving(tmp_path / "serve", *options, SEGPIPE_SERVE_WEBHOOK_SECRET=SECRET) as server:

        def state() -> dict[str, object]:
            document: dict[str, object] = httpx.get(f"{server.address}/readyz").json()
            return document

        def move(version: str) -> None:
            client.set_registered_model_alias(NAME, "champion", version)
            body = json.dumps({"entity": "model_version_alias", "data": {"version": version}}).encode()
            refused = httpx.post(f"{server.address}/hooks/mlflow", content=body)
            assert refused.status_code == 401
            assert httpx.post(f"{server.address}/hooks/mlflow", content=body, headers=sign(body)).status_code == 202

        def served_version() -> object:
            return state()["model"]["version"]  # type: ignore[index]

        load = Load(server.address, content)
        with load.by(4):
            move("2")
            wait_for(lambda: served_version() == "2")
            time.sleep(0.5)
            move("3")
            wait_for(lambda: state()["trouble"] is not None)
            assert served_version() == "2"
            move("1")
            wait_for(lambda: served_version() == "1")
            time.sleep(0.5)
            assert state()["trouble"] is None
        assert load.failures == []
        seen = [answer.headers["x-segpipe-version"] for answer in load.answers]
        assert {answer.status_code for answer in load.answers} == {200}
        assert set(seen) == {"1", "2"}
        for version, answer in zip(seen, load.answers, strict=True):
            assert (read_mask(answer) == masks[version]).mean() > 0.999
        metrics = httpx.get(f"{server.address}/metrics").text
        assert not missing(
            metrics,
            'outcome="loaded",role="champion"} 2.0',
            'outcome="failed",role="champion"} 1.0',
            'segpipe_model_outdated{role="champion"} 0.0',
        )
        log = server.daemon.log.read_text(encoding="utf-8")
        assert not missing(log, '"event": "model changed"', '"event": "model not changed"', "differ from torch")


def test_a_picture_of_16_bits_is_read_as_predict_reads_it(server: Server, exported: Path) -> None:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray((np.arange(40 * 56, dtype=np.uint16) * 20).reshape(40, 56)).save(buffer, "PNG")
    answer = httpx.post(f"{server.address}/predict", content=buffer.getvalue(), headers=PNG)
    assert answer.status_code == 422
    assert not missing(answer.json()["reason"], "16")
