"""Follows an alias of the registry: a new version is loaded and tried beside the old one, and then takes its place.

Each request keeps the model with which it began, so none is lost or mixed. A version that cannot be used is named in
the log, by `/readyz` and in the metrics; the old one goes on answering.
"""

import logging
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from segpipe.errors import SegpipeError, TrackingError
from segpipe.serving.backends import Served
from segpipe.serving.events import log_event

LOADED, FAILED, UNREACHABLE = "loaded", "failed", "unreachable"

# Gives what loads a version: of the folder with its files and its number.
Load = Callable[[Path, str], Served]


@dataclass(frozen=True)
class Source:
    """What is followed.

    Attributes:
        model_name: of the registered model.
        find_version: gives the number of the version that the alias names now; raises a TrackingError.
        fetch: downloads a version into a folder, and gives the folder of its network, or of an export that it holds.
    """

    model_name: str
    find_version: Callable[[], str]
    fetch: Callable[[str, Path], Path]


@dataclass(frozen=True)
class Trouble:
    """Why the newest version is not served, or not known.

    Attributes:
        reason: of the failure.
        version: that failed; None where the registry could not be asked.
    """

    reason: str
    version: str | None = None


class Follower:
    """Holds the model that is served, and changes it.

    Args:
        served: the first model.
        workspace: a folder for downloads.
        source: what is followed; None for a model that never changes.
        load: loads a version.
        poll_seconds: between two questions to the registry.
        observe: gets the outcome of each attempt that did or should have changed something.
    """

    def __init__(
        self,
        served: Served,
        workspace: Path,
        source: Source | None = None,
        load: Load | None = None,
        poll_seconds: float = 10.0,
        observe: Callable[[str], None] = lambda outcome: None,
    ) -> None:
        self._served, self._source, self._load = served, source, load
        self._workspace = workspace
        self._poll_seconds, self._observe = poll_seconds, observe
        self._trouble: Trouble | None = None
        self._wake, self._is_ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="follow", daemon=True)

    @property
    def served(self) -> Served:
        """The model that new requests get."""
        return self._served

    @property
    def trouble(self) -> Trouble | None:
        """Why the newest version is not served; None where all is well."""
        return self._trouble

    def start(self) -> None:
        """Begins to ask the registry, in a thread of its own."""
        if self._source is not None:
            self._thread.start()

    def stop(self) -> None:
        """Ends the asking; a download that is under way is left to the end of the process."""
        self._is_ended.set()
        self._wake.set()

    def wake(self) -> None:
        """Asks at once."""
        self._wake.set()

    def _run(self) -> None:
        while not self._is_ended.is_set():
            self._wake.wait(self._poll_seconds)
            self._wake.clear()
            if not self._is_ended.is_set():
                self.poll()

    def poll(self) -> None:
        """Asks the registry once, and changes the model if need be."""
        assert self._source is not None and self._load is not None
        try:
            version = self._source.find_version()
        except SegpipeError as error:
            self._note(UNREACHABLE, Trouble(str(error)))
            return
        if version == self._served.version:
            self._trouble = None
            return
        if self._trouble is not None and self._trouble.version == version:
            return  # its files never change, so it would fail again
        try:
            served = self._change(version)
        except TrackingError as error:  # the network: the next time it may be there
            self._note(UNREACHABLE, Trouble(str(error)))
        except Exception as error:  # of any kind: the old version must go on
            self._note(FAILED, Trouble(str(error) or type(error).__name__, version))
        else:
            before, self._served, self._trouble = self._served.label, served, None
            self._observe(LOADED)
            log_event("model changed", model=served.name, version=served.label, before=before, backend=served.backend)

    def _change(self, version: str) -> Served:
        assert self._source is not None and self._load is not None
        with tempfile.TemporaryDirectory(dir=self._workspace) as folder:
            return self._load(self._source.fetch(version, Path(folder)), version)

    def _note(self, outcome: str, trouble: Trouble) -> None:
        self._observe(outcome)
        if trouble != self._trouble:  # the same again is no news
            version = {} if trouble.version is None else {"version": trouble.version}
            log_event(
                "model not changed", logging.WARNING, reason=trouble.reason, serving=self._served.label, **version
            )
        self._trouble = trouble
