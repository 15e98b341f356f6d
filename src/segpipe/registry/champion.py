"""The champion: MLflow's alias and the last entry of the ledger both name it; every change of it is made here.

A change takes the lock, reads ledger and alias again, appends its entry, moves the alias, and checks that it moved. If
the process ends in between, the ledger has an entry but the alias is still the old one; the next change moves the
alias. If somebody moved the alias in MLflow's own pages, the ledger records that, and the alias stays as it is.

The aliases `previous` and `challenger` follow from the ledger alone: each change, and each `segpipe publish`, sets them
as the ledger says, whatever they named. Nothing is decided by them.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from segpipe.errors import TrackingError
from segpipe.registry.ledger import (
    NOT_BY_SEGPIPE,
    NOTICED,
    PINNED,
    PROMOTED,
    ROLLED_BACK,
    UNPINNED,
    Entry,
    Held,
    Ledger,
    append,
    mark_applied,
    number_of,
    read_ledger,
)
from segpipe.registry.lock import Lease, describe_self, hold_lock
from segpipe.tracking.client import connect, retry_busy
from segpipe.tracking.registered import fetch_version
from segpipe.tracking.tags import DECISION, REASONS, WEIGHTS_SHA256

log = logging.getLogger(__name__)

CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"
MAX_TRIED = 100  # versions that an alias could name and that may have been deleted
MAX_MODELS = 1000  # of a registry, where the only one with a champion is looked for


@dataclass(frozen=True)
class Change:
    """A change that is proposed for the present ledger.

    Attributes:
        action: an entry's action.
        about: the version that the change is about.
        reasons: why.
        champion: the champion afterwards.
        is_pinned: whether the champion is pinned afterwards.
        evidence: plain values.
    """

    action: str
    about: Held | None
    reasons: tuple[str, ...]
    champion: Held | None
    is_pinned: bool
    evidence: Mapping[str, Any]


def find_champion(client: MlflowClient, model_name: str) -> ModelVersion | None:
    """Gives the version that the alias names, or None."""
    try:
        return client.get_model_version_by_alias(model_name, CHAMPION)
    except MlflowException as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        raise


def identify(version: ModelVersion) -> Held:
    """Gives the form in which the ledger names a version."""
    return Held(str(version.version), version.tags.get(WEIGHTS_SHA256, NOT_BY_SEGPIPE))


def find_outside_change(client: MlflowClient, ledger: Ledger) -> str | None:
    """Says how the alias differs from the ledger; None where both name the same version."""
    alias = find_champion(client, ledger.model_name)
    held = identify(alias) if alias else None
    if held == ledger.champion:
        return None
    now = read_ledger(client, ledger.model_name)
    if now.entries != ledger.entries:  # another process has changed it since it was read
        return find_outside_change(client, now)
    last = ledger.entries[-1] if ledger.entries else None
    if last and not last.is_applied and held == last.entry.champion_before:
        return (
            f"the alias {CHAMPION} was not moved after the last entry of the ledger: that process is still at work, or "
            "has ended; the next change, or `segpipe publish`, moves it"
        )
    if held is None:
        return f"the alias {CHAMPION} was deleted outside segpipe"
    if ledger.champion is None:
        return f"the alias {CHAMPION} was set to version {held.version} outside segpipe"
    return f"the alias {CHAMPION} was moved outside segpipe, from version {ledger.champion.version} to {held.version}"


def change_champion(
    client: MlflowClient, model_name: str, propose: Callable[[Ledger], Change | None]
) -> tuple[Ledger, Ledger]:
    """Makes one change, under the lock.

    Args:
        client: of the store.
        model_name: the registered model.
        propose: gets the ledger, which agrees with the alias, and gives the change, or None for no change. It must be
            quick, because it holds the lock.

    Returns:
        The ledger before and after.

    Raises:
        TrackingError: the change cannot be made safely.
    """
    with hold_lock(client, model_name) as lease:
        before = _settle(client, lease, model_name)
        change = propose(before)
        after = _enter(client, lease, before, change) if change else before
        _set_followers(client, lease, after)
        return before, after


def _enter(client: MlflowClient, lease: Lease, ledger: Ledger, change: Change) -> Ledger:
    entry = Entry(
        previous=ledger.head,
        time_ms=time.time_ns() // 1_000_000,
        who=describe_self(),
        action=change.action,
        about=change.about,
        reasons=change.reasons,
        evidence=change.evidence,
        champion_before=ledger.champion,
        champion_after=change.champion,
        is_pinned=change.is_pinned,
    )
    lease.check()
    after = append(client, ledger, entry)
    if after is None:
        raise TrackingError(f"another process changed {ledger.model_name!r} at the same time; try again")
    return _follow(client, lease, after) if entry.moves_alias else after


def _follow(client: MlflowClient, lease: Lease, ledger: Ledger) -> Ledger:
    """Moves the alias to the ledger's champion, and checks that it moved."""
    lease.check()
    return _move_alias(client, ledger)


def _move_alias(client: MlflowClient, ledger: Ledger) -> Ledger:
    held = ledger.champion
    assert held is not None, "no change removes the alias"
    retry_busy(lambda: client.set_registered_model_alias(ledger.model_name, CHAMPION, held.version))
    now = read_ledger(client, ledger.model_name)
    if now.head != ledger.head:
        # This process was stopped longer than its lease: another may have moved the alias for a later entry.
        return _move_alias(client, now)
    alias = find_champion(client, ledger.model_name)
    if alias is None or identify(alias) != held:
        raise TrackingError(f"the alias {CHAMPION} of {ledger.model_name!r} did not move to version {held.version}")
    mark_applied(client, ledger)
    return read_ledger(client, ledger.model_name)


def _settle(client: MlflowClient, lease: Lease, model_name: str) -> Ledger:
    """Makes ledger and alias agree, whatever happened since the last change."""
    ledger = read_ledger(client, model_name)
    alias = find_champion(client, model_name)
    held, known = identify(alias) if alias else None, ledger.champion
    last = ledger.entries[-1] if ledger.entries else None
    is_followed = last is None or last.is_applied
    if held == known and is_followed:
        return ledger
    is_about_to_follow = last and not last.is_applied and held in (last.entry.champion_before, known)
    if is_about_to_follow and known and _exists(client, model_name, known):
        log.info("the alias %s is moved to version %s, as the ledger says", CHAMPION, known.version)
        return _follow(client, lease, ledger)
    if held is None and known and _exists(client, model_name, known):
        log.info("the alias %s was deleted and is set to version %s again", CHAMPION, known.version)
        why = f"The alias {CHAMPION} was deleted outside segpipe; it is set to version {known.version} again."
        after = _enter(client, lease, ledger, _notice(ledger, known, why))
        retry_busy(lambda: client.set_registered_model_alias(model_name, CHAMPION, known.version))
        return after
    if held is None:
        why = "The champion's version and its alias were deleted outside segpipe."
    elif known is None:
        why = f"The alias {CHAMPION} was set to version {held.version} outside segpipe."
    else:
        why = f"The alias {CHAMPION} was moved outside segpipe, from version {known.version} to {held.version}."
    log.warning("%s", why)
    return _enter(client, lease, ledger, _notice(ledger, held, why))


def find_wrong_followers(client: MlflowClient, ledger: Ledger) -> dict[str, str | None]:
    """Gives the aliases `previous` and `challenger` that do not name what the ledger says.

    Args:
        client: of the store.
        ledger: of the registered model.

    Returns:
        For each wrong alias the version that it should name; None where there is no such version.
    """
    name = ledger.model_name
    try:
        aliases = client.get_registered_model(name).aliases
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return {}
    wanted = {
        PREVIOUS: _first_version(client, name, ledger.previous_champions()),
        CHALLENGER: _first_version(client, name, ledger.challengers()),
    }
    now = {alias: str(aliases[alias]) if alias in aliases else None for alias in wanted}
    return {alias: version for alias, version in wanted.items() if version != now[alias]}


def _first_version(client: MlflowClient, model_name: str, candidates: Sequence[Held]) -> str | None:
    # Of a registered model that was deleted, none of many exists; each costs a request.
    known = [held for held in candidates if number_of(held.version)][:MAX_TRIED]
    return next((held.version for held in known if _exists(client, model_name, held)), None)


def _set_followers(client: MlflowClient, lease: Lease, ledger: Ledger) -> None:
    name = ledger.model_name
    try:
        for alias, version in find_wrong_followers(client, ledger).items():
            lease.check()
            if version is None:
                retry_busy(partial(client.delete_registered_model_alias, name, alias))
            else:
                retry_busy(partial(client.set_registered_model_alias, name, alias, version))
    except (TrackingError, MlflowException) as error:
        # The change is made: an error here would make a person repeat it, and roll back twice.
        log.warning("the aliases %s and %s were not set; `segpipe publish` sets them: %s", PREVIOUS, CHALLENGER, error)


def _notice(ledger: Ledger, champion: Held | None, why: str) -> Change:
    is_pinned = ledger.is_pinned and champion is not None  # a deleted champion cannot stay pinned
    return Change(NOTICED, champion, (why,), champion, is_pinned, {})


def _exists(client: MlflowClient, model_name: str, held: Held) -> bool:
    try:
        return identify(client.get_model_version(model_name, held.version)) == held
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False


def promote(client: MlflowClient, version: ModelVersion, why: str) -> Ledger:
    """Makes a version the champion because a person says so; if the champion was pinned, the new one is pinned."""
    held = identify(version)

    def propose(ledger: Ledger) -> Change | None:
        if ledger.champion == held:
            raise TrackingError(f"version {held.version} is the champion already")
        return Change(PROMOTED, held, (why,), held, ledger.is_pinned, {"by": "hand"})

    ledger = change_champion(client, version.name, propose)[1]
    for tag, value in ((DECISION, PROMOTED), (REASONS, json.dumps([why]))):
        client.set_model_version_tag(version.name, version.version, tag, value)
    return ledger


def roll_back(client: MlflowClient, model_name: str, why: str) -> Ledger:
    """Makes the previous champion the champion again, and pins it."""

    def propose(ledger: Ledger) -> Change | None:
        target = next((held for held in ledger.previous_champions() if _exists(client, model_name, held)), None)
        if target is None:
            raise TrackingError(
                f"{model_name!r} has had no earlier champion that still exists; choose a version: "
                "`segpipe registry promote V --why ...`"
            )
        return Change(ROLLED_BACK, target, (why,), target, True, {})

    return change_champion(client, model_name, propose)[1]


def pin(client: MlflowClient, version: ModelVersion, why: str) -> Ledger:
    """Keeps the champion, whatever the gate decides, until `unpin`."""
    held = identify(version)

    def propose(ledger: Ledger) -> Change | None:
        if ledger.champion != held:
            champion = ledger.champion.version if ledger.champion else "none"
            fix = f"`segpipe registry promote {held.version} --why ...` first"
            raise TrackingError(f"version {held.version} is not the champion (the champion is {champion}); {fix}")
        return None if ledger.is_pinned else Change(PINNED, held, (why,), held, True, {})

    return change_champion(client, version.name, propose)[1]


def unpin(client: MlflowClient, model_name: str, why: str) -> Ledger:
    """Lets the gate promote again."""

    def propose(ledger: Ledger) -> Change | None:
        if not ledger.is_pinned:
            raise TrackingError(f"{model_name!r} has no pinned champion")
        return Change(UNPINNED, ledger.champion, (why,), ledger.champion, False, {})

    return change_champion(client, model_name, propose)[1]


def fetch_champion(model_name: str, output: Path) -> tuple[str, Path]:
    """Downloads the champion's `model.json` and `weights.safetensors`.

    Returns:
        The version's number, and the folder that holds both files.

    Raises:
        TrackingError: there is no champion, or MLflow cannot be reached.
    """
    client = connect()
    champion = find_champion(client, model_name)
    if champion is None:
        raise TrackingError(f"MLflow holds no champion of {model_name!r}; run `dvc repro` first")
    return str(champion.version), fetch_version(model_name, str(champion.version), output)


def find_only_champion(client: MlflowClient) -> str:
    """Gives the name of the only registered model that has a champion.

    Raises:
        TrackingError: there is none, or there are several.
    """
    names = [
        model.name for model in client.search_registered_models(max_results=MAX_MODELS) if CHAMPION in model.aliases
    ]
    if len(names) == 1:
        return str(names[0])
    if not names:
        raise TrackingError("MLflow holds no champion of any model; run `dvc repro` in a project first")
    choices = ", ".join(f"--model models:/{name}@{CHAMPION}" for name in sorted(names))
    raise TrackingError(f"MLflow holds champions of {len(names)} models; choose one: {choices}")
