"""The command `segpipe` as a user types it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from facts import missing
from integration.project import CLASSES, Project, message_of_refusal, paint, read_picture
from PIL import Image

MODEL = ("--model", "build/model")


@pytest.fixture
def images(original: Project, tmp_path: Path) -> Path:
    """Photographs of different sizes, one grey, one in a folder below."""
    folder = tmp_path / "images"
    (folder / "below").mkdir(parents=True)
    Image.fromarray(paint("a", 0)[0]).save(folder / "small.png")
    Image.fromarray(paint("a", 1)[0]).resize((131, 97)).save(folder / "odd.jpg")
    Image.fromarray(paint("a", 2)[0]).convert("L").save(folder / "below/grey.png")
    return folder


SIZES = {"small": (64, 48), "odd": (131, 97), "below/grey": (64, 48)}


def test_predict_writes_masks_colours_and_overlays(original: Project, images: Path, tmp_path: Path) -> None:
    output = tmp_path / "predictions"
    said = original.call("segpipe", "predict", str(images), "--output", str(output), *MODEL)
    assert said.startswith("3 images predicted")
    palette = np.array([color for _, color in CLASSES], np.uint8)
    assert sum(1 for _ in output.rglob("*.png")) == 9
    for name, size in SIZES.items():
        files = [output / folder / f"{name}.png" for folder in ("masks", "colors", "overlays")]
        mask, colors, overlay = map(read_picture, files)
        assert (mask.mode, colors.mode, overlay.mode) == ("L", "RGB", "RGB")
        assert mask.size == colors.size == overlay.size == size
        assert np.asarray(mask).max() < len(CLASSES)
        np.testing.assert_array_equal(palette[np.asarray(mask)], np.asarray(colors))

    # The champion is the same model, taken from MLflow.
    said = original.call("segpipe", "predict", str(images), "--output", str(tmp_path / "by-champion"))
    assert said.startswith("3 images predicted")
    for path in output.rglob("*.png"):
        assert (tmp_path / "by-champion" / path.relative_to(output)).read_bytes() == path.read_bytes()


def test_a_damaged_image_is_named_and_the_others_are_predicted(original: Project, images: Path, tmp_path: Path) -> None:
    path = images / "odd.jpg"
    path.write_bytes(path.read_bytes()[:-400])
    output = tmp_path / "predictions"
    done = original.run("segpipe", "predict", str(images), "--output", str(output), *MODEL)
    assert done.returncode == 2
    assert done.stdout.startswith("2 images predicted")
    assert not missing(done.stderr, str(path), "cannot be decoded", "skipped.csv")
    assert str(path) in (output / "skipped.csv").read_text(encoding="utf-8")
    assert {path.name for path in (output / "masks").rglob("*.png")} == {"small.png", "grey.png"}


def test_predict_goes_on_and_does_not_mix_options(original: Project, images: Path, tmp_path: Path) -> None:
    call = ("segpipe", "predict", str(images), "--output", str(tmp_path / "out"), *MODEL)
    original.call(*call)
    assert original.call(*call).startswith("0 images predicted, 3 were predicted before")
    assert not missing(message_of_refusal(original.run(*call, "--confidence")), "outputs", "--again")
    assert original.call(*call, "--confidence", "--again").startswith("3 images predicted")
    assert sum(1 for _ in (tmp_path / "out/confidence").rglob("*.png")) == 3


def test_predict_works_in_any_folder(original: Project, images: Path, tmp_path: Path) -> None:
    elsewhere = Project(tmp_path / "elsewhere")
    elsewhere.root.mkdir()
    call = ("segpipe", "predict", str(images), "--output")
    done = elsewhere.run(*call, "none")
    assert not missing(message_of_refusal(done), "--registry", "--model")
    assert list(elsewhere.root.iterdir()) == []
    registry = ("--registry", f"sqlite:///{original.root / 'mlflow.db'}")
    for number, model in enumerate(("champion", "models:/boxes/1")):
        assert elsewhere.call(*call, str(number), *registry, "--model", model).startswith("3 images predicted")
        for name in SIZES:
            mask = elsewhere.root / f"{number}/masks/{name}.png"
            assert mask.read_bytes() == (elsewhere.root / f"0/masks/{name}.png").read_bytes()
    done = elsewhere.run(*call, "none", *registry, "--model", "models:/boxes/99")
    assert "99" in message_of_refusal(done)


def test_wrong_arguments_end_with_1(tmp_path: Path) -> None:
    for wrong in (["predict"], ["predict", "a", "--output", "b", "--every", "0"]):
        command = [sys.executable, "-c", f"from segpipe.cli import main; main({wrong})"]
        assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 1


def test_an_output_inside_the_input_is_refused(original: Project, images: Path) -> None:
    done = original.run("segpipe", "predict", str(images), "--output", str(images / "out"), *MODEL)
    assert "lies in" in message_of_refusal(done)
    assert not (images / "out").exists()


def test_no_images_and_no_such_folder(original: Project, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder, reason in (("empty", "holds no image"), ("missing", "no such file or folder")):
        done = original.run("segpipe", "predict", str(tmp_path / folder), "--output", str(tmp_path / "out"), *MODEL)
        assert reason in message_of_refusal(done)
    assert not (tmp_path / "out").exists()


def test_without_a_champion_predict_says_so(sources: Project, images: Path, tmp_path: Path) -> None:
    done = sources.run("segpipe", "predict", str(images), "--output", str(tmp_path / "out"))
    message = message_of_refusal(done)
    assert not missing(message, "champion", "'boxes'", "`dvc repro`")
    assert not (tmp_path / "out").exists()


def test_a_model_whose_weights_were_exchanged_is_refused(finished: Project, images: Path, tmp_path: Path) -> None:
    weights = finished.root / "build/model/weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.unlink()
    weights.write_bytes(content)
    done = finished.run("segpipe", "predict", str(images), "--output", str(tmp_path / "out"), *MODEL)
    assert not missing(message_of_refusal(done), "weights.safetensors", "model.json", "sha256")


def test_render_gives_a_set_that_download_and_preprocess_take(sources: Project) -> None:
    arguments = ("--sequences", "3", "--frames", "2", "--height", "48", "--width", "64", "--seed", "3")
    said = sources.call("segpipe", "data", "render", "--output", "streets", *arguments)
    assert said.startswith("6 images with masks in streets")
    sources.change_params("download.source", "streets")
    sources.change_params("preprocess.split", {"val": ["street01"], "test": ["street02"]})
    sources.stage("download")
    done = sources.run_stage("preprocess")
    # So few small frames may lack a rare class; nothing else may be wrong with them.
    lines = [line for line in done.stderr.splitlines() if line.startswith("  ")]
    assert all(not missing(line, "no pixel", "the training split") for line in lines)


def test_check(sources: Project) -> None:
    assert sources.call("segpipe", "check").strip() == "params.yaml is valid"
    sources.change_params("train.epochs", 0)
    assert "params.yaml: train.epochs: must be" in message_of_refusal(sources.run("segpipe", "check"))


def test_check_of_a_file_that_is_not_there_or_no_yaml(sources: Project) -> None:
    assert "no such file" in message_of_refusal(sources.run("segpipe", "check", "parms.yaml"))
    (sources.root / "broken.yaml").write_text("a: [1\n", encoding="utf-8")
    assert "is not YAML" in message_of_refusal(sources.run("segpipe", "check", "broken.yaml"))


def test_a_reader_of_the_output_that_has_seen_enough_is_no_defect(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from segpipe.cli import main; raise SystemExit(main(['data', 'kinds']))"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0
