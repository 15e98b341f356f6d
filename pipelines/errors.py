"""What can go wrong between a schedule and a stage, as messages for the user."""

from segpipe.errors import SegpipeError


class PipelineError(SegpipeError):
    """The services, a worker or the asked revision are not as a retraining needs them."""
