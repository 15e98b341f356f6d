"""Registers the model, and makes it the champion where it is better beyond chance."""

import logging

from segpipe.config import Config
from segpipe.files import write_json
from segpipe.stages.stage import CHECKPOINTS, DATASET, EVALUATION, MODEL, REGISTRATION, run_stage
from segpipe.tracking.publish import publish
from segpipe.tracking.results import Results

log = logging.getLogger(__name__)


def main(config: Config) -> None:
    """Writes `registration.json`."""
    registration = publish(Results.read(DATASET, MODEL, EVALUATION), CHECKPOINTS, config.register_).registration
    write_json(REGISTRATION, registration.to_json())
    log.info("version %s %s. %s", registration.version, registration.decision, " ".join(registration.reasons))


if __name__ == "__main__":
    run_stage(main, REGISTRATION)
