"""The six stages that DVC runs as `python -m segpipe.stages.NAME`: parameters and folders in, a whole folder out."""

import os

from segpipe.stages.own_code import refuse_foreign_code
from segpipe.stages.parent import begin_stage

begin_stage()
refuse_foreign_code()  # before anything that takes long

# Read by OpenMP when torch is loaded. Its threads else spin while they wait: nothing gained on an idle machine, and on
# a shared one a training ran 1.5 times as fast without.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
