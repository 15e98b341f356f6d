"""One of the processes that share a training; the train stage starts them (`segpipe.training.processes.launching`)."""

import logging
import os
import sys
import threading
import time
from contextlib import nullcontext

from segpipe.config.reading import load_section
from segpipe.config.train import Train
from segpipe.inference.device import choose_device
from segpipe.places import CHECKPOINTS
from segpipe.stages.stage import keep_loaded, prepare_process, report_errors, writing_alone
from segpipe.stages.train import train
from segpipe.training.processes.launching import EXIT_BAD_INPUT, EXIT_LOST, STOP_SECONDS
from segpipe.training.processes.ranks import Ranks, is_lost

# What one process refuses, all mostly refuse. The first has so long to end all with its message alone.
REFUSAL_SECONDS = 5


def main() -> None:
    """Trains together with the others."""
    threading.Thread(target=_end_after, args=(os.getppid(),), daemon=True).start()
    settings = load_section(Train)
    device = choose_device(settings.device)
    if device.type == "cuda":
        device = choose_device(f"cuda:{os.environ['LOCAL_RANK']}")
    # If the stage is killed, its lock is free before its processes have ended.
    with writing_alone(CHECKPOINTS) if os.environ["RANK"] == "0" else nullcontext():
        ranks = Ranks.join(device)
        if not ranks.is_first:
            logging.getLogger("segpipe").setLevel(logging.WARNING)  # the first one tells of the training
        try:
            train(settings, device, ranks)
        except RuntimeError as error:
            if not is_lost(error):
                raise
            if device.type == "cuda":  # NCCL's text may tell of this GPU
                print(f"process {ranks.rank}: {error}", file=sys.stderr)
            sys.exit(EXIT_LOST)
        ranks.leave()


def _end_after(parent: int) -> None:
    """Ends this process when its parent's end has left it enough time, also where it hangs in a device."""
    while os.getppid() == parent:
        time.sleep(1)
    time.sleep(STOP_SECONDS)
    os._exit(EXIT_LOST)


if __name__ == "__main__":
    keep_loaded()
    prepare_process()
    exit_code = report_errors(main)
    if exit_code == EXIT_BAD_INPUT and os.environ["RANK"] != "0":
        time.sleep(REFUSAL_SECONDS)
    sys.exit(exit_code)
