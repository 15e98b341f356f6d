"""How many pictures a second `segpipe serve` answers, against ONNX Runtime called directly in a loop, in the same run.

`direct`: the pixels are in memory, one after another go through the exported model, opened as the service opens it; no
file is decoded, nothing is encoded. `serve`: clients on the loopback send the picture's file and read an index mask as
PNG, each over one connection, the next request after the last answer. All take turns. Wall clock; the clients share the
machine's cores with the service. Each answer's mask is compared with the direct one.

    python benchmarks/serve.py MODEL IMAGE [--seconds 10] [--clients 1 4 16] [--threads 2]

MODEL is the folder of a trained network, or of an export. Others can be measured in the same run; the last two take the
picture as base64 in JSON:

    --spinning           the service, whose threads of ONNX Runtime wait for work in a loop instead of sleeping
    --litserve PYTHON    LitServe around the same ONNX file; benchmarks/peers/litserve_server.py says what PYTHON needs
    --mlflow URI         `mlflow models serve` of the registered model, with MLFLOW_TRACKING_URI set

    python benchmarks/serve.py MODEL IMAGE --move exported --seconds 60

measures the service alone while it follows an alias, which moves after a third and after two thirds of the time to
another version of the same model. The direct loop then runs before and after it, half of the time each. The versions
hold their export, as with `register.export: [onnx]`; with `--move bare` they do not, and the service makes it.
"""

import argparse
import base64
import http.client
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import psutil
from mlflow.tracking import MlflowClient

from segpipe.data.images import load_image
from segpipe.export.document import ONNX_FILE
from segpipe.export.exported import ExportedModel
from segpipe.parent_death import die_with_parent
from segpipe.places import EXPORT_FILE, EXPORTS

SEGPIPE = (sys.executable, "-c", "import sys; from segpipe.cli import main; sys.exit(main())")
# Starts the service with ONNX Runtime's own setting; the service itself offers no choice.
SPINNING = """
import sys, onnxruntime
from segpipe.cli import main
open_session = onnxruntime.InferenceSession
def open_spinning(path, options, **more):
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    return open_session(path, options, **more)
onnxruntime.InferenceSession = open_spinning
sys.exit(main())
"""
LITSERVE = Path(__file__).parent / "peers/litserve_server.py"
JSON = {"Content-Type": "application/json"}
MIN_EQUAL_SHARE = 0.999
TURN_SECONDS = 2.0  # all take turns: other work on the machine then slows each of them
START_SECONDS = 120
EXPORTED, BARE = "exported", "bare"


@dataclass(frozen=True)
class Server:
    """A server, and how it is asked.

    Attributes:
        name: in the table.
        command: starts it.
        port: it listens there.
        path: of its address.
        headers: of a request.
        body: of a request, with the picture.
        read: gives the PNG in an answer's body.
    """

    name: str
    command: tuple[str, ...]
    port: int
    path: str
    headers: dict[str, str]
    body: bytes
    read: Callable[[bytes], bytes] = bytes


@dataclass(frozen=True)
class Measured:
    """What callers saw.

    Attributes:
        lasted: of all of them.
        seconds: of each call.
        cpu_seconds: of the server's processes, or of this one where there is none.
        num_errors: answers that were no mask, or not the right one.
    """

    lasted: float = 0.0
    seconds: tuple[float, ...] = ()
    cpu_seconds: float = 0.0
    num_errors: int = 0

    @property
    def rate(self) -> float:
        """Pictures a second."""
        return len(self.seconds) / self.lasted

    def __add__(self, other: "Measured") -> "Measured":
        cpu_seconds, num_errors = self.cpu_seconds + other.cpu_seconds, self.num_errors + other.num_errors
        return Measured(self.lasted + other.lasted, self.seconds + other.seconds, cpu_seconds, num_errors)

    @property
    def cpu_ms(self) -> float:
        """Processor time of a call."""
        return 1000 * self.cpu_seconds / len(self.seconds)


def ours(
    model: Path | str, threads: int | None, content: bytes, name: str = "serve", program: tuple[str, ...] = SEGPIPE
) -> Server:
    """`segpipe serve`."""
    port = find_port()
    wanted = () if threads is None else ("--threads", str(threads))
    command = (*program, "serve", "--model", str(model), "--port", str(port), *wanted)
    headers = {"Content-Type": "image/png", "Accept": "image/png"}
    return Server(name, command, port, "/predict", headers, content)


def litserve(python: str, export: Path, threads: int | None, content: bytes) -> Server:
    """LitServe."""
    port = find_port()
    command = (python, str(LITSERVE), str(export / ONNX_FILE), str(port), str(threads or 0))
    body = json.dumps({"image": base64.b64encode(content).decode()}).encode()
    return Server("LitServe", command, port, "/predict", JSON, body)


def mlflow(uri: str, content: bytes) -> Server:
    """MLflow's own server."""
    port = find_port()
    options = ("--model-uri", uri, "--env-manager", "local", "--port", str(port))
    body = json.dumps({"dataframe_records": [{"image": base64.b64encode(content).decode()}]}).encode()

    def read(answer: bytes) -> bytes:
        return base64.b64decode(json.loads(answer)["predictions"][0])

    return Server(
        "MLflow", (sys.executable, "-m", "mlflow", "models", "serve", *options), port, "/invocations", JSON, body, read
    )


def find_port() -> int:
    """Gives a port that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(server: Server, folder: Path) -> Iterator[psutil.Process]:
    """Runs a server; waits until it listens."""
    log = folder / f"{server.name}.log"
    with (
        log.open("w", encoding="utf-8") as file,
        subprocess.Popen(
            server.command, stdout=file, stderr=file, start_new_session=True, preexec_fn=die_with_parent
        ) as process,
    ):
        try:
            deadline = time.monotonic() + START_SECONDS
            while not listens(server.port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(log.read_text(encoding="utf-8"))
                time.sleep(0.1)
            yield psutil.Process(process.pid)
        finally:
            with suppress(ProcessLookupError):  # it has ended, and its log says why
                os.killpg(process.pid, signal.SIGTERM)


def listens(port: int) -> bool:
    """Whether a server takes connections."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def cpu_seconds(process: psutil.Process) -> float:
    """Gives the processor time that a process and those below it have taken."""
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return float(sum(one.user + one.system for one in times))


def ask(server: Server, process: psutil.Process, expected: np.ndarray, seconds: float, num_clients: int) -> Measured:
    """Asks a server for some seconds, by clients at once."""
    lasted: list[float] = []
    errors: list[str] = []
    ends: list[float] = []
    began, used = time.perf_counter(), cpu_seconds(process)

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        answers = []
        try:
            while (start := time.perf_counter()) < began + seconds:
                connection.request("POST", server.path, server.body, server.headers)
                answer = connection.getresponse()
                answers.append((answer.status, answer.read()))
                lasted.append(time.perf_counter() - start)
        except (OSError, http.client.HTTPException) as error:
            errors.append(repr(error))
        ends.append(time.perf_counter())
        for status, body in {*answers}:
            if status != 200 or (decode(server.read(body)) == expected).mean() < MIN_EQUAL_SHARE:
                errors.append(f"{status} {body[:200]!r}")

    clients = [threading.Thread(target=client) for _ in range(num_clients)]
    for one in clients:
        one.start()
    for one in clients:
        one.join()
    measured = Measured(max(ends) - began, tuple(lasted), cpu_seconds(process) - used, len(errors))
    for error in errors:
        print(error)
    return measured


def measure_moving(
    options: argparse.Namespace,
    folder: Path,
    export: Path,
    content: bytes,
    expected: np.ndarray,
    direct: Callable[[], object],
) -> None:
    """Measures the service while the alias that it follows moves twice."""
    registry = f"sqlite:///{folder}/mlflow.db"
    client = MlflowClient(registry_uri=registry)
    client.create_registered_model("served")
    files = folder / "files"
    shutil.copytree(options.model, files)
    if options.move == EXPORTED:
        shutil.copytree(export, files / EXPORTS / "onnx")
    for _ in range(2):
        client.create_model_version("served", source=files.as_uri(), await_creation_for=0)
    client.set_registered_model_alias("served", "champion", "1")
    server = ours("models:/served@champion", options.threads, content)
    server = replace(server, command=(*server.command, "--registry", registry, "--poll", "1"))
    with serving(server, folder) as process:
        while not is_ready(server.port):
            time.sleep(0.1)
        for num_clients in options.clients:
            alone = loop(direct, options.seconds / 2)
            moves = [
                threading.Timer(share * options.seconds, client.set_registered_model_alias, ("served", "champion", to))
                for share, to in ((1 / 3, "2"), (2 / 3, "1"))
            ]
            for move in moves:
                move.start()
            served = ask(server, process, expected, options.seconds, num_clients)
            alone += loop(direct, options.seconds / 2)
            report(num_clients, "serve, alias moved twice", alone, served)
    log = (folder / "serve.log").read_text(encoding="utf-8")
    print(f"models changed: {log.count('model changed')}")


def is_ready(port: int) -> bool:
    """Whether `/readyz` answers 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/readyz")
    return connection.getresponse().status == 200


def decode(body: bytes) -> np.ndarray:
    """Reads an index mask."""
    mask = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_UNCHANGED)
    assert mask is not None
    return np.asarray(mask)


def loop(predict: Callable[[], object], seconds: float) -> Measured:
    """Calls a function for some seconds."""
    lasted: list[float] = []
    began, used = time.perf_counter(), time.process_time()
    while (start := time.perf_counter()) < began + seconds:
        predict()
        lasted.append(time.perf_counter() - start)
    return Measured(time.perf_counter() - began, tuple(lasted), time.process_time() - used)


def main() -> None:
    """Measures and prints rates, latencies and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--threads", type=int)
    parser.add_argument("--spinning", action="store_true")
    parser.add_argument("--litserve", metavar="PYTHON")
    parser.add_argument("--mlflow", metavar="URI")
    parser.add_argument("--move", choices=[EXPORTED, BARE])
    options = parser.parse_args()
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}, cores: {os.cpu_count()}")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        export = options.model
        if not (export / EXPORT_FILE).exists():
            export = folder / "export"
            command = (sys.executable, "-m", "segpipe.serving.preparing", str(options.model), str(export))
            subprocess.run(command, check=True)
        model = ExportedModel.load(export, options.threads, sleeps=True)  # as the service does
        pixels = load_image(options.image, model.image_mapping).pixels
        expected = model.predict(pixels[None]).masks_NHW[0]
        content = options.image.read_bytes()
        if options.move:
            measure_moving(options, folder, export, content, expected, lambda: model.predict(pixels[None]))
            return
        servers = [ours(export, options.threads, content)]
        if options.spinning:
            program = (sys.executable, "-c", SPINNING)
            servers.append(ours(export, options.threads, content, "spinning", program))
        if options.litserve:
            servers.append(litserve(options.litserve, export, options.threads, content))
        if options.mlflow:
            servers.append(mlflow(options.mlflow, content))
        with ExitStack() as running:
            processes = {server.name: running.enter_context(serving(server, folder)) for server in servers}
            for server in servers:
                ask(server, processes[server.name], expected, 1, 1)
            for num_clients in options.clients:
                direct, measured = Measured(), {server.name: Measured() for server in servers}
                for _ in range(max(1, round(options.seconds / TURN_SECONDS))):
                    direct += loop(lambda: model.predict(pixels[None]), TURN_SECONDS)
                    for server in servers:
                        process = processes[server.name]
                        measured[server.name] += ask(server, process, expected, TURN_SECONDS, num_clients)
                for name, served in measured.items():
                    report(num_clients, name, direct, served)


def report(num_clients: int, name: str, direct: Measured, served: Measured) -> None:
    """Prints one line."""
    p50, p99 = (1000 * statistics.quantiles(served.seconds, n=100)[number - 1] for number in (50, 99))
    alone = 1000 * statistics.median(direct.seconds)
    print(
        f"{num_clients:3} clients: direct {direct.rate:5.1f}/s (p50 {alone:.0f} ms, CPU {direct.cpu_ms:.0f} ms), "
        f"{name} {served.rate:5.1f}/s = {served.rate / direct.rate:.2f}, p50 {p50:.0f} ms, p99 {p99:.0f} ms, "
        f"CPU {served.cpu_ms:.0f} ms, errors {served.num_errors}",
        flush=True,
    )


if __name__ == "__main__":
    main()
