"""The error of the flows and services, with a message for the user."""

from segpipe.errors import SegpipeError


class PipelineError(SegpipeError):
    """The services, a worker or the revision cannot be used for a retraining."""
