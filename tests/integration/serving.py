"""The process of `segpipe serve`, as a user starts it."""

import contextlib
import io
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import psutil
from daemons import Daemon, answers, find_free_ports, running
from PIL import Image

SOURCES = Path(__file__).parents[2] / "src"
SEGPIPE = (sys.executable, "-c", "import sys; from segpipe.cli import main; sys.exit(main())")
PNG = {"Content-Type": "image/png"}


@dataclass(frozen=True)
class Server:
    """A running service.

    Attributes:
        daemon: its process and its log.
        address: of it.
    """

    daemon: Daemon
    address: str

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def ports_of_clients(self) -> set[int]:
        """The ports of those whose connections it has taken."""
        connections = psutil.Process(self.daemon.process.pid).net_connections("tcp")
        return {connection.raddr.port for connection in connections if connection.raddr}

    def peak_mb(self) -> float:
        """The most memory that it has held."""
        status = Path(f"/proc/{self.daemon.process.pid}/status").read_text(encoding="utf-8")
        (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) / 1024


def environment(**variables: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "SEGPIPE_"))}
    return {**inherited, "PYTHONPATH": str(SOURCES), "OMP_NUM_THREADS": "1", **variables}


@contextlib.contextmanager
def serving(folder: Path, *arguments: str, host: str = "127.0.0.1", **variables: str) -> Iterator[Server]:
    """Runs `segpipe serve` in a folder, for its log too."""
    (port,) = find_free_ports(1)
    command = [*SEGPIPE, "serve", "--host", host, "--port", str(port), *arguments]
    folder.mkdir(parents=True, exist_ok=True)
    with running(command, environment(**variables), folder / "serve.log") as daemon:
        address = f"http://127.0.0.1:{port}"
        daemon.wait_until(lambda: answers(f"{address}/healthz"))
        yield Server(daemon, address)


def draw_png(height: int, width: int, seed: int = 0) -> tuple[bytes, np.ndarray]:
    """A picture of blocks of colour, as a PNG and as (height, width, 3) pixels."""
    blocks = np.random.default_rng(seed).integers(0, 256, (-(-height // 16), -(-width // 16), 3), np.uint8)
    pixels = blocks.repeat(16, 0).repeat(16, 1)[:height, :width]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue(), pixels


def read_mask(answer: httpx.Response) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(answer.content)))


@dataclass
class Load:
    """Clients that ask again and again.

    Attributes:
        address: of the service.
        content: a picture.
        answers: that came.
        failures: requests without one, by the time of their failure.
    """

    address: str
    content: bytes
    answers: list[httpx.Response] = field(default_factory=list)
    failures: list[tuple[float, Exception]] = field(default_factory=list)
    _is_over: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def by(self, num_clients: int) -> Iterator["Load"]:
        threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(num_clients)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._is_over.set()
            for thread in threads:
                thread.join(60)
                assert not thread.is_alive()

    def _ask(self) -> None:
        with httpx.Client(base_url=self.address, timeout=30) as client:
            while not self._is_over.is_set():
                try:
                    self.answers.append(client.post("/predict", content=self.content, headers=PNG))
                except httpx.HTTPError as error:
                    self.failures.append((time.monotonic(), error))
                    time.sleep(0.05)
