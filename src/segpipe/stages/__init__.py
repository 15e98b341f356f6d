"""The six stages that DVC runs as `python -m segpipe.stages.NAME`: from parameters and folders to one complete out."""

import os

from segpipe.stages.own_code import refuse_foreign_code
from segpipe.stages.parent import begin_stage

begin_stage()
refuse_foreign_code()  # before the slow imports

# OpenMP reads this when torch is loaded. By default its threads spin while they wait: that gains nothing on an idle
# machine, and on a shared one a training ran 1.5 times as fast without.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
