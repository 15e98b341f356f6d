"""`dvc repro` on a finished project: exactly what a change concerns runs again."""

import contextlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from facts import missing
from integration.project import EXPERIMENT, MODEL_NAME, STAGES, Project, add_sample

from segpipe.metrics.parts.scores import list_labels

NOTHING: tuple[str, ...] = ()


def stages_to_run(project: Project) -> tuple[str, ...]:
    """The stages that `dvc repro` would run, in order."""
    return tuple(re.findall(r"Running stage '(\w+)'", project.call("dvc", "repro", "--dry")))


def touch_source(project: Project, path: str) -> None:
    with (project.root / "src/segpipe" / path).open("a", encoding="utf-8") as file:
        file.write("\n# A comment.\n")


@pytest.fixture(scope="module")
def asked(original: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished project in which tests change one text file, ask, and change it back: `changed` does that."""
    return original.copy_to(tmp_path_factory.mktemp("asked") / "project")


@contextlib.contextmanager
def changed(project: Project, path: str) -> Iterator[None]:
    """Brings a file back as it was, or not there, at the end."""
    file = project.root / path
    before = file.read_bytes() if file.exists() else None
    try:
        yield
    finally:
        file.unlink() if before is None else file.write_bytes(before)


def test_a_second_repro_runs_nothing_and_leaves_git_clean(finished: Project) -> None:
    text = finished.call("dvc", "repro")
    for stage in STAGES:
        assert f"Stage '{stage}' didn't change, skipping" in text
    assert "Running stage" not in text
    assert json.loads(finished.call("dvc", "status", "--json")) == {}
    assert finished.call("git", "status", "--porcelain") == ""


def test_every_output_is_in_the_cache_and_comes_back_without_a_computation(finished: Project) -> None:
    before = finished.files()
    finished.call("rm", "-r", "build", "checkpoints")
    finished.call("dvc", "checkout", "--quiet")
    assert finished.files() == before
    assert stages_to_run(finished) == NOTHING


@pytest.mark.parametrize(
    ("key", "value", "first"),
    [
        ("train.learning_rate", 1e-3, "train"),
        ("class_weights.scheme", "enet", "class_weights"),
        ("preprocess.split.val", ["b"], "preprocess"),
        ("evaluate.num_overlays", 2, "evaluate"),
        ("register.min_delta", 0.1, "register"),
    ],
)
def test_a_changed_parameter_starts_at_its_stage(asked: Project, key: str, value: object, first: str) -> None:
    with changed(asked, "params.yaml"):
        asked.change_params(key, value)
        status = json.loads(asked.call("dvc", "status", "--json"))
    assert first in status
    assert not set(STAGES[: STAGES.index(first)]) & status.keys()


def test_a_changed_learning_rate_runs_train_evaluate_and_register_only(finished: Project) -> None:
    finished.change_params("train.learning_rate", 1e-2)
    text = finished.call("dvc", "repro")
    assert tuple(re.findall(r"Running stage '(\w+)'", text)) == ("train", "evaluate", "register")
    assert stages_to_run(finished) == NOTHING
    client = finished.client()
    experiment = client.get_experiment_by_name(EXPERIMENT)
    rates = {run.data.params["train.learning_rate"] for run in client.search_runs([experiment.experiment_id])}
    assert rates == {"0.01", "0.03"}
    assert finished.json("build/registration.json")["version"] == "2"
    assert len(client.search_model_versions(f"name = '{MODEL_NAME}'")) == 2
    # The scores of both are in Git or in the tree, not in the cache.
    shutil.rmtree(finished.root / ".dvc/cache")
    difference = json.loads(finished.call("dvc", "metrics", "diff", "--json"))["metrics.json"]["val.mean_iou"]
    assert difference["new"] == round(finished.json("build/evaluation/metrics.json")["val"]["mean_iou"], 4)
    committed = json.loads(finished.call("git", "show", "HEAD:metrics.json"))
    assert difference["old"] == committed["val"]["mean_iou"]


def test_restored_scores_are_brought_in_line(finished: Project) -> None:
    (finished.root / "metrics.json").write_text('{"val": {"mean_iou": 0.1}}', encoding="utf-8")
    shutil.rmtree(finished.root / "build")
    assert "Running stage" not in finished.call("dvc", "repro")
    finished.call("segpipe", "publish")
    assert finished.call("git", "status", "--porcelain") == ""


def test_a_new_image_with_its_mask_starts_at_download_and_is_in_the_manifest(finished: Project) -> None:
    # Nothing but `dvc repro` is needed: data.dvc takes the new state of data/ by itself.
    add_sample(finished.root / "data", "a_099")
    pointer = (finished.root / "data.dvc").read_bytes()
    assert stages_to_run(finished)[0] == "download"

    text = finished.call("dvc", "repro", "preprocess")

    assert tuple(re.findall(r"Running stage '(\w+)'", text)) == ("download", "preprocess")
    manifest = pd.read_parquet(finished.root / "build/dataset/manifest.parquet")
    (row,) = manifest[manifest["sample_id"] == "a_099"].to_dict(orient="records")
    assert (row["group"], row["split"]) == ("a", "train")
    assert stages_to_run(finished)[0] == "class_weights"
    assert (finished.root / "data.dvc").read_bytes() != pointer
    changed = finished.call("git", "status", "--porcelain").split()
    assert {"data.dvc", "dvc.lock"} <= set(changed)


def test_what_decides_no_result_runs_nothing(finished: Project) -> None:
    unused = [
        "models/lraspp_mobilenet_v3_large.py",  # another model
        "addresses.py",
        "choices.py",
        "cli/registry.py",
        "config/train.py",
        "errors.py",
        "faults.py",
        "files.py",
        "reports/evaluation.py",
        "reports/templates/evaluation.html.j2",
        "serving/served_model.py",
        "stages/stage.py",
        "tracking/run.py",
    ]
    for path in unused:
        assert (finished.root / "src/segpipe" / path).is_file(), path
        touch_source(finished, path)
    touch_source(finished, "models/new.py")
    assert json.loads(finished.call("dvc", "status", "--json")) == {}
    assert stages_to_run(finished) == NOTHING


@pytest.mark.parametrize(
    ("path", "stages"),
    [
        ("data/fetching/fetch.py", ("download",)),
        ("data/readers/new.py", ("download",)),
        ("data/masks/labels.py", ("download", "preprocess")),
        ("data/building/build.py", ("preprocess",)),
        ("data/store.py", ("preprocess", "class_weights", "train", "evaluate", "register")),
        ("data/class_weights/schemes/inverse_frequency.py", ("class_weights",)),
        ("data/loading/augmentations/flip.py", ("train",)),
        ("models/unet.py", ("train", "evaluate")),
        ("models/parts/vgg16.py", ("train", "evaluate")),
        ("losses/dice.py", ("train", "evaluate")),
        ("training/loop.py", ("train",)),
        ("inference/network.py", ("train", "evaluate")),
        ("metrics/mean_iou.py", ("train", "evaluate", "register")),
        ("metrics/new.py", ("evaluate", "register")),
        ("metrics/parts/bootstrap.py", ("evaluate", "register")),
        ("registry/gate.py", ("register",)),
    ],
)
def test_a_source_runs_the_stages_whose_result_it_can_decide(
    asked: Project, path: str, stages: tuple[str, ...]
) -> None:
    with changed(asked, f"src/segpipe/{path}"):
        touch_source(asked, path)
        assert tuple(json.loads(asked.call("dvc", "status", "--json"))) == stages


def test_a_new_reader_ends_at_download_and_another_text_of_the_chosen_one_at_preprocess(finished: Project) -> None:
    touch_source(finished, "data/readers/new.py")
    assert stages_to_run(finished)[0] == "download"
    finished.call("dvc", "repro", "download")
    assert stages_to_run(finished) == NOTHING
    reader = finished.root / "src/segpipe/data/readers/folder.py"
    reader.write_text(reader.read_text(encoding="utf-8") + "\nSAID = 'something new'\n", encoding="utf-8")
    finished.call("dvc", "repro", "download")
    assert stages_to_run(finished)[0] == "preprocess"
    # It reads the same labels, so nothing is trained again.
    finished.call("dvc", "repro", "preprocess")
    assert stages_to_run(finished) == NOTHING


def test_stages_run_again_give_the_same_bytes_in_another_folder(finished: Project, tmp_path: Path) -> None:
    # A user's clone: nothing but what git holds, another path, no MLflow store, no cache, no checkpoints.
    clone = Project(tmp_path / "clone")
    finished.call("git", "clone", "--quiet", str(finished.root), str(clone.root))
    clone.call("dvc", "repro")
    outs = {path: content for path, content in finished.files().items() if path != "build/registration.json"}
    again = clone.files()
    assert {path for path, content in outs.items() if again.get(path) != content} == set()
    assert clone.json("build/registration.json") == finished.json("build/registration.json")
    assert clone.call("git", "status", "--porcelain") == ""


def test_the_plots_can_be_rendered(finished: Project) -> None:
    templates = json.loads(finished.call("dvc", "plots", "show", "--json", "--out", "rendered"))
    sources = " ".join(templates["data"])
    for name in ("Loss", "mIoU", "IoU", "build/evaluation/confusion_matrix.png", "build/evaluation/overlays"):
        assert name in sources
    assert not templates.get("errors")
    page = finished.call("dvc", "plots", "show", "--out", "rendered").strip()
    assert page.endswith("index.html")
    text = (finished.root / "rendered/index.html").read_text(encoding="utf-8")
    for title in ("Loss over the epochs", "mIoU over the epochs", "IoU of each class"):
        assert title in text
    pictures = sorted(path.name for path in (finished.root / "rendered/static").iterdir())
    assert any("confusion_matrix" in name for name in pictures)
    assert any("overlays" in name for name in pictures)


def test_the_metrics_can_be_shown(finished: Project) -> None:
    shown = json.loads(finished.call("dvc", "metrics", "show", "--json"))
    (metrics,) = shown[""]["data"].values()
    scores = finished.json("build/evaluation/metrics.json")
    assert metrics["data"] == finished.json("metrics.json")
    assert metrics["data"]["val"]["mean_iou"] == round(scores["val"]["mean_iou"], 4)
    assert {*metrics["data"]["test"]} <= {"mean_iou_low", "mean_iou_high", *list_labels()}


def test_bad_data_stops_the_graph_with_our_message_and_keeps_nothing_half_written(finished: Project) -> None:
    (finished.root / "data/masks/a_000.png").unlink()
    done = finished.run("dvc", "repro")
    assert done.returncode != 0
    assert not missing(done.stderr, "images/a_000.png", "masks/a_000.png", "image")
    assert "Traceback" not in done.stderr
    assert not list((finished.root / "build").glob(".*.part"))
    # What a user does about it: the old state of the data is the old state of all.
    finished.call("git", "checkout", "data")
    assert "Running stage" not in finished.call("dvc", "repro")


@pytest.mark.parametrize(
    ("key", "value", "right"),
    [
        ("train.model.name", "unett", "did you mean 'unet'"),
        ("train.loss.0.name", "cross_entropie", "did you mean 'cross_entropy'"),
        ("class_weights.scheme", "enett", "did you mean 'enet'"),
        ("download.format", "foldre", "did you mean 'folder'"),
        ("train.learning_rat", 1, "did you mean 'learning_rate'"),
    ],
)
def test_check_tells_what_the_graph_cannot(asked: Project, key: str, value: object, right: str) -> None:
    with changed(asked, "params.yaml"):
        asked.change_params(key, value)
        done = asked.run("segpipe", "check")
    assert done.returncode == 1
    assert right in done.stderr
