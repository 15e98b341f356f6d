"""The gate at the end of a real pipeline: champions of other validation images, other classes, other makers."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from facts import missing
from integration.challenger import fabricate_challenger
from integration.project import DATASET_YAML, MODEL_NAME, Project, add_sample, message_of_refusal, paint
from ruamel.yaml import YAML

from segpipe.registry.ledger import Entry, Ledger, read_ledger


def ledger_of(project: Project) -> Ledger:
    ledger = read_ledger(project.client(), MODEL_NAME)
    assert not ledger.problems
    return ledger


def last_entry(project: Project) -> Entry:
    return ledger_of(project).entries[-1].entry


def champion_of(project: Project) -> str:
    return str(project.client().get_model_version_by_alias(MODEL_NAME, "champion").version)


def register(project: Project) -> dict[str, Any]:
    """Runs the stage; gives what it wrote, which must be what alias, ledger and version say."""
    project.stage("register")
    registration: dict[str, Any] = project.json("build/registration.json")
    entry = last_entry(project)
    assert registration["champion"] == champion_of(project)
    assert registration["decision"] == entry.action
    assert registration["reasons"] == list(entry.reasons)
    version = project.client().get_model_version(MODEL_NAME, registration["version"])
    assert version.tags["segpipe.decision"] == registration["decision"]
    assert json.loads(version.tags["segpipe.reasons"]) == registration["reasons"]
    assert registration["reasons"][0] in version.description
    return registration


def make_dataset_again(project: Project) -> None:
    project.stage("download")
    project.stage("preprocess")


def test_a_champion_of_other_validation_images_is_measured_again_by_its_own_code(finished: Project) -> None:
    before = finished.json("build/evaluation/metrics.json")["val"]["mean_iou"]
    add_sample(finished.root / "data", "c_003")
    make_dataset_again(finished)
    finished.stage("evaluate")  # the champion itself, on the new images
    now = finished.json("build/evaluation/metrics.json")["val"]["mean_iou"]
    assert now != before
    fabricate_challenger(finished, 1.0)
    finished.change_params("register.block_length", 1)
    # Today's sources hold another network: that must not matter to the champion.
    logits = finished.root / "src/segpipe/inference/logits.py"
    logits.write_text(logits.read_text(encoding="utf-8").replace("logits_NCHW.max(dim=1)", "1 / 0"), encoding="utf-8")

    registration = register(finished)

    assert registration["decision"] == "promoted"
    assert f"mIoU 1.0000 against {now:.4f} of version 1" in registration["reasons"][0]
    assert not missing(registration["reasons"][1], "ersion 1", "measured again", f"{before:.4f}", f"{now:.4f}")
    assert last_entry(finished).evidence["champion_mean_iou"] == pytest.approx(now, abs=1e-12)
    assert last_entry(finished).evidence["num_images"] == 4

    # What was measured is kept with the champion's run: nobody waits for it again.
    client = finished.client()
    run_id = client.get_model_version(MODEL_NAME, "1").run_id
    place = f"evaluations/{registration['evaluation_digest']}"
    kept = [item.path for item in client.list_artifacts(run_id, place)]
    assert kept == [f"{place}/evidence", f"{place}/per_image.parquet"]
    shutil.rmtree(finished.root / "build/dataset")
    compared = json.loads(finished.call("segpipe", "registry", "compare", "1", "2", "--json"))
    assert compared["set"]["evaluation_digest"] == registration["evaluation_digest"]
    assert compared["mean_iou"]["first"] == pytest.approx(now, abs=1e-12)
    measured_again, no_pictures = compared["notes"]
    assert not missing(measured_again, "ersion 1", "measured again")
    assert not missing(no_pictures, "build/dataset", "speed", "pictures")


def test_a_champion_that_cannot_be_measured_again_stops_the_registration_with_a_message(finished: Project) -> None:
    add_sample(finished.root / "data", "c_003")
    make_dataset_again(finished)
    fabricate_challenger(finished, 1.0)
    (weights,) = (finished.root / "mlruns").rglob("weights.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    registration = (finished.root / "build/registration.json").read_bytes()
    message = finished.refused("register")
    assert not missing(message, "version 1", "measured", "segpipe registry promote")
    assert (finished.root / "build/registration.json").read_bytes() == registration
    assert (champion_of(finished), len(ledger_of(finished).entries)) == ("1", 1)


def test_a_class_that_the_champion_does_not_know_counts_against_it(finished: Project) -> None:
    yaml = YAML()
    document = yaml.load(DATASET_YAML)
    document["classes"].append({"name": "tree", "color": [0, 90, 0]})
    yaml.dump(document, finished.root / "data/dataset.yaml")
    for sequence in ("a", "b", "c", "d"):
        image, mask = paint(sequence, 0)
        mask[4:12, 4:12] = 3
        add_sample(finished.root / "data", f"{sequence}_000", image, mask)
    make_dataset_again(finished)
    fabricate_challenger(finished, 1.0)
    finished.change_params("register.better", "point")

    registration = register(finished)

    assert registration["decision"] == "promoted"
    assert not missing(registration["reasons"][1], "registered", "validation")
    assert last_entry(finished).evidence["class_deltas"]["tree"]["value"] == 1.0
    assert "| tree | 1.0000 | 1.0000 | 0.0000 | +1.0000 | - |" in (
        finished.client().get_model_version(MODEL_NAME, "2").description.splitlines()
    )
    # The class table is that of the images, whichever version comes first.
    shutil.rmtree(finished.root / "build/dataset")
    compared = json.loads(finished.call("segpipe", "registry", "compare", "2", "1", "--json"))
    assert [row["name"] for row in compared["classes"]] == ["ground", "sky", "box", "tree"]
    assert (compared["classes"][3]["first"], compared["classes"][3]["second"]) == (1.0, 0.0)


@pytest.mark.slow
def test_a_champion_that_predicts_a_class_of_old_cannot_be_compared_and_a_person_decides(finished: Project) -> None:
    table = finished.root / "data/dataset.yaml"
    table.write_text(table.read_text(encoding="utf-8").replace("name: box", "name: crate"), encoding="utf-8")
    make_dataset_again(finished)
    fabricate_challenger(finished, 1.0)

    registration = register(finished)

    (reason,) = registration["reasons"]
    assert registration["decision"] == "not promoted"
    assert not missing(reason, "ersion 1", "box", "ground, sky, crate", "`segpipe registry promote`", "`dvc repro`")
    finished.call("segpipe", "registry", "promote", "2", "--why", "Boxes are called crates now.")
    assert champion_of(finished) == "2"
    finished.stage("register")
    assert finished.json("build/registration.json")["decision"] == "promoted"
    assert finished.json("build/registration.json")["reasons"] == ["Boxes are called crates now."]

    message = message_of_refusal(finished.run("segpipe", "registry", "compare", "1", "2"))
    assert not missing(message, "version 1", "compared", "box")
    shutil.rmtree(finished.root / "build/dataset")
    message = message_of_refusal(finished.run("segpipe", "registry", "compare", "1", "2"))
    assert not missing(message, "1 and 2", "different images", "build/dataset")
    assert not (finished.root / "pages").exists() or not list((finished.root / "pages").iterdir())


@pytest.mark.slow
def test_a_champion_that_somebody_registered_by_hand(finished: Project, tmp_path: Path) -> None:
    client = finished.client()
    finished.change_params("register.better", "point")

    # One that is ours, registered in MLflow's pages: it has no tags, and is measured as it is served.
    (description,) = (finished.root / "mlruns").rglob("MLmodel")
    mine = client.create_model_version(MODEL_NAME, str(description.parent), await_creation_for=0)
    client.set_registered_model_alias(MODEL_NAME, "champion", str(mine.version))
    before = finished.json("build/evaluation/metrics.json")["val"]["mean_iou"]
    fabricate_challenger(finished, 1.0)
    registration = register(finished)
    assert f"mIoU 1.0000 against {before:.4f} of version 2 " in registration["reasons"][0]
    assert (registration["version"], registration["champion"]) == ("3", "3")
    entries = [sealed.entry for sealed in ledger_of(finished).entries]
    assert [entry.action for entry in entries] == ["promoted", "noticed", "promoted"]
    assert json.dumps(dict(entries[-1].evidence), allow_nan=False)

    # One that nobody can compare.
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "model.bin").write_bytes(b"weights of somebody")
    theirs = client.create_model_version(MODEL_NAME, str(strange), await_creation_for=0)
    client.set_registered_model_alias(MODEL_NAME, "champion", str(theirs.version))
    fabricate_challenger(finished, 0.99)
    registration = register(finished)
    (reason,) = registration["reasons"]
    assert not missing(reason, "ersion 4", "compared", "MLmodel")
    assert (registration["decision"], registration["champion"]) == ("not promoted", "4")
    shown = finished.run("segpipe", "registry", "lineage", "4")
    assert shown.returncode == 0, shown.stderr


def test_a_budget_of_time_is_measured_as_served(finished: Project) -> None:
    finished.change_params("register.better", "point")
    finished.change_params("register.budget", {"latency_ms": 0.001, "slowdown": 1000.0, "size_mb": 0.01})
    fabricate_challenger(finished, 1.0)
    registration = register(finished)
    assert (registration["decision"], registration["champion"]) == ("not promoted", "1")
    evidence = last_entry(finished).evidence
    assert registration["reasons"][0].startswith("Better: ")
    size, latency = registration["reasons"][2:]
    assert not missing(size, "0.0 MB", "0.01", "register.budget.size_mb")
    assert not missing(latency, f"{evidence['latency_ms']:.1f} ms", "0.001", "register.budget.latency_ms")
    assert min(evidence["latency_ms"], evidence["champion_latency_ms"]) > 0


def test_the_same_weights_that_predict_in_another_way_are_another_version(finished: Project) -> None:
    finished.change_params("register.better", "point")
    finished.change_params("register.budget", {"slowdown": 1000.0})
    finished.change_params("evaluate.inference", {"flip": True})
    finished.stage("evaluate")
    registration = register(finished)
    assert registration["version"] == "2"
    client = finished.client()
    first, second = (client.get_model_version(MODEL_NAME, number) for number in ("1", "2"))
    assert "segpipe.inference" not in first.tags
    assert first.tags["segpipe.weights_sha256"] == second.tags["segpipe.weights_sha256"]
    assert first.run_id == second.run_id

    # What was measured is what is served, and both evaluations are kept.
    inference = second.tags["segpipe.inference"]
    folders = {item.path for item in client.list_artifacts(second.run_id)}
    assert {"evaluation", f"evaluation-{inference}"} <= folders
    assert last_entry(finished).evidence["champion_mean_iou"] == float(first.tags["segpipe.val_mean_iou"])
    assert last_entry(finished).evidence["latency_ms"] > 0
    served = {path.parent for path in (finished.root / "mlruns").rglob("inference.json") if path.parent.name == "model"}
    assert len(served) == 1
    assert json.loads((served.pop() / "inference.json").read_text(encoding="utf-8"))["flip"] is True

    # Back to the network alone: it is the first version again.
    finished.change_params("evaluate.inference", {"flip": False})
    finished.stage("evaluate")
    finished.stage("register")
    assert finished.json("build/registration.json")["version"] == "1"


def test_a_registration_from_dvcs_cache_is_made_true_in_an_empty_store(finished: Project) -> None:
    registration = finished.json("build/registration.json")
    (finished.root / "mlflow.db").unlink()
    for folder in ("mlruns", "build", "checkpoints"):
        shutil.rmtree(finished.root / folder)
    finished.call("dvc", "repro")
    assert finished.json("build/registration.json") == registration
    assert not (finished.root / "mlflow.db").exists()  # all came from the cache: no stage has run

    finished.call("segpipe", "publish")

    version = finished.client().get_model_version_by_alias(MODEL_NAME, "champion")
    assert str(version.version) == registration["champion"] == "1"
    assert version.tags["segpipe.weights_sha256"] == registration["weights_sha256"]
    assert version.tags["segpipe.git_commit"] == finished.call("git", "rev-parse", "HEAD").strip()
    (sealed,) = ledger_of(finished).entries
    assert (sealed.entry.action, sealed.entry.reasons) == ("promoted", ("There was no champion.",))
    assert finished.call("segpipe", "registry", "history").count("promoted") == 1
