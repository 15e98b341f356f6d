"""The ledger: every decision about a champion, in order, each with the hash of the entry before it.

The entries about registered model NAME are the versions of registered model `NAME.ledger`: they are in the registry's
own database, do not depend on any machine, and can be read in MLflow's pages. MLflow numbers versions without gaps and
never gives a number twice, so the numbers are the order of the entries, and a deleted entry leaves a gap.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from pydantic import Field, TypeAdapter

from segpipe.tracking.client import retry_busy, search_all_versions
from segpipe.tracking.tags import APPLIED, DIGEST, ENTRY, HEAD

LEDGER_SUFFIX = ".ledger"
BEGINNING = "0" * 64
NOT_BY_SEGPIPE = "unknown"
MAX_DESCRIPTION_CHARS = 4500  # MLflow's column holds 5,000
PROMOTED, KEPT, ROLLED_BACK, PINNED, UNPINNED, NOTICED = (
    "promoted", "not promoted", "rolled back", "pinned", "unpinned", "noticed",
)  # fmt: skip
DECISIONS = (PROMOTED, KEPT)
MAX_DIGITS = 9  # of a version's number; more do not fit into MLflow's column
MAX_TIME_MS = 253_402_300_799_000  # the end of the year 9999


@dataclass(frozen=True)
class Held:
    """A version as the ledger names it: with its weights, because after a deletion a number may be another model's.

    Attributes:
        version: number in the registry.
        weights_sha256: of its weights, or `NOT_BY_SEGPIPE`.
    """

    version: str
    weights_sha256: str


@dataclass(frozen=True)
class Entry:
    """One decision.

    Attributes:
        previous: digest of the entry before; `BEGINNING` for the first.
        time_ms: when, milliseconds since 1970, by the clock of the machine that wrote it.
        who: user@machine.
        action: `PROMOTED`, `KEPT`, `ROLLED_BACK`, `PINNED`, `UNPINNED`, or `NOTICED`: a change outside segpipe.
        about: the version that the decision is about.
        reasons: why, in whole sentences.
        evidence: the numbers behind the decision, plain values.
        champion_before: the champion before the decision; None for no champion.
        champion_after: the champion after the decision.
        is_pinned: whether, after the decision, the champion stays whatever the gate decides.
    """

    previous: str
    time_ms: Annotated[int, Field(ge=0, le=MAX_TIME_MS)]
    who: str
    action: str
    about: Held | None
    reasons: tuple[str, ...]
    evidence: Mapping[str, Any]
    champion_before: Held | None
    champion_after: Held | None
    is_pinned: bool

    @property
    def moves_alias(self) -> bool:
        """Whether the alias has to be moved."""
        return self.champion_before != self.champion_after and self.action != NOTICED

    def to_text(self) -> str:
        """The entry as the canonical JSON that is hashed."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)

    @staticmethod
    def from_text(text: str) -> "Entry":
        """Reads what `to_text` gave.

        Raises:
            ValueError: it is not such a text; a single value of a wrong type is enough.
        """
        return _ENTRIES.validate_json(text, strict=True)


_ENTRIES = TypeAdapter(Entry)


@dataclass(frozen=True)
class Sealed:
    """An entry with its number and digest.

    Attributes:
        number: its version number in `NAME.ledger`.
        digest: sha256 of its text.
        is_applied: whether the alias was moved as it says.
        entry: the decision.
    """

    number: int
    digest: str
    is_applied: bool
    entry: Entry


@dataclass(frozen=True)
class Ledger:
    """All that was decided about one registered model.

    Attributes:
        model_name: the registered model.
        entries: in order. If two were written after the same entry by two processes, only the first one counts.
        last_number: number of the last version of `NAME.ledger`, whatever it holds; 0 for none.
        problems: signs that the ledger was changed after it was written; empty for a complete chain.
    """

    model_name: str
    entries: tuple[Sealed, ...]
    last_number: int
    problems: tuple[str, ...]

    @property
    def head(self) -> str:
        """Digest of the last entry."""
        return self.entries[-1].digest if self.entries else BEGINNING

    @property
    def champion(self) -> Held | None:
        """The champion of the last entry."""
        return self.entries[-1].entry.champion_after if self.entries else None

    @property
    def is_pinned(self) -> bool:
        """Whether automatic promotion is off."""
        return bool(self.entries) and self.entries[-1].entry.is_pinned

    @property
    def pinning(self) -> Entry | None:
        """The entry that pinned the champion, where one is pinned."""
        if not self.is_pinned:
            return None
        pins = [sealed.entry for sealed in self.entries if sealed.entry.action in {PINNED, ROLLED_BACK}]
        return pins[-1] if pins else None

    def decision_about(self, held: Held) -> Entry | None:
        """The last decision about a version; else the entry that says that it became champion outside segpipe.

        A rollback does not count: its reasons are about another version.
        """
        mine = [sealed.entry for sealed in self.entries if sealed.entry.about == held]
        decided = [entry for entry in mine if entry.action in DECISIONS]
        noticed = [entry for entry in mine if entry.action == NOTICED and entry.champion_after == held]
        return next(iter(decided[-1:] or noticed[-1:]), None)

    def previous_champions(self) -> list[Held]:
        """The champions before the present one, newest first; a rollback removes those after its target."""
        path: list[Held] = []
        for entry in (sealed.entry for sealed in self.entries):
            held = entry.champion_after
            if held is None or held == entry.champion_before:
                continue
            if entry.action == ROLLED_BACK and held in path:
                while path[-1] != held:
                    path.pop()
            else:
                path.append(held)
        return [held for held in dict.fromkeys(reversed(path)) if held != self.champion]

    def challengers(self) -> list[Held]:
        """The versions that were decided about, except the champion; the highest number first."""
        decided = {s.entry.about for s in self.entries if s.entry.action in DECISIONS and s.entry.about}
        return sorted(decided - {self.champion}, key=lambda held: number_of(held.version), reverse=True)

    def reigns(self) -> list[tuple[Held, int, int | None]]:
        """Each champion with the times when it began and ended, milliseconds since 1970; None while it lasts."""
        moves = [s.entry for s in self.entries if s.entry.champion_before != s.entry.champion_after]
        ends = [entry.time_ms for entry in moves[1:]]
        return [
            (entry.champion_after, entry.time_ms, end)
            for entry, end in zip(moves, [*ends, None], strict=True)
            if entry.champion_after
        ]


def number_of(version: str) -> int:
    """Gives a version's number; 0 for a text that is none, which segpipe does not write."""
    return int(version) if version.isdecimal() and len(version) <= MAX_DIGITS else 0


def read_ledger(client: MlflowClient, model_name: str) -> Ledger:
    """Reads and verifies a ledger; one without an entry is empty."""
    name = model_name + LEDGER_SUFFIX
    noted, noted_digest = _noted_head(client, name)  # first, so that an entry written meanwhile is no problem
    rows = sorted(search_all_versions(client, name), key=lambda row: int(row.version))
    entries: list[Sealed] = []
    problems: list[str] = []
    followed: set[str] = set()
    reported: set[int] = set()  # entries whose problem is listed already
    expected, head = 1, BEGINNING
    for row in rows:
        number = int(row.version)
        if number > expected:
            missing = f"{expected}" if number == expected + 1 else f"{expected} to {number - 1}"
            problems.append(f"entry {missing} was deleted")
            reported.add(number - 1)
        expected = number + 1
        text, digest = row.tags.get(ENTRY, ""), row.tags.get(DIGEST, "")
        is_changed = _digest(text) != digest or (number == noted and digest != noted_digest)
        if is_changed:
            problems.append(f"entry {number} was changed after it was written")
            reported.add(number)
        try:
            entry = Entry.from_text(text)
        except (ValueError, RecursionError):
            if not is_changed:
                problems.append(f"entry {number} was not written by segpipe")
            continue
        if entry.previous in followed:
            continue
        if entry.previous != head and not {number - 1, number} & reported:
            problems.append(f"entry {number} does not follow the entry before it: one of the two was changed")
        followed.add(entry.previous)
        head = digest
        entries.append(Sealed(number, digest, row.tags.get(APPLIED) == "true", entry))
    last = max((int(row.version) for row in rows), default=0)
    if noted > last:
        problems.append(
            f"entry {last + 1} was deleted" if noted == last + 1 else f"entry {last + 1} to {noted} was deleted"
        )
    return Ledger(model_name, tuple(entries), max(last, noted), tuple(problems))


def _noted_head(client: MlflowClient, name: str) -> tuple[int, str]:
    """Gives number and digest of the last entry from the registered model's tag: the chain cannot prove its own end."""
    try:
        number, _, digest = client.get_registered_model(name).tags.get(HEAD, "0").partition(" ")
        return int(number), digest
    except ValueError:
        return 0, ""  # not written by segpipe: it proves nothing
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return 0, ""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def about_ledger(model_name: str) -> str:
    """Gives the description of the registered model that holds a ledger: nobody should take it for a model."""
    return (
        f"**No model:** the ledger of the decisions about `{model_name}`. Each version is an entry, and holds the hash "
        "of the one before. segpipe writes the entries, and `segpipe registry history` verifies them. Nothing here can "
        "be loaded or served, and a changed entry breaks the chain."
    )


def append(client: MlflowClient, ledger: Ledger, entry: Entry) -> Ledger | None:
    """Writes an entry after the last one.

    Returns:
        The ledger with it; None where another entry was written in between: then this one does not count.
    """
    name = ledger.model_name + LEDGER_SUFFIX
    if not ledger.last_number:
        try:
            retry_busy(lambda: client.create_registered_model(name, description=about_ledger(ledger.model_name)))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
    text = entry.to_text()
    tags = {
        ENTRY: text,
        DIGEST: _digest(text),
        APPLIED: str(not entry.moves_alias).lower(),
    }
    retry_busy(
        lambda: client.create_model_version(
            name,
            source=f"ledger:/{ledger.model_name}",
            tags=tags,
            description=_describe(entry)[:MAX_DESCRIPTION_CHARS],
            await_creation_for=0,
        )
    )
    after = read_ledger(client, ledger.model_name)
    # Found by its text, not its number: if the answer to the first call was lost, the second wrote the entry twice.
    mine = next((sealed for sealed in after.entries if sealed.digest == tags[DIGEST]), None)
    if mine is None:
        return None
    retry_busy(lambda: client.set_registered_model_tag(name, HEAD, f"{mine.number} {mine.digest}"))
    return after


def mark_applied(client: MlflowClient, ledger: Ledger) -> None:
    """Notes that the alias was moved as the last entry says."""
    name, number = ledger.model_name + LEDGER_SUFFIX, str(ledger.entries[-1].number)
    retry_busy(lambda: client.set_model_version_tag(name, number, APPLIED, "true"))


def _describe(entry: Entry) -> str:
    about = f"version {entry.about.version}" if entry.about else "no version"
    before, after = (held.version if held else "none" for held in (entry.champion_before, entry.champion_after))
    pinned = ", pinned" if entry.is_pinned else ""
    return (
        f"**{about}: {entry.action}.** {' '.join(entry.reasons)}\n\nchampion {before} -> {after}{pinned}; {entry.who}"
    )
