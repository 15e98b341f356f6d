"""A stage runs the code of the tree that it works in.

DVC hashes the sources of its working directory. In the folder of an experiment, in a worktree or in another clone, an
installed segpipe would be that of the clone it was installed from: what ran would not be what was recorded.
"""

import sys
from itertools import pairwise
from pathlib import Path

import segpipe
from segpipe.places import STAGE_MODULES

SOURCES = Path("src")


def refuse_foreign_code() -> None:
    """Ends a process that was started as `python -m segpipe.stages.NAME` with code from outside `./src`."""
    stage = next(
        (name for flag, name in pairwise(sys.orig_argv) if flag == "-m" and name.startswith(STAGE_MODULES)), None
    )
    if stage is None:
        return
    running, own = Path(segpipe.__path__[0]).resolve().parent, SOURCES.resolve()
    if running == own:
        return
    sys.exit(
        f"segpipe: the code that runs lies in {running}, and the pipeline in {own.parent} records that of {own}; run "
        f"`PYTHONPATH=src python -m {stage}` in the project's root, or `dvc repro`"
    )
