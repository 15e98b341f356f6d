"""How many pictures a second `segpipe serve` answers, against ONNX Runtime called directly in a loop, in the same run.

`direct`: the pixels are in memory, one after another go through the exported model; no file is decoded, nothing is
encoded. `serve`: clients on the loopback send the picture's file and read an index mask as PNG, each over one
connection, the next request after the last answer. The two take turns. Wall clock; the clients share the machine's
cores with the service. Each answer's mask is compared with the direct one.

    python benchmarks/serve.py MODEL IMAGE [--seconds 10] [--clients 1 4 16] [--threads 2]

MODEL is the folder of a trained network, or of an export.
"""

import argparse
import http.client
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from segpipe.data.images import load_image
from segpipe.export.exported import ExportedModel
from segpipe.parent_death import die_with_parent
from segpipe.places import EXPORT_FILE

SEGPIPE = (sys.executable, "-c", "import sys; from segpipe.cli import main; sys.exit(main())")
PICTURE = {"Content-Type": "image/png", "Accept": "image/png"}
MIN_EQUAL_SHARE = 0.999
TURN_SECONDS = 2.0  # the two take turns: other work on the machine then slows both


@dataclass(frozen=True)
class Measured:
    """What callers saw.

    Attributes:
        lasted: of all of them.
        seconds: of each call.
        num_errors: answers that were no mask, or not the right one.
    """

    lasted: float = 0.0
    seconds: tuple[float, ...] = ()
    num_errors: int = 0

    @property
    def rate(self) -> float:
        """Pictures a second."""
        return len(self.seconds) / self.lasted

    def __add__(self, other: "Measured") -> "Measured":
        num_errors = self.num_errors + other.num_errors
        return Measured(self.lasted + other.lasted, self.seconds + other.seconds, num_errors)


@contextmanager
def serving(model: Path, threads: int | None, folder: Path) -> Iterator[int]:
    """Runs the service; gives its port."""
    command = [*SEGPIPE, "serve", "--model", str(model), "--port", "0"]
    command += [] if threads is None else ["--threads", str(threads)]
    log = (folder / "serve.log").open("w", encoding="utf-8")
    with (
        log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, preexec_fn=die_with_parent) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SystemExit((folder / "serve.log").read_text(encoding="utf-8"))
        port = int(line.rpartition(":")[2])
        time.sleep(1)
        try:
            yield port
        finally:
            process.terminate()


def ask(port: int, content: bytes, expected: np.ndarray, seconds: float, num_clients: int) -> Measured:
    """Asks the service for some seconds, by clients at once."""
    lasted: list[float] = []
    errors: list[str] = []
    ends: list[float] = []
    began = time.perf_counter()

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        answers = []
        while (start := time.perf_counter()) < began + seconds:
            connection.request("POST", "/predict", content, PICTURE)
            answer = connection.getresponse()
            answers.append((answer.status, answer.read()))
            lasted.append(time.perf_counter() - start)
        ends.append(time.perf_counter())
        for status, body in {*answers}:
            if status != 200 or (decode(body) == expected).mean() < MIN_EQUAL_SHARE:
                errors.append(f"{status} {body[:200]!r}")

    clients = [threading.Thread(target=client) for _ in range(num_clients)]
    for one in clients:
        one.start()
    for one in clients:
        one.join()
    measured = Measured(max(ends) - began, tuple(lasted), len(errors))
    for error in errors:
        print(error)
    return measured


def decode(body: bytes) -> np.ndarray:
    """Reads an index mask."""
    mask = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_UNCHANGED)
    assert mask is not None
    return np.asarray(mask)


def loop(predict: Callable[[], object], seconds: float) -> Measured:
    """Calls a function for some seconds."""
    lasted: list[float] = []
    began = time.perf_counter()
    while (start := time.perf_counter()) < began + seconds:
        predict()
        lasted.append(time.perf_counter() - start)
    return Measured(time.perf_counter() - began, tuple(lasted))


def main() -> None:
    """Measures and prints rates, latencies and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}, cores: {os.cpu_count()}")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        export = options.model
        if not (export / EXPORT_FILE).exists():
            export = folder / "export"
            command = (sys.executable, "-m", "segpipe.serving.preparing", str(options.model), str(export))
            subprocess.run(command, check=True)
        model = ExportedModel.load(export, options.threads)
        pixels = load_image(options.image, model.image_mapping).pixels
        expected = model.predict(pixels[None]).masks_NHW[0]
        with serving(export, options.threads, folder) as port:
            content = options.image.read_bytes()
            ask(port, content, expected, 1, 1)
            for num_clients in options.clients:
                direct, served = Measured(), Measured()
                for _ in range(max(1, round(options.seconds / TURN_SECONDS))):
                    direct += loop(lambda: model.predict(pixels[None]), TURN_SECONDS)
                    served += ask(port, content, expected, TURN_SECONDS, num_clients)
                report(num_clients, direct, served)


def report(num_clients: int, direct: Measured, served: Measured) -> None:
    """Prints one line."""
    p50, p99 = (1000 * statistics.quantiles(served.seconds, n=100)[number - 1] for number in (50, 99))
    alone = 1000 * statistics.median(direct.seconds)
    print(
        f"{num_clients:3} clients: direct {direct.rate:6.1f}/s (p50 {alone:.0f} ms), serve {served.rate:6.1f}/s "
        f"= {served.rate / direct.rate:.2f}, p50 {p50:.0f} ms, p99 {p99:.0f} ms, errors {served.num_errors}"
    )


if __name__ == "__main__":
    main()
