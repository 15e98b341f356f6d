"""The log of the service: one line of JSON for each event."""

import json
import logging
import time

log = logging.getLogger(__name__)


def log_event(event: str, level: int = logging.INFO, **values: object) -> None:
    """Writes a line.

    Args:
        event: what happened.
        level: of the line.
        values: further keys; texts from outside are written as JSON, so that none can begin a line of its own.
    """
    seconds = time.time()
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03d}Z"
    log.log(level, "%s", json.dumps({"time": moment, "level": logging.getLevelName(level), "event": event, **values}))
