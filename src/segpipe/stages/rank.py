"""One of the processes that share a training; the train stage starts them (`segpipe.training.launching`)."""

import logging
import os
import sys

from segpipe.config.reading import load_section
from segpipe.config.train import Train
from segpipe.inference.device import choose_device
from segpipe.stages.stage import prepare_process, report_errors
from segpipe.stages.train import train
from segpipe.training.launching import EXIT_LOST
from segpipe.training.ranks import Ranks, is_lost


def main() -> None:
    """Trains together with the others."""
    settings = load_section(Train)
    device = choose_device(settings.device)
    if device.type == "cuda":
        device = choose_device(f"cuda:{os.environ['LOCAL_RANK']}")
    ranks = Ranks.join(device)
    if not ranks.is_first:
        logging.getLogger("segpipe").setLevel(logging.WARNING)  # the first one tells of the training
    try:
        train(settings, device, ranks)
    except RuntimeError as error:
        if not is_lost(error):
            raise
        sys.exit(EXIT_LOST)
    ranks.leave()


if __name__ == "__main__":
    prepare_process()
    sys.exit(report_errors(main))
