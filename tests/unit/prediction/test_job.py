"""Predictions from files to files."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from dicom_files import write_dicom
from filelock import FileLock
from PIL import Image

from segpipe.classes import ClassTable
from segpipe.config.evaluate import Inference
from segpipe.errors import PredictionError
from segpipe.inference.network import Network
from segpipe.prediction.job import Done, Options, predict_inputs
from segpipe.prediction.predicting import Wanted
from segpipe.prediction.record import open_record
from segpipe.reports.drawing.overlay import colorize, overlay

WritePicture = Callable[..., np.ndarray]


def _predict(network: Network, folder: Path, name: str = "in", options: Options = Options()) -> Done:  # noqa: B008
    return predict_inputs(network, [str(folder / name)], folder / "out", options)


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


@pytest.fixture
def three(tmp_path: Path, write_picture: WritePicture) -> dict[str, np.ndarray]:
    """Pictures in `in/`, by name."""
    return {
        "a": write_picture(tmp_path / "in/a.png"),
        "b": write_picture(tmp_path / "in/b.png"),
        "sub/b.v1": write_picture(tmp_path / "in/sub/b.v1.png", 5, 7),
    }


def test_masks_colours_and_overlays_are_written(
    tmp_path: Path, network: Network, three: dict[str, np.ndarray], classes: ClassTable
) -> None:
    assert _predict(network, tmp_path) == Done(3, 0, ())
    for name, image in three.items():
        mask = image.argmax(axis=-1).astype(np.uint8)
        expected = {"masks": mask, "colors": colorize(mask, classes), "overlays": overlay(image, mask, classes)}
        for folder, picture in expected.items():
            np.testing.assert_array_equal(_pixels(tmp_path / "out" / folder / f"{name}.png"), picture)
    files = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert len([file for file in files if file.endswith(".png")]) == 9
    assert {"job.json", "predictions.csv", "legend.csv"} <= files
    assert "skipped.csv" not in files


def test_the_tables(tmp_path: Path, network: Network, three: dict[str, np.ndarray]) -> None:
    _predict(network, tmp_path)
    rows = _read(tmp_path / "out/predictions.csv")
    assert [row["image"] for row in rows] == ["a", "b", "sub/b.v1"]
    first, mask = rows[0], three["a"].argmax(axis=-1)
    assert (first["width_px"], first["height_px"], first["mean_confidence"], first["notes"]) == ("6", "4", "", "")
    assert Path(first["path"]) == tmp_path / "in/a.png"
    for index, name in enumerate(("road", "car", "sky")):
        assert int(first[f"px {name}"]) == (mask == index).sum()
        assert float(first[f"share {name}"]) == pytest.approx((mask == index).mean(), abs=1e-6)
    car = {"index": "1", "class": "car", "red": "0", "green": "0", "blue": "142"}
    assert _read(tmp_path / "out/legend.csv")[1] == car


def test_confidence_and_probabilities(tmp_path: Path, network: Network, three: dict[str, np.ndarray]) -> None:
    _predict(network, tmp_path, options=Options(Wanted(confidence=True, probabilities=True)))
    confidence = _pixels(tmp_path / "out/confidence/a.png")
    probabilities_CHW = np.load(tmp_path / "out/probabilities/a.npy")
    assert (confidence.dtype, probabilities_CHW.dtype) == (np.uint8, np.float16)
    np.testing.assert_allclose(confidence / 255, probabilities_CHW.max(axis=0), atol=3e-3)
    (row, *_) = _read(tmp_path / "out/predictions.csv")
    assert float(row["mean_confidence"]) == pytest.approx(confidence.mean() / 255, abs=1e-4)


def test_pictures_of_medical_devices_are_predicted(
    tmp_path: Path, network: Network, three: dict[str, np.ndarray]
) -> None:
    write_dicom(tmp_path / "in/scan.dcm", three["a"])
    nibabel.save(nibabel.Nifti1Image(three["a"][..., 0].T, np.eye(4)), tmp_path / "in/slice.nii.gz")
    assert _predict(network, tmp_path) == Done(5, 0, ())
    np.testing.assert_array_equal(_pixels(tmp_path / "out/masks/scan.png"), three["a"].argmax(axis=-1))
    assert _pixels(tmp_path / "out/masks/slice.png").shape == three["a"].shape[:2]


def test_what_cannot_be_read_is_listed_and_the_others_are_predicted(
    tmp_path: Path, network: Network, three: dict[str, np.ndarray]
) -> None:
    (tmp_path / "in/b.png").write_text("no image")
    (tmp_path / "in/c.psd").touch()
    done = _predict(network, tmp_path)
    assert (done.num_predicted, [one.path.name for one in done.skipped]) == (2, ["b.png", "c.psd"])  # in order
    listed = {Path(row["path"]).name: row["reason"] for row in _read(tmp_path / "out/skipped.csv")}
    assert listed.keys() == {"b.png", "c.psd"}
    assert "image" in listed["b.png"]
    assert not (tmp_path / "out/masks/b.png").exists()


def test_a_second_call_predicts_only_what_is_missing_or_was_changed(
    tmp_path: Path, network: Network, three: dict[str, np.ndarray], write_picture: WritePicture
) -> None:
    _predict(network, tmp_path)
    before = (tmp_path / "out/masks/a.png").stat().st_mtime_ns
    assert _predict(network, tmp_path) == Done(0, 3, ())
    (tmp_path / "out/overlays/b.png").unlink()
    changed = write_picture(tmp_path / "in/sub/b.v1.png", 9, 9)
    write_picture(tmp_path / "in/new.png")
    assert _predict(network, tmp_path) == Done(3, 1, ())
    assert (tmp_path / "out/masks/a.png").stat().st_mtime_ns == before
    np.testing.assert_array_equal(_pixels(tmp_path / "out/masks/sub/b.v1.png"), changed.argmax(axis=-1))
    assert len(_read(tmp_path / "out/predictions.csv")) == 4


def test_a_call_goes_on_after_a_kill_in_the_middle_of_a_row(
    tmp_path: Path, network: Network, three: dict[str, np.ndarray]
) -> None:
    _predict(network, tmp_path)
    rows = tmp_path / "out/.progress/rows.jsonl"
    content = rows.read_bytes()
    rows.write_bytes(content[:-5])
    (tmp_path / "out/masks/b.png").write_bytes(b"")  # a file whose content was lost
    assert _predict(network, tmp_path) == Done(2, 1, ())
    assert _predict(network, tmp_path) == Done(0, 3, ())


def test_a_picture_that_broke_later_is_in_one_table_only(
    tmp_path: Path, network: Network, three: dict[str, np.ndarray]
) -> None:
    _predict(network, tmp_path)
    (tmp_path / "in/b.png").write_bytes(b"")
    assert _predict(network, tmp_path).num_present == 2
    assert [row["image"] for row in _read(tmp_path / "out/predictions.csv")] == ["a", "sub/b.v1"]
    assert [Path(row["path"]).name for row in _read(tmp_path / "out/skipped.csv")] == ["b.png"]


def test_a_picture_whose_name_becomes_longer_has_one_row(
    tmp_path: Path, network: Network, three: dict[str, np.ndarray], write_picture: WritePicture
) -> None:
    _predict(network, tmp_path)
    write_picture(tmp_path / "in/a.bmp")  # so a.png's name is no longer a
    assert _predict(network, tmp_path) == Done(2, 2, ())
    rows = _read(tmp_path / "out/predictions.csv")
    assert [row["image"] for row in rows] == ["a.bmp", "a.png", "b", "sub/b.v1"]


def test_a_name_that_the_disk_does_not_take_is_skipped(
    tmp_path: Path, network: Network, three: dict[str, np.ndarray], write_picture: WritePicture
) -> None:
    for suffix in ("png", "bmp"):  # the masks' names keep the suffix: 259 bytes
        write_picture(tmp_path / "in" / f"{'x' * 251}.{suffix}")
    done = _predict(network, tmp_path)
    assert (done.num_predicted, len(done.skipped)) == (3, 2)
    assert all("too long" in one.reason for one in done.skipped)
    assert len(_read(tmp_path / "out/skipped.csv")) == 2


def test_tables_of_the_predictions_that_are_deleted_are_deleted_too(
    tmp_path: Path, network: Network, three: dict[str, np.ndarray]
) -> None:
    (tmp_path / "in/c.png").touch()
    _predict(network, tmp_path)
    with open_record(tmp_path / "out", {}, is_fresh=True):  # as a call that ends before it writes them
        pass
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"job.json", ".progress"}


def test_a_call_that_was_killed_before_it_named_its_job_is_no_obstacle(
    tmp_path: Path, network: Network, three: dict[str, np.ndarray]
) -> None:
    (tmp_path / "out/.progress").mkdir(parents=True)
    (tmp_path / "out/.job.json.1234.part").touch()
    assert _predict(network, tmp_path) == Done(3, 0, ())


def test_another_model_or_other_options_are_refused(
    tmp_path: Path, network: Network, three: dict[str, np.ndarray]
) -> None:
    _predict(network, tmp_path)
    for other, options, key in (
        (replace(network, weights_sha256="1" * 64), Options(), "weights_sha256"),
        (replace(network, inference=Inference(flip=True)), Options(), "inference"),
        (network, Options(Wanted(confidence=True)), "outputs"),
    ):
        with pytest.raises(PredictionError, match=f"other values of {key} "):
            _predict(other, tmp_path, options=options)
    (tmp_path / "in/b.png").unlink()
    other = replace(network, weights_sha256="1" * 64)
    assert _predict(other, tmp_path, options=Options(is_fresh=True)) == Done(2, 0, ())
    assert not (tmp_path / "out/masks/b.png").exists()
    assert json.loads((tmp_path / "out/job.json").read_bytes())["weights_sha256"] == "1" * 64


def test_a_folder_with_other_files_and_one_in_use_are_refused(
    tmp_path: Path, network: Network, three: dict[str, np.ndarray]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").touch()
    with pytest.raises(PredictionError, match="other files"):
        _predict(network, tmp_path, options=Options(is_fresh=True))
    (tmp_path / "out/mine.txt").unlink()
    _predict(network, tmp_path)
    with FileLock(tmp_path / "out/.progress/lock"), pytest.raises(PredictionError, match="another"):
        _predict(network, tmp_path)
    # Else the other call, which deletes this folder at its end, could delete that of a third.
    assert not (tmp_path / "out/.progress/parts").exists()


def test_an_output_below_a_file_is_refused(tmp_path: Path, network: Network, three: dict[str, np.ndarray]) -> None:
    (tmp_path / "file").touch()
    for output in ("file", "file/out"):
        with pytest.raises(PredictionError, match="is a file"):
            predict_inputs(network, [str(tmp_path / "in")], tmp_path / output, Options())


def test_each_nth_frame_of_a_video(tmp_path: Path, network: Network, write_video: Callable[[Path, int], Path]) -> None:
    write_video(tmp_path / "clip.avi", 7)
    assert _predict(network, tmp_path, "clip.avi", Options(every=3)) == Done(3, 0, ())
    names = ["000000.png", "000003.png", "000006.png"]
    assert sorted(path.name for path in (tmp_path / "out/masks/clip").iterdir()) == names
    assert _predict(network, tmp_path, "clip.avi", Options(every=2)) == Done(2, 2, ())  # 0 and 6 are there


def test_a_broken_video_and_a_turned_picture(
    tmp_path: Path, network: Network, three: dict[str, np.ndarray], capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    turned = Image.Exif()
    turned[0x0112] = 6  # orientation: a quarter
    Image.fromarray(three["sub/b.v1"]).save(tmp_path / "turned.png", exif=turned)
    arguments = [str(tmp_path / "broken.mp4"), str(tmp_path / "turned.png")]
    done = predict_inputs(network, arguments, tmp_path / "out", Options())
    assert [one.path.name for one in done.skipped] == ["broken.mp4"]
    (row,) = _read(tmp_path / "out/predictions.csv")
    assert (row["width_px"], row["height_px"]) == ("5", "7")
    assert "upright" in row["notes"]
    assert _pixels(tmp_path / "out/masks/turned.png").shape == (7, 5)
