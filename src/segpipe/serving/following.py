"""Follows aliases of the registry: a new version is loaded and tried beside the old one, and then takes its place.

Each request keeps the model with which it began, so none is lost or mixed. A version that cannot be used is named in
the log, by `/readyz` and in the metrics; the old one goes on answering. A champion stays when its alias is deleted, a
challenger goes with it.
"""

import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from segpipe.errors import IncomparableError, ServingError, TrackingError
from segpipe.serving.backends import Served
from segpipe.serving.events import log_event
from segpipe.serving.roles import CHALLENGER, CHAMPION, Role

LOADED, FAILED, UNREACHABLE, MISSING = "loaded", "failed", "unreachable", "missing"

# Of a version that failed. The reason may pass, such as a full disk; its files may also fail each time.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 10.0, 3600.0

# Gives what loads a version: of the folder with its files and its number.
Load = Callable[[Path, str], Served]


@dataclass(frozen=True)
class Source:
    """What is followed.

    Attributes:
        model_name: of the registered model.
        alias: of its versions.
        find_version: gives the number of the version that the alias names now, None for none; raises a TrackingError.
        fetch: downloads a version into a folder, and gives the folder of its network, or of an export that it holds.
    """

    model_name: str
    alias: str
    find_version: Callable[[], str | None]
    fetch: Callable[[str, Path], Path]

    @property
    def title(self) -> str:
        """For messages."""
        return f"the alias {self.alias} of {self.model_name!r}"


@dataclass(frozen=True)
class Trouble:
    """Why the newest version is not served, or not known.

    Attributes:
        reason: of the failure.
        version: that could not be downloaded or loaded; None where the registry could not be asked.
    """

    reason: str
    version: str | None = None


@dataclass(frozen=True)
class _Failure:
    """Of a version that was tried.

    Attributes:
        version: its number.
        trouble: what is told while it waits.
        pause_seconds: until it is tried again.
        since: time.monotonic() of the failure.
    """

    version: str
    trouble: Trouble
    pause_seconds: float
    since: float

    @property
    def is_over(self) -> bool:
        """Whether the version may be tried again."""
        return time.monotonic() - self.since >= self.pause_seconds


class Follower:
    """Holds a model that is served, and changes it.

    Args:
        served: the first model; None where there is none yet.
        workspace: a folder for downloads.
        source: what is followed; None for a model that never changes.
        load: loads a version.
        role: of the model in the service.
        observe: gets the outcome of each attempt that did or should have changed something.
    """

    def __init__(
        self,
        served: Served | None,
        workspace: Path,
        source: Source | None = None,
        load: Load | None = None,
        role: Role = CHAMPION,
        observe: Callable[[str], None] = lambda outcome: None,
    ) -> None:
        self._served, self.source, self._load = served, source, load
        self._workspace = workspace
        self.role, self._observe = role, observe
        self._trouble: Trouble | None = None
        self._failure: _Failure | None = None

    @property
    def served(self) -> Served | None:
        """The model that new requests get; None where there is none now."""
        return self._served

    @property
    def trouble(self) -> Trouble | None:
        """Why the newest version is not served; None where all is well."""
        return self._trouble

    def poll(self) -> None:
        """Asks the registry once, and changes the model if need be; nothing where it never changes."""
        if self.source is None:
            return
        try:
            version = self.source.find_version()
        except Exception as error:  # of any kind: the next time it may answer
            self._note(UNREACHABLE, Trouble(str(error) or type(error).__name__))
            return
        if self._failure is not None and self._failure.version != version:
            self._failure = None
        if version is None:
            self._miss(self.source)
        elif self._served is not None and version == self._served.version:
            self._trouble = None
        elif self._failure is None or self._failure.is_over:
            self._take(version)
        else:
            self._trouble = self._failure.trouble

    def _miss(self, source: Source) -> None:
        """Acts on an alias that names no version."""
        if self.role == CHAMPION:
            fix = "register a model first (`dvc repro`), or name another (`segpipe registry list`)"
            self._note(MISSING, Trouble(f"{source.title} names no version; {fix}"))
            return
        before, self._served, self._trouble = self._served, None, None
        if before is not None:
            self._observe(MISSING)
            log_event("model gone", role=self.role, model=before.name, before=before.label)

    def _take(self, version: str) -> None:
        try:
            served = self._change(version)
        except Exception as error:  # of any kind: the old version must go on
            is_away = isinstance(error, TrackingError) and not isinstance(error, IncomparableError)
            self._fail(version, UNREACHABLE if is_away else FAILED, str(error) or type(error).__name__)
        else:
            before = None if self._served is None else self._served.label
            self._served, self._trouble, self._failure = served, None, None
            self._observe(LOADED)
            log_event(
                "model changed",
                role=self.role,
                model=served.name,
                version=served.label,
                before=before,
                backend=served.backend,
            )

    def _fail(self, version: str, outcome: str, reason: str) -> None:
        """Lets a version wait; one that cannot be used twice as long as after its last failure."""
        pause_seconds = FIRST_PAUSE_SECONDS
        if self._failure is not None and outcome == FAILED:
            pause_seconds = min(2 * self._failure.pause_seconds, LONGEST_PAUSE_SECONDS)
        trouble = Trouble(reason, version)
        self._failure = _Failure(version, trouble, pause_seconds, time.monotonic())
        self._note(outcome, trouble)

    def _change(self, version: str) -> Served:
        assert self.source is not None and self._load is not None
        _make_again(self._workspace)
        with tempfile.TemporaryDirectory(dir=self._workspace) as folder:
            return self._load(self.source.fetch(version, Path(folder)), version)

    def _note(self, outcome: str, trouble: Trouble) -> None:
        self._observe(outcome)
        if trouble != self._trouble:  # the same again is no news
            values = {"role": self.role, "reason": trouble.reason}
            values |= {} if trouble.version is None else {"version": trouble.version}
            if self._served is None:
                log_event("waiting for a model", logging.WARNING, **values)
            else:
                log_event("model not changed", logging.WARNING, serving=self._served.label, **values)
        self._trouble = trouble


def _make_again(workspace: Path) -> None:
    """Makes the folder for downloads where it is missing: systemd removes what lies unused below /tmp for 10 days.

    Raises:
        ServingError: another user has made it meanwhile, who could change the files of a model in it.
    """
    workspace.mkdir(mode=0o700, exist_ok=True)
    if workspace.lstat().st_uid != os.getuid():
        raise ServingError(f"{workspace}: belongs to another user; remove it, or start the service again")


class Watch:
    """Asks the registry for the models of a service, one after another, so that one at a time is loaded.

    Args:
        champion: the model that answers.
        challenger: a second one; None for none.
        poll_seconds: between two questions to the registry.
    """

    def __init__(self, champion: Follower, challenger: Follower | None = None, poll_seconds: float = 10.0) -> None:
        self.champion, self.challenger, self.poll_seconds = champion, challenger, poll_seconds
        self._wake, self._is_ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="follow", daemon=True)

    @property
    def followers(self) -> Sequence[Follower]:
        """Those that there are."""
        return [one for one in (self.champion, self.challenger) if one is not None]

    def start(self) -> None:
        """Begins to ask, in a thread of its own."""
        if any(one.source is not None for one in self.followers):
            self._thread.start()

    def stop(self) -> None:
        """Ends the asking; a download that is under way is left to the end of the process."""
        self._is_ended.set()
        self._wake.set()

    def join(self, seconds: float) -> bool:
        """Waits for the end of the asking after `stop`.

        Args:
            seconds: at most.

        Returns:
            Whether it has ended; a load cannot be broken off, and may take minutes.
        """
        if self._thread.ident is not None:
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def wake(self) -> None:
        """Asks at once."""
        self._wake.set()

    def _run(self) -> None:
        if self.champion.served is None:
            self.wake()
        while not self._is_ended.is_set():
            self._wake.wait(self.poll_seconds)
            self._wake.clear()
            for one in self.followers:
                if not self._is_ended.is_set():
                    one.poll()

    def of(self, role: Role) -> Follower | None:
        """Gives the follower of a role."""
        return self.challenger if role == CHALLENGER else self.champion
