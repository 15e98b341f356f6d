"""Registers the model, and makes it the champion if it is better beyond chance; a DVC experiment only compares."""

import logging

from segpipe.config.register import Register
from segpipe.files import write_json
from segpipe.places import CHECKPOINTS, DATASET, EVALUATION, MODEL, REGISTRATION
from segpipe.registry.publish import publish, record_only
from segpipe.registry.results import Results
from segpipe.reports.headline import write_headline
from segpipe.stages.stage import run_stage
from segpipe.tracking.default_store import current_experiment
from segpipe.tracking.recorded import forget_recorded

log = logging.getLogger(__name__)


def main(settings: Register) -> None:
    """Writes `registration.json`."""
    results = Results.read(DATASET, MODEL, EVALUATION)
    if current_experiment():
        registration = record_only(results, CHECKPOINTS, settings)
        outcome = f"{registration.model_name}: {registration.decision}."
    else:
        registration = publish(results, CHECKPOINTS, settings).registration
        outcome = f"version {registration.version} {registration.decision}."
    write_json(REGISTRATION, registration.to_json())
    write_headline(results.metrics)
    forget_recorded(CHECKPOINTS)
    log.info("%s %s", outcome, " ".join(registration.reasons))


if __name__ == "__main__":
    run_stage(main, Register, REGISTRATION)
