"""The story that a retraining leaves on its page."""

from dataclasses import replace

import pytest

from pipelines.summary import summarize
from pipelines.workspace import Revision
from segpipe.documents import Publication, Registration

SHA = "0123456789abcdef0123456789abcdef01234567"
HERE = Revision("current", SHA)


@pytest.fixture
def publication() -> Publication:
    """What `segpipe publish --json` prints after a promotion."""
    return Publication(
        run_id="f00d",
        experiment_id="3",
        champion_before="4",
        registration=Registration(
            model_name="streets",
            version="5",
            champion="5",
            decision="promoted",
            reasons=("0.7000 is more than 0.6000.", "Same images."),
            mean_iou=0.70001,
            weights_sha256="0" * 64,
            evaluation_digest="e",
        ),
        labels={"mean_iou": "mIoU", "pixel_accuracy": "pixel accuracy"},
        metrics={
            "val": {"mean_iou": 0.70001, "pixel_accuracy": 0.9, "iou": {"road": 0.81239, "pole": None}},
            "test": {"mean_iou": 0.61, "pixel_accuracy": 0.8, "iou": {"road": 0.7, "pole": 0.0}},
        },
    )


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def rows_of(markdown: str) -> dict[str, str]:
    cells = [line.strip("| ").split(" | ") for line in markdown.splitlines() if line.startswith("| ")]
    return {cell[0]: cell[1] for cell in cells if len(cell) == 2}


def test_a_promotion_names_both_champions(publication: Publication) -> None:
    outcome = summarize(publication, HERE, ["train", "evaluate", "register"], None)
    assert outcome.headline == ("streets version 5 promoted; the champion is version 5; ran train, evaluate, register")
    assert outcome.markdown.startswith(f"# {outcome.headline}\n")
    assert rows_of(outcome.markdown) == {
        "---": "---",
        "revision": "0123456789ab",
        "stages run": "train, evaluate, register",
        "version": "streets version 5",
        "MLflow run": "f00d",
        "decision": "**promoted**",
        "reasons": "0.7000 is more than 0.6000. Same images.",
        "champion before": "version 4",
        "champion now": "version 5",
        "val mIoU": "0.7000",
        "test mIoU": "0.6100",
    }


def test_the_first_champion_has_none_before_it(publication: Publication) -> None:
    publication = replace(publication, champion_before=None)
    rows = rows_of(summarize(publication, HERE, ["register"], None).markdown)
    assert rows["champion before"] == "none"
    assert rows["champion now"] == "version 5"


def test_a_challenger_that_was_not_better_leaves_the_champion(publication: Publication) -> None:
    kept = replace(publication.registration, decision="kept", champion="4")
    publication = replace(publication, registration=kept)
    outcome = summarize(publication, HERE, ["register"], None)
    assert outcome.headline == "streets version 5 kept; the champion is version 4; ran register"
    rows = rows_of(outcome.markdown)
    assert rows["decision"] == "**kept**"
    assert (rows["champion before"], rows["champion now"]) == ("version 4", "version 4")


def test_where_nothing_was_stale_nothing_was_decided_now(publication: Publication) -> None:
    # The decision is that of an earlier retraining; what was champion before it is no news of this one.
    outcome = summarize(publication, HERE, [], None)
    assert outcome.headline.endswith("nothing was stale, no stage was run")
    rows = rows_of(outcome.markdown)
    assert rows["stages run"] == "none: nothing was stale"
    assert (rows["champion before"], rows["champion now"]) == ("version 5", "version 5")


@pytest.mark.parametrize("server", ["http://127.0.0.1:5000", "https://mlflow.example/"])
def test_version_and_run_are_links_where_mlflow_is_a_server(
    publication: Publication, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    rows = rows_of(summarize(publication, HERE, [], None).markdown)
    address = server.rstrip("/")
    assert rows["version"] == f"[streets version 5]({address}/#/models/streets/versions/5)"
    assert rows["MLflow run"] == f"[f00d]({address}/#/experiments/3/runs/f00d?workflowType=machine_learning)"


def test_nothing_is_a_link_where_mlflow_is_a_file(publication: Publication, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////somewhere/mlflow.db")
    markdown = summarize(publication, HERE, [], None).markdown
    assert "](" not in markdown
    assert "sqlite" not in markdown


def test_a_score_that_does_not_exist_is_a_dash_and_a_zero_is_a_zero(publication: Publication) -> None:
    assert summarize(publication, HERE, [], None).scores == [
        {"measure": "mIoU", "val": 0.7, "test": 0.61},
        {"measure": "pixel accuracy", "val": 0.9, "test": 0.8},
        {"measure": "IoU road", "val": 0.8124, "test": 0.7},
        {"measure": "IoU pole", "val": "-", "test": 0.0},
    ]


def test_changes_recipe_and_commit_are_named(publication: Publication) -> None:
    changed = Revision("current", SHA, changes=("data.dvc",))
    assert rows_of(summarize(publication, changed, [], None).markdown)["revision"] == "0123456789ab+changes"
    with_recipe = Revision("main", SHA, recipe="camvid")
    rows = rows_of(summarize(publication, with_recipe, [], "beef").markdown)
    assert rows["revision"] == "0123456789ab camvid"
    assert rows["dvc.lock"] == "commit beef"
    assert "dvc.lock" not in rows_of(summarize(publication, HERE, [], None).markdown)
