"""Refuses to run a stage with code from another folder than its own `src/`.

DVC hashes the sources of its working directory. An installed segpipe is the code of the clone that it was installed
from. In the folder of an experiment, a worktree or another clone, DVC would then record code that did not run.
"""

import sys
from pathlib import Path

import segpipe
from segpipe.places import STAGE_MODULES
from segpipe.stages.parent import started_stage

SOURCES = Path("src")


def refuse_foreign_code() -> None:
    """Ends a process that was started as `python -m segpipe.stages.NAME` with code from outside `./src`."""
    stage = started_stage()
    if not stage:
        return
    running, own = Path(segpipe.__path__[0]).resolve().parent, SOURCES.resolve()
    if running == own:
        return
    sys.exit(
        f"segpipe: this process runs the code in {running}, but DVC records the code in {own}; run "
        f"`PYTHONPATH=src python -m {STAGE_MODULES}{stage}` in {own.parent}, or `dvc repro`"
    )
