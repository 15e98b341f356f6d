"""The time of `segpipe registry list`, `show` and `history` at 1,000 versions, compared with MLflow's minimum.

Fills a SQLite store in a temporary folder with 1,000 versions and as many entries of the ledger, then runs each command
as its user does. The peer is a Python process that imports MLflow, opens the same store and fetches one version.
CPU seconds, which other work on the machine disturbs less; medians of RUNS; the peer takes its turn after each command.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from segpipe.config.params import load_config
from segpipe.registry.champion import CHAMPION, identify
from segpipe.registry.ledger import Entry, Ledger, append, mark_applied
from segpipe.tracking.client import connect

NUM_VERSIONS, RUNS = 1000, 5
PARAMS = Path(__file__).parents[1] / "params.yaml"
CLASSES = [f"class_{index}" for index in range(11)]
COMMANDS = (("list",), ("show", str(NUM_VERSIONS // 2)), ("history",))
PEER = "from mlflow import MlflowClient; MlflowClient('sqlite:///mlflow.db').get_model_version({!r}, '1')"


def fill(model_name: str) -> None:
    """Registers and decides, without models: only the numbers of rows and tags matter."""
    client = connect()
    client.create_registered_model(model_name)
    deltas = {name: {"value": 0.01, "low": -0.01, "high": 0.03} for name in CLASSES}
    ledger = Ledger(model_name, (), 0, ())
    for number in range(NUM_VERSIONS):
        tags = {
            "segpipe.weights_sha256": f"{number:064x}",
            "segpipe.evaluation_digest": "e" * 32,
            "segpipe.val_mean_iou": "0.6",
            "segpipe.val_mean_iou_interval": "0.5000 to 0.7000",
            "segpipe.git_commit": "a" * 40,
            "segpipe.decision": "not promoted",
            "segpipe.reasons": json.dumps(["Not better beyond chance: " + "figures " * 30]),
            **{f"segpipe.val_iou.{name}": "0.5" for name in CLASSES},
            **{f"segpipe.environment.package_{index}": "1.2.3" for index in range(18)},
            **{f"segpipe.dvc.build/{index}": "1" * 32 for index in range(5)},
        }
        version = client.create_model_version(model_name, "filled:/nothing", tags=tags, await_creation_for=0)
        held = identify(version)
        entry = Entry(
            previous=ledger.head,
            time_ms=time.time_ns() // 1_000_000,
            who="user@machine",
            action="not promoted" if number else "promoted",
            about=held,
            reasons=("Not better beyond chance: " + "figures " * 30,),
            evidence={"delta": deltas[CLASSES[0]], "class_deltas": deltas},
            champion_before=ledger.champion,
            champion_after=ledger.champion or held,
            is_pinned=False,
        )
        ledger = append(client, ledger, entry) or ledger
        if entry.moves_alias:
            client.set_registered_model_alias(model_name, CHAMPION, held.version)
            mark_applied(client, ledger)


def seconds_of(command: list[str], folder: Path) -> float:
    """Gives the CPU seconds of a command that must succeed."""
    env = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, env=env, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Prints the table."""
    model_name = load_config(PARAMS).register_.model_name
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "params.yaml").write_bytes(PARAMS.read_bytes())
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        fill(model_name)
        peer = [sys.executable, "-c", PEER.format(model_name)]
        print("| command | CPU seconds | MLflow fetching one version | ratio |\n| --- | ---: | ---: | ---: |")
        for command in COMMANDS:
            ours, theirs = [], []
            for _ in range(RUNS):
                ours.append(seconds_of(["segpipe", "registry", *command], folder))
                theirs.append(seconds_of(peer, folder))
            median, base = statistics.median(ours), statistics.median(theirs)
            print(f"| `{' '.join(command)}` | {median:.2f} | {base:.2f} | {median / base:.2f} |")


if __name__ == "__main__":
    main()
