"""The model card on a real store: of a stranger's version, next to a person's text, and not written twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from mlflow.entities.model_registry import ModelVersion
from mlflow.tracking import MlflowClient

from segpipe.registry.champion import promote
from segpipe.registry.describing import card
from segpipe.registry.describing.card import HEADING, write_card
from segpipe.registry.describing.provenance import trace_version
from segpipe.registry.ledger import MAX_DESCRIPTION_CHARS

NAME = "boxes"
AddVersion = Callable[..., ModelVersion]


def card_of(client: MlflowClient) -> str:
    return str(client.get_registered_model(NAME).description or "")


def test_a_model_without_a_champion_gets_no_card(client: MlflowClient, add_version: AddVersion) -> None:
    add_version("weights")
    write_card(client, NAME)
    write_card(client, "unheard-of")
    assert card_of(client) == ""


def test_a_card_names_the_champion_and_says_what_is_not_known(client: MlflowClient, add_version: AddVersion) -> None:
    promote(client, add_version("a" * 64), "The first.")
    write_card(client, NAME)
    text = card_of(client)
    assert text.startswith(HEADING)
    assert "Version 1 is the champion (weights aaaaaaaaaaaa)" in text
    for heading in ("Intended use", "Model", "Data", "Limits", "Licence", "Scores"):
        assert f"### {heading}\n" in text
    assert "Not stated" in text


def test_a_persons_text_stays_and_is_the_intended_use(client: MlflowClient, add_version: AddVersion) -> None:
    promote(client, add_version("a" * 64), "The first.")
    client.update_registered_model(NAME, "For street scenes by day.")
    write_card(client, NAME)
    first = card_of(client)
    assert first.startswith(f"For street scenes by day.\n\n{HEADING}")
    assert "Not stated. Write it" not in first

    promote(client, add_version("b" * 64), "Better.")
    write_card(client, NAME)
    second = card_of(client)
    assert second.startswith("For street scenes by day.")
    assert second.count(HEADING + "\n") == 1
    assert "Version 2 is the champion" in second and "Version 1 is" not in second


def test_a_card_about_the_present_champion_is_not_written_again(client: MlflowClient, add_version: AddVersion) -> None:
    promote(client, add_version("a" * 64), "The first.")
    write_card(client, NAME)
    before = client.get_registered_model(NAME).last_updated_timestamp
    write_card(client, NAME)
    assert client.get_registered_model(NAME).last_updated_timestamp == before


def test_a_long_text_of_a_person_leaves_a_card_that_mlflow_takes(client: MlflowClient, add_version: AddVersion) -> None:
    promote(client, add_version("a" * 64), "The first.")
    client.update_registered_model(NAME, "x" * (MAX_DESCRIPTION_CHARS - 400))
    write_card(client, NAME)
    assert "more lines" in card_of(client)
    assert len(card_of(client)) < 5000


def test_a_card_that_cannot_be_written_stops_nothing(
    client: MlflowClient, add_version: AddVersion, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    promote(client, add_version("a" * 64), "The first.")

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no answer")

    with monkeypatch.context() as patched:
        patched.setattr(client, "update_registered_model", refuse)
        write_card(client, NAME)
    assert "no answer" in caplog.text


def test_the_ledger_of_an_earlier_release_is_marked_as_no_model(client: MlflowClient, add_version: AddVersion) -> None:
    promote(client, add_version("a" * 64), "The first.")
    client.update_registered_model("boxes.ledger", "The decisions about boxes.")
    write_card(client, NAME)
    assert client.get_registered_model("boxes.ledger").description.startswith("**No model:**")


def test_a_persons_own_heading_of_that_name_stays(client: MlflowClient, add_version: AddVersion) -> None:
    promote(client, add_version("a" * 64), "The first.")
    client.update_registered_model(NAME, f"{HEADING} of our group\nNot for night images.")
    write_card(client, NAME)
    assert "Not for night images." in card_of(client)


def test_a_card_that_could_not_read_the_training_is_written_again(
    client: MlflowClient, add_version: AddVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(client, add_version("a" * 64), "The first.")
    write_card(client, NAME)
    traced = []
    monkeypatch.setattr(card, "trace_version", lambda *given: traced.append(given) or trace_version(*given))
    write_card(client, NAME)
    assert traced


def test_the_card_of_a_deleted_champion_goes(client: MlflowClient, add_version: AddVersion) -> None:
    promote(client, add_version("a" * 64), "The first.")
    client.update_registered_model(NAME, "For street scenes by day.")
    write_card(client, NAME)
    client.delete_model_version(NAME, "1")
    write_card(client, NAME)
    assert card_of(client) == "For street scenes by day."
