"""Runs a stage: one process at a time for each output, with messages and exit codes for the user."""

import atexit
import contextlib
import errno
import gc
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import TypeVar

from filelock import FileLock, Timeout

from segpipe.addresses import redact
from segpipe.config.reading import load_section
from segpipe.config.section import Section
from segpipe.errors import SegpipeError, StoreError
from segpipe.places import LOCKS
from segpipe.terminal import printable

S = TypeVar("S", bound=Section)

LOCK_SECONDS = 1.0  # longer than `segpipe clean` holds a lock to check that it is free

EXIT_BAD_INPUT = 1
EXIT_INTERRUPTED = 130

# Errors that are not the program's fault: no space, quota, size limit, permission, read-only file system, disk error.
SYSTEM_REFUSALS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO}


def prepare_process() -> None:
    """Sends segpipe's own log to standard error, as plain lines without secrets and control characters.

    At its end the process is spared the last collection of garbage, which takes more than a second.
    """
    atexit.register(gc.freeze)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    sys.excepthook = _print_traceback
    for ours in ("segpipe", "__main__"):
        logging.getLogger(ours).setLevel(logging.INFO)


def keep_loaded() -> None:
    """Lets the garbage collector begin; it never looks at what was loaded before, which stays until the end."""
    gc.freeze()
    gc.enable()


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(redact(super().format(record)))


def _print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Prints a defect's traceback without secrets: other libraries' errors hold whole addresses."""
    print(printable(redact("".join(traceback.format_exception(kind, error, trace)))), end="", file=sys.stderr)


def exit_on_signal(signum: int, frame: FrameType | None) -> None:
    """Handles a signal by ending the process as an exception does, so that temporary folders are removed."""
    raise SystemExit(128 + signum)


def report_errors(work: Callable[[], None]) -> int:
    """Runs a function; prints errors that a user can fix as a message on standard error.

    Returns:
        The exit code: 0, the error's (1 for bad input), 1 for a refusal of the system, 130 for Ctrl-C. Defects keep
        their traceback.
    """
    try:
        work()
    except SegpipeError as error:
        print(printable(f"segpipe: {error}"), file=sys.stderr)
        return error.exit_code
    except OSError as error:
        # Arrow's errors hold the system's text without its number.
        if error.errno not in SYSTEM_REFUSALS and os.strerror(errno.ENOSPC) not in str(error):
            raise
        print(printable(redact(f"segpipe: the system refuses: {error}")), file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return 0


@contextlib.contextmanager
def writing_alone(output: Path) -> Iterator[None]:
    """Holds the lock on an output of the pipeline.

    Raises:
        StoreError: another process holds it.
    """
    LOCKS.mkdir(exist_ok=True)
    lock = FileLock(LOCKS / f"{output.name}.lock", timeout=LOCK_SECONDS)
    try:
        lock.acquire()
    except Timeout as error:
        raise StoreError(f"{output} is being written by another process; wait for it, or stop it") from error
    try:
        yield
    finally:
        lock.release()


def run_stage(work: Callable[[S], None], section: type[S], output: Path) -> None:
    """Runs a stage as the process's whole work, and exits.

    Args:
        work: gets its section of `params.yaml`, and reads its inputs from the folders of `segpipe.places`.
        section: the section's class.
        output: the file or folder that it writes; if another process writes it, this one ends with a message.
    """
    keep_loaded()
    prepare_process()
    signal.signal(signal.SIGTERM, exit_on_signal)
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # as `begin_stage` has left it
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def locked() -> None:
        settings = load_section(section)
        with writing_alone(output):
            work(settings)

    sys.exit(report_errors(locked))
