"""Names that a user has typed, and Prefect's random ones."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import prefect.server
import pytest
from prefect.utilities.names import generate_slug

from pipelines import names
from pipelines.names import ADJECTIVES_OF_THE_FORM, ANIMALS_OF_THE_FORM, is_typed
from pipelines.workspace import Revision

ASSETS = Path(prefect.server.__file__).parent / "ui-v2/assets"


@pytest.mark.parametrize(
    "name", ["labels of May", "new-labels", "Small-Model", "Refined-Labels", "beta-test", "first-otter-2", "retrain"]
)
def test_a_typed_name_is_known(name: str) -> None:
    assert is_typed(name)


@pytest.mark.parametrize("name", ["", "Tasty-Otter", "Intelligent-Marmot"])
def test_a_name_that_the_form_fills_in_is_known(name: str) -> None:
    assert not is_typed(name)


def test_a_name_that_the_server_makes_is_known() -> None:
    assert [name for name in (generate_slug(2) for _ in range(300)) if is_typed(name)] == []


def test_the_installed_form_takes_its_names_from_the_words_that_are_known() -> None:
    script = "".join(path.read_text(encoding="utf-8") for path in ASSETS.glob("deployment_._id.run-*.js"))
    adjectives, animals = re.search(r"=\[(`Awesome`[^]]*)\]", script), re.search(r"=`(Aardvark\.[^`]*)`", script)
    assert adjectives and animals
    assert set(re.findall("`([^`]+)`", adjectives[1])) == set(ADJECTIVES_OF_THE_FORM.split())
    assert {word for word in animals[1].split(".") if len(word) <= 6} <= set(ANIMALS_OF_THE_FORM.split())


@pytest.mark.parametrize(
    ("given", "revision", "recipe", "expected"),
    [
        ("brave-otter", "main", "", "retrain-main"),
        ("brave-otter", "main", "smoke", "retrain-main-smoke"),
        ("brave-otter", "0123456789ab" * 3 + "cdef", "smoke", "retrain-0123456789ab-smoke"),
        ("labels of May", "main", "smoke", "labels of May"),
    ],
)
def test_a_run_is_named_by_what_it_does(
    monkeypatch: pytest.MonkeyPatch, given: str, revision: str, recipe: str, expected: str
) -> None:
    run = SimpleNamespace(name=given, parameters={"revision": revision, "recipe": recipe})
    monkeypatch.setattr(names, "flow_run", run)
    assert names.by_parameters("retrain", "revision", "recipe")() == expected


@pytest.mark.parametrize(
    ("given", "revision", "expected"),
    [
        ("retrain-main", Revision("main", "0123456789" * 4), "retrain-main-012345678901"),
        ("retrain-current-smoke", Revision("current", "ab" * 20, "smoke"), "retrain-current-smoke-abababababab"),
        ("labels of May", Revision("main", "ab" * 20), None),
        ("retrain-abababababab", Revision("ab" * 20, "ab" * 20), None),
    ],
)
def test_a_run_gets_the_commit_that_was_found(
    monkeypatch: pytest.MonkeyPatch, given: str, revision: Revision, expected: str | None
) -> None:
    monkeypatch.setattr(names, "flow_run", SimpleNamespace(name=given))
    assert names.with_commit("retrain", revision) == expected
