"""MLflow after the pipeline, against a real SQLite store: what a run and a version hold, and that it heals itself."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from daemons import find_free_ports
from facts import missing
from integration.project import EXPERIMENT, MODEL_NAME, Project
from mlflow.entities import Run, ViewType
from mlflow.tracking import MlflowClient

from segpipe.registry.ledger import Held, read_ledger

NUM_EPOCHS, NUM_VALIDATION_IMAGES = 12, 3
EPOCHS = list(range(1, NUM_EPOCHS + 1))
EPOCH_METRICS = ("train_loss", "train_mean_iou", "val_loss", "val_mean_iou", "learning_rate", "images_per_second")


def all_runs(client: MlflowClient) -> list[Run]:
    experiments = [experiment.experiment_id for experiment in client.search_experiments(view_type=ViewType.ALL)]
    return sorted(client.search_runs(experiments, run_view_type=ViewType.ALL), key=lambda run: run.info.start_time)


def the_run(project: Project) -> Run:
    (run,) = all_runs(project.client())
    return run


def artifacts_below(client: MlflowClient, run_id: str, folder: str = "") -> list[str]:
    paths: list[str] = []
    for item in client.list_artifacts(run_id, folder):
        paths += artifacts_below(client, run_id, item.path) if item.is_dir else [item.path]
    return sorted(paths)


def snapshot(project: Project) -> dict[str, Any]:
    """All that the store holds: runs with their whole history and files, logged models, versions, ledger, aliases."""
    client = project.client()
    runs = {}
    for run in all_runs(client):
        histories = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
        runs[run.info.run_id] = {
            "run": run.to_dictionary(),
            "inputs": [(i.dataset.name, i.dataset.digest) for i in run.inputs.dataset_inputs],
            "histories": {name: [(m.step, m.value, m.timestamp) for m in h] for name, h in histories.items()},
            "artifacts": artifacts_below(client, run.info.run_id),
        }
    experiment = client.get_experiment_by_name(EXPERIMENT)
    models = [m.to_dictionary() for m in client.search_logged_models([experiment.experiment_id])]
    versions = [dict(v) for v in client.search_model_versions(f"name = '{MODEL_NAME}'")]
    for version in versions:
        version["metrics"] = [(m.key, m.value, m.step) for m in version.get("metrics") or []]
    aliases = dict(client.get_registered_model(MODEL_NAME).aliases)
    ledger = [dict(v) for v in client.search_model_versions(f"name = '{MODEL_NAME}.ledger'")]
    return {"runs": runs, "models": models, "versions": versions, "aliases": aliases, "ledger": ledger}


def steps_of(project: Project, run: Run, metric: str) -> list[int]:
    return sorted(m.step for m in project.client().get_metric_history(run.info.run_id, f"epochs/{metric}"))


# What is there after the pipeline


def test_the_run_says_where_it_comes_from(original: Project) -> None:
    run = the_run(original)
    assert run.info.status == "FINISHED"
    assert run.data.params["train.learning_rate"] == "0.03"
    assert run.data.params["train.model.name"] == "unet"
    assert run.data.params["train.model.options.width"] == "4"
    assert run.data.params["train.augment.crop"] in {"(32, 48)", "[32, 48]"}
    assert {"class_weights.weights.ground", "class_weights.weights.box"} <= run.data.params.keys()
    tags = run.data.tags
    assert tags["segpipe.git_commit"] == original.call("git", "rev-parse", "HEAD~1").strip()
    assert tags["segpipe.git_dirty"] == "false"
    assert tags["segpipe.environment.device"] == "cpu"
    assert tags["mlflow.source.git.commit"] == tags["segpipe.git_commit"]
    assert (tags["mlflow.source.name"], tags["mlflow.source.type"]) == ("src/segpipe/stages/train.py", "LOCAL")
    assert tags["mlflow.user"]
    experiment = original.client().get_experiment_by_name(EXPERIMENT)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"


def test_the_rest_of_its_lineage_is_one_file(original: Project, tmp_path: Path) -> None:
    run = the_run(original)
    assert len([name for name in run.data.tags if name.startswith(("segpipe.dvc.", "segpipe.environment."))]) == 1
    path = original.client().download_artifacts(run.info.run_id, "lineage/lineage.json", str(tmp_path))
    lineage = json.loads(Path(path).read_text(encoding="utf-8"))
    assert {"data", "build/raw", "build/dataset", "build/class_weights.json"} <= lineage["data"].keys()
    assert lineage["environment"].items() >= {"num_threads": "1", "device": "cpu"}.items()
    assert lineage["environment"].keys() >= {"torch", "numpy", "pillow"}


def test_the_run_has_each_split_of_the_data_set_as_an_input(original: Project) -> None:
    inputs = {i.tags[0].value: i.dataset for i in the_run(original).inputs.dataset_inputs}
    assert inputs.keys() == {"train", "val", "test"}
    digest = original.json("build/dataset/dataset.json")["digest"]
    for split, dataset in inputs.items():
        assert (dataset.name, dataset.digest) == ("data", f"{digest[:16]}-{split}")
        assert "uint8" in dataset.schema
    profile = json.loads(inputs["val"].profile)
    assert (profile["num_samples"], profile["num_groups"]) == (NUM_VALIDATION_IMAGES, 1)
    assert profile["licence"] == "painted for a test"
    assert profile["share_of_labelled_pixels"].keys() == {"ground", "sky", "box"}


def test_the_run_has_every_metric_of_every_epoch_once(original: Project) -> None:
    run = the_run(original)
    for metric in EPOCH_METRICS:
        assert steps_of(original, run, metric) == EPOCHS, metric


def test_the_run_has_overlays_over_the_epochs_and_the_evaluation(original: Project) -> None:
    files = artifacts_below(original.client(), the_run(original).info.run_id)
    images = {Path(file).name for file in files if file.startswith("images/") and file.endswith(".png")}
    assert any("c_000" in name for name in images)
    assert len({name.partition("step")[2][1:].partition(name.partition("step")[2][0])[0] for name in images}) > 2
    assert "class_weights.json" in files
    names = ("metrics.json", "report.html", "confusion_matrix.png", "per_image.parquet")
    for name in (*names, "evidence/confusion.parquet", "tables/slices.parquet"):
        assert f"evaluation/{name}" in files


def test_the_run_has_a_copy_of_the_report_with_the_decision(original: Project, tmp_path: Path) -> None:
    run_id = the_run(original).info.run_id
    copy = Path(original.client().download_artifacts(run_id, "decision/report.html", str(tmp_path)))
    page = copy.read_text(encoding="utf-8")
    registration = original.json("build/registration.json")
    assert not missing(page, registration["decision"], "none before", 'href="../evaluation/overlays/val/')
    assert "none before" not in (original.root / "build/evaluation/report.html").read_text(encoding="utf-8")


def test_the_run_has_the_scores_of_the_evaluation(original: Project) -> None:
    scores = original.json("build/evaluation/metrics.json")
    metrics = the_run(original).data.metrics
    for split in ("val", "test"):
        assert metrics[f"final_{split}/mean_iou"] == scores[split]["mean_iou"]
        assert metrics[f"final_{split}/iou_box"] == scores[split]["iou"]["box"]


def test_the_version_is_the_champion_and_says_why(original: Project) -> None:
    client = original.client()
    version = client.get_model_version_by_alias(MODEL_NAME, "champion")
    registration = original.json("build/registration.json")
    scores = original.json("build/evaluation/metrics.json")
    assert registration == {
        "model_name": MODEL_NAME,
        "version": "1",
        "decision": "promoted",
        "reasons": ["There was no champion."],
        "champion": "1",
        "mean_iou": scores["val"]["mean_iou"],
        "weights_sha256": hashlib.sha256(
            (original.root / "build/model/weights.safetensors").read_bytes()
        ).hexdigest(),
        "evaluation_digest": original.json("build/evaluation/evaluation.json")["evaluation_digest"],
    }  # fmt: skip
    assert str(version.version) == "1"
    assert version.run_id == the_run(original).info.run_id
    assert version.tags["segpipe.weights_sha256"] == registration["weights_sha256"]
    assert float(version.tags["segpipe.val_mean_iou"]) == registration["mean_iou"]
    assert version.tags["segpipe.evaluation_digest"] == registration["evaluation_digest"]
    assert float(version.tags["segpipe.val_iou.box"]) == pytest.approx(scores["val"]["iou"]["box"], abs=5e-5)
    assert (
        int(version.tags["segpipe.weights_bytes"]) == (original.root / "build/model/weights.safetensors").stat().st_size
    )
    assert version.tags["segpipe.dataset_digest"] == original.json("build/dataset/dataset.json")["digest"]
    run_tags = the_run(original).data.tags
    lineage = {"segpipe.git_commit", "segpipe.git_dirty", "segpipe.dvc_lock_sha256", "segpipe.environment.device"}
    for name in lineage:
        assert version.tags[name] == run_tags[name], name
    assert version.tags["segpipe.decision"] == "promoted"
    assert json.loads(version.tags["segpipe.reasons"]) == registration["reasons"]
    assert "There was no champion." in version.description


def test_the_ledger_begins_with_the_first_version(original: Project) -> None:
    ledger = read_ledger(original.client(), MODEL_NAME)
    assert not ledger.problems
    ((number, entry),) = [(sealed.number, sealed.entry) for sealed in ledger.entries]
    held = Held("1", original.json("build/model/model.json")["weights_sha256"])
    assert (number, entry.action, entry.about, entry.champion_before) == (1, "promoted", held, None)
    assert (entry.champion_after, entry.is_pinned, ledger.entries[0].is_applied) == (held, False, True)
    assert entry.evidence["num_images"] == NUM_VALIDATION_IMAGES
    names = {model.name for model in original.client().search_registered_models()}
    assert names == {MODEL_NAME, f"{MODEL_NAME}.ledger"}  # and no lock is left


def test_the_logged_model_is_the_trained_one_with_its_signature(original: Project) -> None:
    client = original.client()
    run = the_run(original)
    (model,) = client.search_logged_models([run.info.experiment_id])
    assert model.source_run_id == run.info.run_id
    assert str(model.status) == "READY"
    assert (model.model_type, model.params["train.model.name"]) == ("semantic-segmentation", "unet")
    digests = {i.tags[0].value: i.dataset.digest for i in run.inputs.dataset_inputs}
    measured_on = {metric.key: (metric.dataset_name, metric.dataset_digest) for metric in model.metrics}
    for split in ("val", "test"):
        assert measured_on[f"final_{split}/mean_iou"] == ("data", digests[split])


def test_the_registered_model_has_a_card_about_its_champion(original: Project) -> None:
    card = original.client().get_registered_model(MODEL_NAME).description
    score = original.json("build/evaluation/metrics.json")["test"]["iou"]["box"]
    facts = ("Version 1 is the champion", "`unet`", "painted for a test", "- val: 3 images of 1 groups", f"{score:.4f}")
    assert not missing(card, *facts, "### Intended use\nNot stated", "first weights: `none`")


def as_an_earlier_release(project: Project) -> None:
    """Puts the lineage of the run and its version into their tags, and removes the file that holds it now."""
    client, run = project.client(), the_run(project)
    (file,) = (project.root / "mlruns").rglob("lineage/lineage.json")
    lineage = json.loads(file.read_text(encoding="utf-8"))
    file.unlink()
    for prefix, part in (("segpipe.dvc.", "data"), ("segpipe.environment.", "environment")):
        for name, value in lineage[part].items():
            client.set_tag(run.info.run_id, prefix + name, value)
            client.set_model_version_tag(MODEL_NAME, "1", prefix + name, value)


def test_a_version_of_an_earlier_release_says_the_same(finished: Project) -> None:
    def said() -> list[Any]:
        shown = json.loads(finished.call("segpipe", "registry", "show", "1", "--json"))
        traced = json.loads(finished.call("segpipe", "registry", "lineage", "1", "--json"))
        return [shown["tags"], traced["data"], traced["environment"], traced["code"]]

    new = said()
    assert new[0]["segpipe.environment.torch"] == new[2]["torch"]
    as_an_earlier_release(finished)
    assert said() == new


# Publishing again


def test_registering_again_changes_nothing(finished: Project) -> None:
    before, files = snapshot(finished), finished.files("mlruns").keys()
    build = finished.files()
    finished.stage("register")
    assert snapshot(finished) == before
    assert finished.files("mlruns").keys() == files
    assert finished.files() == build


def test_publishing_changes_nothing_after_a_run_of_the_pipeline_and_shows_the_result(finished: Project) -> None:
    before, build = snapshot(finished), finished.files()
    text = finished.call("segpipe", "publish")
    assert snapshot(finished) == before
    assert finished.files() == build
    for fragment in ("box", "mIoU", "pixel accuracy", "version 1: promoted. There was no champion.", "mlflow ui"):
        assert fragment in text
    assert "build/evaluation/report.html" in text


# What was deleted comes back


def test_a_deleted_run_is_restored(finished: Project) -> None:
    before = snapshot(finished)
    finished.client().delete_run(the_run(finished).info.run_id)
    finished.call("segpipe", "publish")
    assert snapshot(finished) == before


def test_a_deleted_experiment_is_restored(finished: Project) -> None:
    run = the_run(finished)
    finished.client().delete_experiment(run.info.experiment_id)
    finished.call("segpipe", "publish")
    restored = the_run(finished)
    assert restored.info.lifecycle_stage == "active"
    assert restored.info.run_id == run.info.run_id
    assert finished.client().get_experiment(run.info.experiment_id).lifecycle_stage == "active"


def test_a_deleted_version_is_restored_with_the_alias(finished: Project) -> None:
    finished.client().delete_model_version(MODEL_NAME, "1")
    finished.stage("register")
    registration = finished.json("build/registration.json")
    champion = finished.client().get_model_version_by_alias(MODEL_NAME, "champion")
    assert registration["decision"] == "promoted"
    assert registration["champion"] == registration["version"] == str(champion.version)
    assert champion.tags["segpipe.weights_sha256"] == registration["weights_sha256"]
    assert len(all_runs(finished.client())) == 1
    assert len(finished.client().search_model_versions(f"name = '{MODEL_NAME}'")) == 1


def test_a_deleted_registered_model_is_restored(finished: Project) -> None:
    finished.client().delete_registered_model(MODEL_NAME)
    finished.call("segpipe", "publish")
    assert str(finished.client().get_model_version_by_alias(MODEL_NAME, "champion").version) == "1"


def test_a_deleted_alias_is_restored(finished: Project) -> None:
    before = snapshot(finished)
    finished.client().delete_registered_model_alias(MODEL_NAME, "champion")
    finished.call("segpipe", "publish")
    after = snapshot(finished)
    assert after["aliases"] == before["aliases"]
    assert len(after["versions"]) == 1
    actions = [sealed.entry.action for sealed in read_ledger(finished.client(), MODEL_NAME).entries]
    assert actions == ["promoted", "noticed"]


def test_a_deleted_logged_model_is_restored_and_the_champion_can_be_used(finished: Project) -> None:
    run = the_run(finished)
    (model,) = finished.client().search_logged_models([run.info.experiment_id])
    finished.client().delete_logged_model(model.model_id)
    finished.call("segpipe", "publish")
    assert len(finished.client().search_logged_models([run.info.experiment_id])) == 1
    finished.call("segpipe", "predict", "data/images", "--output", "predictions")


def delete_journal(project: Project) -> None:
    shutil.rmtree(project.root / "checkpoints")


def keep_journal(project: Project) -> None:
    assert list((project.root / "checkpoints").glob("*/journal.jsonl"))


@pytest.mark.parametrize("prepare", [keep_journal, delete_journal])
def test_a_lost_store_is_made_again_with_the_whole_history(finished: Project, prepare: Any) -> None:
    scores = finished.json("build/evaluation/metrics.json")
    (finished.root / "mlflow.db").unlink()
    shutil.rmtree(finished.root / "mlruns")
    prepare(finished)

    finished.call("segpipe", "publish")

    run = the_run(finished)
    assert run.info.status == "FINISHED"
    for metric in ("train_loss", "train_mean_iou", "val_loss", "val_mean_iou", "learning_rate"):
        assert steps_of(finished, run, metric) == EPOCHS, metric
    assert run.data.metrics["final_val/mean_iou"] == scores["val"]["mean_iou"]
    assert run.data.tags["segpipe.git_commit"]
    digest = finished.json("build/dataset/dataset.json")["digest"][:16]
    assert {i.dataset.digest for i in run.inputs.dataset_inputs} == {f"{digest}-{s}" for s in ("train", "val", "test")}
    assert str(finished.client().get_model_version_by_alias(MODEL_NAME, "champion").version) == "1"
    again = snapshot(finished)
    finished.call("segpipe", "publish")
    assert snapshot(finished) == again


def test_weights_and_evaluation_of_two_trainings_are_refused(finished: Project) -> None:
    before = snapshot(finished)
    finished.change_json("build/evaluation/evaluation.json", lambda document: document.update(weights_sha256="0" * 64))
    assert "are of two trainings" in finished.refused("register")
    assert snapshot(finished) == before


# A server that is down


def free_address() -> str:
    (port,) = find_free_ports(1)
    return f"http://127.0.0.1:{port}"


def test_a_server_that_is_down_neither_stops_a_training_nor_loses_its_metrics(finished: Project) -> None:
    finished.change_params("train.seed", 1)
    address = free_address()
    offline = Project(finished.root, {"MLFLOW_TRACKING_URI": address})

    said = offline.stage("train")
    assert f"MLflow at {address} cannot be used: " in said
    assert not missing(said, "`register`", "journal")
    assert len(all_runs(finished.client())) == 1

    offline.stage("evaluate")
    registration = (finished.root / "build/registration.json").read_bytes()
    message = offline.refused("register")
    assert message.startswith(f"MLflow at {address} cannot be used: ")
    assert "unset MLFLOW_TRACKING_URI" in message
    assert (finished.root / "build/registration.json").read_bytes() == registration

    commit = finished.call("git", "rev-parse", "HEAD").strip()
    finished.call("git", "commit", "--quiet", "--all", "--message", "later work")
    finished.call("segpipe", "publish")
    run = all_runs(finished.client())[-1]
    assert (run.data.tags["segpipe.git_commit"], run.data.tags["segpipe.git_dirty"]) == (commit, "true")
    assert run.data.tags["segpipe.weights_sha256"] == finished.json("build/model/model.json")["weights_sha256"]
    for metric in EPOCH_METRICS:
        assert steps_of(finished, run, metric) == EPOCHS, metric
    files = artifacts_below(finished.client(), run.info.run_id)
    assert any(file.startswith("images/") for file in files)
    assert "evaluation/report.html" in files
