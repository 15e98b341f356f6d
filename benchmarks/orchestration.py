"""The overhead of Prefect: for a retraining without stale stages, and for each stage, compared with `dvc repro`.

Needs the services of this clone (`make up`, then `. pipelines/login.sh` in this shell) and a clean commit. The
retrainings use `recipes/smoke.yaml`, in their own clone; the peer is `dvc repro --force` in the same clone. Both run in
turn. Seconds, medians of RUNS.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import cast

from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment

from pipelines.workspace import HOME, find_revision, open_workspace

RUNS = 3
RECIPE = "smoke"


def retrain(force: bool) -> float:
    """Seconds from the order to the end of a retraining."""
    parameters = {"revision": find_revision("current", None).sha, "recipe": RECIPE, "force": force}
    run = cast(FlowRun, run_deployment("retrain/on-demand", parameters=parameters, poll_interval=0.2))
    if run.state is None or not run.state.is_completed():
        sys.exit(f"the retraining failed: {run.state and run.state.message}")
    assert run.end_time is not None and run.expected_start_time is not None
    return (run.end_time - run.expected_start_time).total_seconds()


def plain_repro(root: Path) -> float:
    """Seconds of `dvc repro --force` in the retraining's clone."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
    env["PYTHONPATH"] = str(root / "src")
    begin = time.monotonic()
    subprocess.run([str(HOME / ".venv/bin/dvc"), "repro", "--force", "--quiet"], cwd=root, env=env, check=True)
    return time.monotonic() - begin


def main() -> None:
    """Prints the figures."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    retrain(force=False)  # makes the clone and warms the caches
    root = open_workspace(find_revision(find_revision("current", None).sha, RECIPE), print).root
    idle = [retrain(force=False) for _ in range(RUNS)]
    print(f"nothing stale: {statistics.median(idle):.1f} s ({', '.join(f'{value:.1f}' for value in idle)})")
    pairs = [(retrain(force=True), plain_repro(root)) for _ in range(RUNS)]
    flow, plain = (statistics.median(values) for values in zip(*pairs, strict=True))
    each = statistics.median((ours - peer - statistics.median(idle)) / 6 for ours, peer in pairs)
    print(f"six stages: {flow:.1f} s as a retraining, {plain:.1f} s by `dvc repro --force`, ratio {flow / plain:.2f}")
    print(f"on top of a stage: {each:.1f} s; and {statistics.median(idle):.1f} s of the retraining itself")


if __name__ == "__main__":
    main()
