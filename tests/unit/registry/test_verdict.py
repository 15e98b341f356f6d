"""Verdicts entered in a real MLflow store: what is decided again and what is not, and what MLflow's pages then say.

The versions are scores without a model: what a champion does on the validation images is stored with its run.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from facts import missing
from mlflow.entities.model_registry import ModelVersion
from mlflow.tracking import MlflowClient

from segpipe.classes import ClassTable
from segpipe.config.register import Register
from segpipe.data.store import MANIFEST
from segpipe.documents import (
    BuiltModel,
    EvaluationDescription,
    InitialWeights,
    ModelDescription,
    NamedDataset,
    UsedParams,
)
from segpipe.errors import Problem
from segpipe.metrics.parts.counts import confusions_of
from segpipe.metrics.parts.scores import score
from segpipe.registry import verdict
from segpipe.registry.champion import CHAMPION, find_champion, pin, promote, roll_back, unpin
from segpipe.registry.ledger import Entry, read_ledger
from segpipe.registry.lock import describe_self
from segpipe.registry.results import Results
from segpipe.registry.verdict import Verdict, ensure_decision
from segpipe.tracking.client import connect
from segpipe.tracking.lineage import LINEAGE
from segpipe.tracking.tags import EVALUATION_DIGEST, VAL_MEAN_IOU, WEIGHTS_BYTES, WEIGHTS_SHA256

DIGEST = "d" * 32
NUM_IMAGES = 6
LIMIT_OF_A_DESCRIPTION = 5_000  # MLflow's
# Better on four videos of six: mIoU 0.5385 where 60 of 100 px everywhere are 0.4286.
DOUBTFUL = (95, 95, 95, 95, 20, 20)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowClient]:
    """One store for all tests; each has a registered model of its own."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SQLAlchemy's, when MLflow's tables are made
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        client = connect()
        client.create_experiment("scores", str(folder / "artifacts"))
        yield client
    mlflow.set_tracking_uri(None)


def _model(names: Sequence[str]) -> ModelDescription:
    return ModelDescription(
        signature="",
        experiment="any",
        model=BuiltModel("any", {}),
        classes=ClassTable(tuple(names), tuple((index, 0, 0) for index in range(len(names)))),
        dataset=NamedDataset("dataset", ""),
        params=UsedParams({}, {}),
        environment={},
        best_epoch=1,
        weights_sha256="",
    )


class Registry:
    """A registered model, and trainings of which only the scores are known."""

    def __init__(self, client: MlflowClient, name: str, folder: Path) -> None:
        self.client, self.name, self.folder = client, name, folder
        self.results: dict[str, Results] = {}
        client.create_registered_model(name)

    def train(
        self,
        num_right_px: Sequence[int],
        names: Sequence[str] = ("road", "car"),
        order: Sequence[int] | None = None,
        is_earlier: bool = False,
    ) -> ModelVersion:
        """Registers a model that gets so many of 100 px right of each class in each image, and stores its scores.

        `is_earlier`: as an earlier release stored them, in a column of dense matrices.
        """
        confusions = np.stack([_confusion(n, len(names)) for n in num_right_px])
        rows = pd.DataFrame(
            {
                "sample_id": [f"{group}_0" for group in range(len(confusions))],
                "group": [str(group) for group in range(len(confusions))],
                "split": "val",
                "image_sha256": [f"image {index}" for index in range(len(confusions))],
                "mask_sha256": [f"mask {index}" for index in range(len(confusions))],
                "attribute_weather": ["rain" if group < 2 else "sun" for group in range(len(confusions))],
            }
        )
        if is_earlier:
            rows = rows.drop(columns="attribute_weather").assign(confusion=[matrix.ravel() for matrix in confusions])
        number = len(self.results) + 1
        folder = self.folder / str(number)
        folder.mkdir()
        places = list(order or range(len(rows)))
        rows.iloc[places].to_parquet(folder / "per_image.parquet", index=False)
        if not is_earlier:
            (folder / "evidence").mkdir()
            confusions_of(confusions[places]).write(folder / "evidence/confusion.parquet")
        (folder / "weights.safetensors").write_bytes(bytes(2_000_000))
        scores = score({"confusion": confusions_of(np.asarray(confusions))}, names)
        experiment = self.client.get_experiment_by_name("scores")
        run_id = self.client.create_run(experiment.experiment_id).info.run_id
        self.keep(run_id, folder, "evaluation")
        tags = {
            WEIGHTS_SHA256: f"weights {number}",
            EVALUATION_DIGEST: DIGEST,
            VAL_MEAN_IOU: repr(scores["mean_iou"]),
            WEIGHTS_BYTES: "2e6",
        }
        version = self.client.create_model_version(
            self.name, f"scores:/{number}", run_id, tags=tags, await_creation_for=0
        )
        self.results[str(version.version)] = Results(
            dataset_folder=folder,
            model_folder=folder,
            evaluation_folder=folder,
            model=_model(names),
            metrics={"val": scores, "test": scores},
            evaluation=EvaluationDescription(weights_sha256="", class_table="", evaluation_digest=DIGEST),
            problems=(),
        )
        return version

    def keep(self, run_id: str, folder: Path, place: str) -> None:
        """Stores the scores that lie in a folder with a run."""
        self.client.log_artifact(run_id, str(folder / "per_image.parquet"), place)
        if (folder / "evidence").exists():
            self.client.log_artifacts(run_id, str(folder / "evidence"), f"{place}/evidence")

    def decide(self, version: ModelVersion, problems: Sequence[Problem] = (), **policy: Any) -> Verdict:
        """Decides about a version as `register` does."""
        results = self.results[str(version.version)]
        results = Results(**{**vars(results), "problems": tuple(problems)})
        policy_ = Register(model_name="any", **policy)
        return ensure_decision(self.client, self.read(version), results, policy_)

    def read(self, version: ModelVersion) -> ModelVersion:
        return self.client.get_model_version(self.name, str(version.version))

    @property
    def entries(self) -> list[Entry]:
        ledger = read_ledger(self.client, self.name)
        assert not ledger.problems
        return [sealed.entry for sealed in ledger.entries]

    @property
    def champion(self) -> str | None:
        """Of alias and ledger, which must agree."""
        alias = find_champion(self.client, self.name)
        held = read_ledger(self.client, self.name).champion
        assert (alias and str(alias.version)) == (held and held.version)
        return None if held is None else held.version


def _confusion(num_right_px: int, num_classes: int) -> np.ndarray:
    confusion = np.zeros((num_classes, num_classes), np.int64)
    for index in range(num_classes):
        confusion[index, index] = num_right_px
        confusion[index, (index + 1) % num_classes] = 100 - num_right_px
    return confusion


@pytest.fixture
def registry(client: MlflowClient, tmp_path: Path, request: pytest.FixtureRequest) -> Registry:
    return Registry(client, request.node.name.replace("[", " ").replace("]", ""), tmp_path)


def flat(num_right_px: int) -> tuple[int, ...]:
    return NUM_IMAGES * (num_right_px,)


def test_the_first_and_a_better_one(registry: Registry) -> None:
    first, second = registry.train(flat(60)), registry.train(flat(80))
    assert registry.decide(first) == Verdict(True, ("There was no champion.",), "1", None)
    promoted = registry.decide(second)
    assert (promoted.is_promoted, promoted.champion, promoted.champion_before) == (True, "2", "1")
    assert registry.champion == "2"
    assert [(entry.action, entry.about.version if entry.about else None) for entry in registry.entries] == [
        ("promoted", "1"),
        ("promoted", "2"),
    ]
    tags = registry.read(second).tags
    assert tags["segpipe.decision"] == "promoted"
    assert json.loads(tags["segpipe.reasons"]) == list(promoted.reasons)
    assert tags["segpipe.compared_with"] == "1"
    assert (tags["segpipe.delta"], tags["segpipe.delta_interval"]) == ("+0.2381", "+0.2381 to +0.2381")
    assert tags["segpipe.probability_better"] == "1.0000"
    lines = registry.read(second).description.splitlines()
    assert lines[:2] == ["**Promoted.**", ""]
    assert lines[2].startswith("- Better beyond chance: validation mIoU 0.6667 against 0.4286 of version 1")
    assert "| | val | test | champion 1, val | difference | 95% interval |" in lines
    assert "| car | 0.6667 | 0.6667 | 0.4286 | +0.2381 | +0.2381 to +0.2381 |" in lines
    assert "| pixel accuracy | 0.8000 | 0.8000 | - | - | - |" in lines


def test_on_the_same_grounds_nothing_is_decided_or_written_again(registry: Registry) -> None:
    first, second = registry.train(flat(60)), registry.train(flat(50))
    registry.decide(first)
    refused = registry.decide(second)
    assert not refused.is_promoted
    assert registry.champion == "1"
    before, entries = registry.read(second), registry.entries
    assert registry.decide(second) == refused
    assert registry.decide(second, export=["onnx"], budget={"backend": "onnx"}) == refused  # neither decides anything
    assert registry.decide(first) == Verdict(True, ("There was no champion.",), "1", None)
    assert registry.entries == entries
    assert registry.read(second).last_updated_timestamp == before.last_updated_timestamp
    assert registry.read(second).tags == before.tags


def test_a_changed_policy_decides_anew(registry: Registry) -> None:
    first, second = registry.train(flat(60)), registry.train(DOUBTFUL)
    registry.decide(first)
    assert not registry.decide(second).is_promoted
    assert registry.decide(second, better="point").is_promoted
    assert registry.champion == "2"
    assert [entry.action for entry in registry.entries] == ["promoted", "not promoted", "promoted"]
    assert registry.read(second).tags["segpipe.decision"] == "promoted"
    assert registry.read(second).description.startswith("**Promoted.**\n\n- Better: ")
    # A stricter policy does not dethrone.
    assert registry.decide(second, min_mean_iou=0.9).is_promoted
    assert len(registry.entries) == 3


def test_problems_that_are_mended_or_accepted_decide_anew(registry: Registry) -> None:
    first, second, third = registry.train(flat(60)), registry.train(flat(80)), registry.train(flat(90))
    registry.decide(first)
    problem = Problem("leak-near", "a_001", "looks like a_000", "Delete one")
    refused = registry.decide(second, [problem])
    assert not refused.is_promoted
    assert "The data set's report warns of leak-near (1 times; the first: a_001)." in refused.reasons[-1]
    assert registry.decide(second, [problem]) == refused
    assert registry.decide(second).is_promoted
    assert not registry.decide(third, [problem]).is_promoted
    assert registry.decide(third, [problem], accepted_problems=["leak-near"]).is_promoted


def test_a_new_champion_means_a_new_decision(registry: Registry) -> None:
    first, second, third = registry.train(flat(60)), registry.train(flat(70)), registry.train(flat(80))
    registry.decide(first)
    registry.decide(third)
    assert "of version 3 " in registry.decide(second).reasons[0]
    roll_back(registry.client, registry.name, "Version 3 sees no bicycles.")
    refused = registry.decide(second)
    assert not refused.is_promoted
    assert refused.reasons[0].startswith(f"Version 1 is pinned by {describe_self()}: Version 3 sees no bicycles. ")
    assert "of version 1 " in refused.reasons[1]


def test_a_pinned_champion_stays_and_the_gate_says_what_it_would_have_done(registry: Registry) -> None:
    first, better, worse = registry.train(flat(60)), registry.train(flat(80)), registry.train(flat(50))
    registry.decide(first)
    pin(registry.client, registry.read(first), "A customer tests it.")
    pinned = f"Version 1 is pinned by {describe_self()}: A customer tests it. "
    refused = registry.decide(better)
    assert not refused.is_promoted
    assert refused.reasons[0].startswith(pinned)
    assert "would have promoted it" in refused.reasons[0]
    assert "`segpipe registry unpin`" in refused.reasons[0]
    assert refused.reasons[1].startswith("Better beyond chance: ")
    assert "would have kept the champion" in registry.decide(worse).reasons[0]
    assert registry.decide(better) == refused
    assert (registry.champion, len(registry.entries)) == ("1", 4)

    unpin(registry.client, registry.name, "The test is over.")
    assert registry.decide(better).is_promoted
    assert registry.champion == "2"


def test_images_are_matched_by_content_not_by_their_order(registry: Registry) -> None:
    champion = registry.train((90, 80, 70, 60, 50, 40), order=(5, 3, 1, 0, 2, 4))
    challenger = registry.train((91, 81, 71, 61, 51, 41))
    registry.decide(champion)
    assert registry.decide(challenger).is_promoted  # by one point on each image; by chance, were they mixed up


@pytest.mark.parametrize("is_earlier", [(True, False), (False, True)])
def test_scores_of_earlier_releases_are_read(registry: Registry, is_earlier: tuple[bool, bool]) -> None:
    champion = registry.train((90, 80, 70, 60, 50, 40), order=(5, 3, 1, 0, 2, 4), is_earlier=is_earlier[0])
    challenger = registry.train((91, 81, 71, 61, 51, 41), is_earlier=is_earlier[1])
    registry.decide(champion)
    assert registry.decide(challenger).is_promoted
    assert registry.entries[-1].evidence["num_images"] == 6
    assert registry.entries[-1].evidence["champion_mean_iou"] == pytest.approx(390 / 810)


def test_an_attribute_of_the_source_is_a_slice(registry: Registry) -> None:
    # In rain 20 of 100 px instead of 60, IoU 20/180 instead of 60/140; better on the whole.
    champion, challenger = registry.train(flat(60)), registry.train((20, 20, 95, 95, 95, 95))
    registry.decide(champion)
    decided = registry.decide(challenger, better="point", max_slice_drop=0.3)
    assert decided.is_promoted is False
    (reason,) = (reason for reason in decided.reasons if "register.max_slice_drop" in reason and "weather" in reason)
    assert not missing(reason, "'rain'", "0.3175", "0.4286", "0.1111", "2 images")
    assert registry.decide(challenger, better="point").is_promoted


@pytest.mark.parametrize("num_seen", [0, 2, 6])
def test_images_that_the_champion_was_trained_on_do_not_count(registry: Registry, num_seen: int) -> None:
    """It was registered with other images, and trained on some of today's validation images."""
    champion, challenger = registry.train((100, 100, 60, 60, 60, 60)), registry.train(flat(80))
    registry.decide(champion)
    client, run_id = registry.client, champion.run_id
    client.set_model_version_tag(registry.name, str(champion.version), EVALUATION_DIGEST, "e" * 32)
    scores = registry.results["1"].evaluation_folder / "per_image.parquet"
    registry.keep(run_id, scores.parent, f"evaluations/{DIGEST}")
    seen = pd.DataFrame({"image_sha256": [f"image {index}" for index in range(NUM_IMAGES)]})
    seen["split"] = ["train" if index < num_seen else "val" for index in range(NUM_IMAGES)]
    seen.to_parquet(scores.with_name(MANIFEST))
    client.log_artifact(run_id, str(scores.with_name(MANIFEST)), LINEAGE)

    decided = registry.decide(challenger)

    evidence = registry.entries[-1].evidence
    if num_seen == NUM_IMAGES:
        assert not decided.is_promoted
        assert "cannot be compared: every validation image was used in a training" in decided.reasons[0]
        return
    # Of all six: 440 of 600 px right, an IoU of 440/760; of the four that it has not seen 60 of 100 each, 60/140.
    expected = {0: 440 / 760, 2: 60 / 140}[num_seen]
    assert evidence["champion_mean_iou"] == pytest.approx(expected)
    assert evidence["num_images"] == NUM_IMAGES - num_seen
    assert decided.is_promoted is (num_seen == 2)
    assert "other validation images, labels or classes (mIoU 0.5789 there)" in decided.reasons[1]
    left_out = "It was trained on 2 of them, which are left out here."
    assert decided.reasons[1].endswith(left_out) is (num_seen == 2)


@pytest.mark.parametrize("is_taken", [True, False])
def test_images_that_the_first_weights_were_trained_on_do_not_count(registry: Registry, is_taken: bool) -> None:
    champion, elder = registry.train(flat(60)), registry.train(flat(10))
    challenger = registry.train((100, 100, 60, 60, 60, 60))
    seen = pd.DataFrame({"image_sha256": ["image 0", "image 1", "image 2"], "split": ["train", "train", "val"]})
    seen.to_parquet(registry.folder / MANIFEST)
    registry.client.log_artifact(elder.run_id, str(registry.folder / MANIFEST), LINEAGE)
    # A number that was given again after a deletion, to other weights, says nothing of these.
    initial = InitialWeights(f"models:/{registry.name}@champion", "2", "weights 2" if is_taken else "others")
    results = registry.results["3"]
    registry.results["3"] = replace(results, model=replace(results.model, initial_weights=initial))
    registry.decide(champion)

    decided = registry.decide(challenger, better="point")

    assert decided.is_promoted is not is_taken
    assert registry.entries[-1].evidence["num_images"] == (NUM_IMAGES - 2 if is_taken else NUM_IMAGES)
    noted = [reason for reason in decided.reasons if reason.startswith("2 validation images are left out, because")]
    assert len(noted) == int(is_taken)


def test_a_version_that_a_person_made_champion_in_mlflow_is_not_weighed_against_itself(registry: Registry) -> None:
    first, second = registry.train(flat(60)), registry.train(flat(50))
    registry.decide(first)
    refused = registry.decide(second)
    registry.client.set_registered_model_alias(registry.name, CHAMPION, str(second.version))
    assert registry.decide(second) == Verdict(False, refused.reasons, "2", "1")
    assert registry.champion == "2"
    assert [entry.action for entry in registry.entries] == ["promoted", "not promoted", "noticed"]
    # The first one was champion and is none by a person's doing: it stays so.
    assert registry.decide(first).champion == "2"
    assert len(registry.entries) == 3


def test_where_the_champion_was_deleted_one_that_was_champion_earlier_may_be_again(registry: Registry) -> None:
    first, second = registry.train(flat(60)), registry.train(flat(80))
    registry.decide(first)
    registry.decide(second)
    registry.client.delete_model_version(registry.name, str(second.version))
    assert registry.decide(first) == Verdict(True, ("There was no champion.",), "1", None)
    assert registry.champion == "1"
    assert [entry.action for entry in registry.entries] == ["promoted", "promoted", "noticed", "promoted"]


def test_a_champion_that_came_while_the_evidence_was_gathered_is_the_one_to_beat(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = registry.train(flat(60)), registry.train(flat(80)), registry.train(flat(70))
    registry.decide(first)
    decide = verdict.decide

    def while_another_promotes(*evidence: Any) -> Any:
        monkeypatch.setattr(verdict, "decide", decide)
        promote(registry.client, registry.read(second), "Quicker.")
        return decide(*evidence)

    monkeypatch.setattr(verdict, "decide", while_another_promotes)
    refused = registry.decide(third)
    assert not refused.is_promoted
    assert refused.reasons[0].startswith("Not better beyond chance: validation mIoU 0.5385 against 0.6667 of version 2")
    assert (registry.champion, refused.champion_before) == ("2", "2")
    assert [entry.action for entry in registry.entries] == ["promoted", "promoted", "not promoted"]


def test_two_processes_that_decide_about_the_same_version_make_one_entry(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = registry.train(flat(60)), registry.train(flat(50))
    registry.decide(first)
    decide = verdict.decide

    def while_another_decides(*evidence: Any) -> Any:
        monkeypatch.setattr(verdict, "decide", decide)
        registry.decide(second)
        return decide(*evidence)

    monkeypatch.setattr(verdict, "decide", while_another_decides)
    registry.decide(second)
    assert [entry.action for entry in registry.entries] == ["promoted", "not promoted"]


@pytest.mark.parametrize("letters", [8, 60])
def test_a_description_of_150_classes_fits_and_the_ledger_holds_them_all(registry: Registry, letters: int) -> None:
    names = [f"class {number} ".ljust(letters, "x") for number in range(150)]
    first, second = registry.train(flat(60), names), registry.train(flat(80), names)
    registry.decide(first)
    policy = {"min_class_iou": dict.fromkeys(names, 0.9)}  # 150 reasons, more than a description holds
    for asked in ({}, policy):
        third = registry.train(flat(50), names)
        registry.decide(third, **asked)
        description = registry.read(third).description
        assert len(description) < LIMIT_OF_A_DESCRIPTION
        assert description.startswith("**Not promoted.**\n\n- Not better beyond chance: ")
        assert description.endswith(" more classes: `segpipe registry show`")
    assert registry.decide(second).is_promoted
    assert list(registry.entries[-1].evidence["class_deltas"]) == sorted(names)
    assert len(registry.entries[-2].reasons) == 151
