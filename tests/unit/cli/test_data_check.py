"""`segpipe data check` and `segpipe data kinds`: what is printed, written, and returned."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from dicom_files import write_dicom
from facts import missing
from own_data import draw_set
from PIL import Image
from starter import make_params
from tiff_files import write_tiff

from segpipe.cli import main
from segpipe.faults import KINDS

TABLE = (
    "classes:\n- {name: road, color: [1, 2, 3]}\n- {name: car, color: [4, 5, 6]}\n- {name: tree, color: [7, 8, 9]}\n"
)
HEIGHT, WIDTH, NUM_SAMPLES = 40, 60, 24


@pytest.fixture(autouse=True)
def labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sound source in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEGPIPE_WORKERS", "1")
    folder = tmp_path / "labels"
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    (folder / "dataset.yaml").write_text(TABLE, encoding="utf-8")
    for number in range(NUM_SAMPLES):
        rng = np.random.default_rng(number)
        Image.fromarray(rng.integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)).save(folder / f"images/{number}.png")
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[:, 20:40], mask[10 + number :, 40:] = 1, 2
        save_mask(folder, number, mask)
    return folder


def save_mask(folder: Path, number: int, mask: np.ndarray) -> None:
    Image.fromarray(mask).save(folder / f"masks/{number}.png")


def read_mask(folder: Path, number: int) -> np.ndarray:
    return np.asarray(Image.open(folder / f"masks/{number}.png")).copy()


def report_of(folder: Path) -> dict[str, list[dict[str, str]]]:
    document: dict[str, list[dict[str, str]]] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return document


def test_a_sound_source_passes(labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", "labels"]) == 0
    assert not missing(capsys.readouterr().out, "24", "24 samples", "used", "Page", "pages/check/report.html")
    report = report_of(Path("pages/check"))
    assert report["fail"] == report["warn"] == []
    assert [path.name for path in Path("pages").iterdir()] == ["check"]


def test_problems_are_told_shown_and_counted(labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mask = read_mask(labels, 1)
    mask[0, 0] = 77
    save_mask(labels, 1, mask)
    (labels / "images/99.png").write_bytes((labels / "images/0.png").read_bytes())
    before = {path: path.read_bytes() for path in labels.rglob("*") if path.is_file()}
    assert main(["data", "check", "labels", "--output", "found"]) == 1
    told = capsys.readouterr()
    assert not missing(told.out, "masks/1.png", "outside", "table", "77", "1 px")
    assert "images/99.png: " in told.out
    assert not missing(told.out, "23", "24 samples", "used")
    assert not missing(told.err, "2 problems", "training")
    assert {problem["kind"] for problem in report_of(Path("found"))["fail"]} == {"mask-values", "mask-missing"}
    assert Path("found/pictures/mask-values_1.jpg").is_file()
    assert {path: path.read_bytes() for path in labels.rglob("*") if path.is_file()} == before


def test_pictures_people_have_are_read_or_named(labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each picture that lies there is read or named with the true reason; none is 'missing'."""
    pixels = {number: np.asarray(Image.open(labels / f"images/{number}.png")) for number in range(10)}
    for number in pixels:
        (labels / f"images/{number}.png").unlink()
    write_dicom(labels / "images/0.dcm", pixels[0])
    nibabel.save(nibabel.Nifti1Image(pixels[8][..., 1].T, np.eye(4)), labels / "images/8.nii.gz")
    (labels / "images/9.psd").write_bytes(b"8BPS")
    np.save(labels / "images/1.npy", pixels[1])
    np.save(labels / "images/2.npy", pixels[2].astype(np.uint16) * 16)
    write_tiff(labels / "images/3.tif", np.dstack([pixels[3], pixels[3]]), extra=(0,) * 5)
    write_tiff(labels / "images/4.tif", np.dstack([pixels[4], pixels[4][..., :1]]), photometric=2, extra=(0,))
    Image.fromarray(pixels[5]).save(labels / "images/5.ppm")
    Image.fromarray(np.dstack([pixels[6], np.zeros((HEIGHT, WIDTH), np.uint8)])).save(labels / "images/6.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(pixels[7])).save(labels / "images/7.webp", exif=exif, lossless=True)
    assert main(["data", "check", "labels"]) == 1
    report = report_of(Path("pages/check"))
    found = {problem["where"]: problem["kind"] for action in ("fail", "warn") for problem in report[action]}
    assert found == {
        "images/2.npy": "image-mode",
        "images/3.tif": "image-mode",
        "images/4.tif": "image-bands",
        "images/6.png": "image-constant",  # white, the stated background
        "images/9.psd": "not-an-image",
    }
    told = capsys.readouterr().out
    assert not missing(
        told, "drawing program", "0..4064", "download.images.range: [0, 4095]", "6 bands", "21 of 24 samples"
    )


def test_faults_of_the_whole_set_are_found(labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (labels / "masks/1.png").rename(labels / "masks/other.png")
    for number in range(NUM_SAMPLES):
        if number != 1:
            save_mask(labels, number, np.minimum(read_mask(labels, number), 1))
    shutil.copyfile(labels / "images/0.png", labels / "images/twin.png")
    shutil.copyfile(labels / "masks/0.png", labels / "masks/twin.png")
    assert main(["data", "check", "labels"]) == 1
    report = report_of(Path("pages/check"))
    assert {problem["kind"] for problem in report["fail"]} == {"mask-missing", "image-missing", "class-untrained"}
    assert {problem["kind"] for problem in report["warn"]} == {"duplicate"}
    assert not missing(capsys.readouterr().out, "class tree", "pixel")


@pytest.mark.parametrize("output", ["labels", "mine", ".", "mine/notes.txt"])
def test_a_page_replaces_nothing_but_an_earlier_page(labels: Path, output: str) -> None:
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("mine", encoding="utf-8")
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    assert main(["data", "check", "labels", "--output", output]) == 1
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before
    assert main(["data", "check", "labels", "--output", "page"]) == 0
    assert main(["data", "check", "labels", "--output", "page"]) == 0


def test_the_source_s_own_test_split_is_no_training_data(labels: Path) -> None:
    rows = [f"{number},{'test' if number < 4 else 'train'}" for number in range(NUM_SAMPLES)]
    (labels / "samples.csv").write_text("\n".join(["sample_id,split", *rows]), encoding="utf-8")
    assert main(["data", "check", "labels"]) == 0
    (labels / "images/3.png").write_bytes((labels / "images/20.png").read_bytes())
    assert main(["data", "check", "labels"]) == 1
    assert {problem["kind"] for problem in report_of(Path("pages/check"))["fail"]} == {"leak-exact"}


def test_a_joined_folder_may_lie_anywhere(
    labels: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path_factory.mktemp("elsewhere") / "more"
    shutil.copytree(labels, other)
    for number in range(NUM_SAMPLES):
        image = np.asarray(Image.open(other / f"images/{number}.png"))
        Image.fromarray(255 - image[::-1]).save(other / f"images/{number}.png")
    mask = read_mask(other, 1)
    mask[0, 0] = 77
    save_mask(other, 1, mask)
    text = make_params().replace("source: data ", "source: labels ")
    joined = f"  join: {{more: {{source: {other}, format: folder}}}}\n"
    text = text.replace("  join: {}\n", joined, 1).replace("^([^_]+)_ ", "([0-9]+)$ ")
    Path("params.yaml").write_text(text, encoding="utf-8")
    main(["data", "check"])
    assert f"{other}/masks/1.png: holds values outside the class table: 77 (1 px)" in capsys.readouterr().out


def test_an_archive_is_checked_as_a_folder_is(labels: Path) -> None:
    shutil.make_archive("packed", "zip", labels)
    assert main(["data", "check", "packed.zip"]) == 0


def test_fix_mends_what_is_safe_and_says_how_to_keep_it(labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_mask(labels, 1, np.repeat(read_mask(labels, 1)[..., None], 3, axis=2))
    assert main(["data", "check", "labels"]) == 1
    assert "; fixed in the store" not in capsys.readouterr().out
    assert main(["data", "check", "labels", "--fix"]) == 0
    told = capsys.readouterr().out
    assert not missing(told, "masks/1.png", "repeats", "3 channels", "RGB")
    assert "preprocess: {policy: {fix: true}}" in told


def test_options_reach_the_format(labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", "labels", "--option", "no_such=1"]) == 1
    assert "option no_such: unknown" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["data", "check", "labels", "--option", "no value"])


def test_what_is_asked_wrongly_is_told(labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", "nowhere"]) == 1
    assert not missing(capsys.readouterr().err, "nowhere", "archive")
    assert main(["data", "check", "labels", "--format", "foldr"]) == 1
    assert "did you mean 'folder'" in capsys.readouterr().err
    assert main(["data", "check"]) == 1
    assert "params.yaml: no such file" in capsys.readouterr().err
    assert not Path("pages").exists()


def test_without_a_source_those_of_the_parameters_are_checked_with_their_split(
    labels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = make_params()
    changed = params.replace("source: data ", "source: labels ")
    assert changed != params
    Path("params.yaml").write_text(changed, encoding="utf-8")
    assert main(["data", "check"]) == 1
    told = capsys.readouterr()
    assert "group-unknown" in told.out
    assert main(["data", "check", "--format", "voc"]) == 1
    assert not missing(capsys.readouterr().err, "--format", "--option", "SOURCE")


def test_the_policy_of_the_parameters_holds_for_any_source(labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params = make_params()
    changed = params.replace("    actions: {} ", "    actions: {mask-void: fail} ")
    assert changed != params
    Path("params.yaml").write_text(changed, encoding="utf-8")
    save_mask(labels, 1, np.full((HEIGHT, WIDTH), 255, np.uint8))
    assert main(["data", "check", "labels"]) == 1
    assert not missing(capsys.readouterr().out, "mask-void", "labelled", "1, stops")


def test_all_kinds_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "kinds"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["kind", *KINDS]
    assert any("mask-depth" in line and "divided by 257" in line for line in lines)


def test_equal_faults_are_one_line_and_the_class_table_to_write_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = "classes: [{name: ground, color: [1, 2, 3]}, {name: berry, color: [4, 5, 6]}]\n"
    folder = draw_set("berries", tmp_path)
    (folder / "dataset.yaml").write_text(table, encoding="utf-8")
    assert main(["data", "check", str(folder)]) == 1
    told = capsys.readouterr().out
    assert sum("masks/berry_00.png" in line for line in told.splitlines()) == 2  # of two kinds
    lines = told[told.index("    classes:") : told.index("\n\n", told.index("    classes:"))]
    (folder / "dataset.yaml").write_text(lines, encoding="utf-8")
    assert main(["data", "check", str(folder)]) == 0
