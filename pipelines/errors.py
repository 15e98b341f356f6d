"""What can go wrong between a schedule and a stage, as messages for the user."""

from segpipe.errors import SegpipeError


class PipelineError(SegpipeError):
    """The services, a worker or the asked revision are not as a retraining needs them."""


class CommandError(PipelineError):
    """A command ended with an error.

    Args:
        message: what, where, how to mend it.
        lines: the last lines that the command wrote.
    """

    def __init__(self, message: str, lines: tuple[str, ...] = ()) -> None:
        super().__init__("\n".join([message, *lines]))
        self.lines = lines
