"""The six stages that DVC runs as `python -m segpipe.stages.NAME`: from parameters and folders to one complete out.

`rank` is none of them: the train stage starts it where several processes share a training.
"""

import gc
import importlib
import os

from segpipe.stages.own_code import refuse_foreign_code
from segpipe.stages.parent import begin_stage, started_stage

begin_stage()
refuse_foreign_code()  # before the slow imports
if started_stage():
    gc.disable()  # until `keep_loaded`: what libraries load stays, and to look through it again and again takes time
if started_stage() in {"train", "rank", "evaluate"}:
    # By its name: the results of the other stages do not depend on it.
    importlib.import_module("segpipe.inference.instructions").limit_instructions()

# OpenMP reads this when torch is loaded: how often a thread looks whether the others are done before it sleeps. By
# default it never sleeps, which is slow where other processes work too; threads that sleep at once wake up too late.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
