"""Makes a process end when its parent ends.

A stage imports this first, so it imports little itself.
"""

import ctypes
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Makes the kernel send SIGTERM to this process when its parent (DVC, a worker) ends, even if that was killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
