"""Bad input to a stage: one clear message that names all problems, exit code 1, and nothing half-written."""

import io
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from facts import missing
from filelock import FileLock
from integration.project import Project, add_sample, message_of_refusal, paint, read_picture
from PIL import Image


def remove_mask(data: Path) -> None:
    (data / "masks/a_000.png").unlink()


def remove_image(data: Path) -> None:
    (data / "images/a_001.png").unlink()


def shrink_mask(data: Path) -> None:
    add_sample(data, "a_002", mask=paint("a", 2)[1][:-2])


def write_unknown_value(data: Path) -> None:
    mask = paint("b", 0)[1]
    mask[0, :2] = 7
    add_sample(data, "b_000", mask=mask)


def truncate_image(data: Path) -> None:
    path = data / "images/b_001.png"
    path.write_bytes(path.read_bytes()[:-900])


def save_colours_as_mask(data: Path) -> None:
    Image.fromarray(paint("b", 2)[0]).save(data / "masks/b_002.png")


def remove_boxes_from_training(data: Path) -> None:
    for path in sorted((data / "masks").glob("[ab]_*.png")):
        mask = np.array(read_picture(path))
        mask[mask == 2] = 0
        Image.fromarray(mask).save(path)


FAULTS: dict[Callable[[Path], None], str] = {
    remove_mask: "images/a_000.png: no masks/a_000.png",
    remove_image: "masks/a_001.png: no image images/a_001.*",
    shrink_mask: "masks/a_002.png: is 64x46, its image 64x48",
    write_unknown_value: "masks/b_000.png: holds values outside the class table: 7 (2 px)",
    truncate_image: "images/b_001.png: cannot be decoded",
    save_colours_as_mask: "masks/b_002.png: holds colours (mode RGB, ",
    remove_boxes_from_training: "class box: has no pixel in the training split",
}


@pytest.mark.parametrize("spoil", FAULTS, ids=lambda spoil: spoil.__name__)
def test_a_fault_in_the_data_is_one_problem_and_the_older_store_stays(
    finished: Project, spoil: Callable[[Path], None]
) -> None:
    spoil(finished.root / "data")
    finished.stage("download")
    before = finished.files()

    message = finished.refused("preprocess")

    assert message.startswith("1 problem in the data:\n")
    assert FAULTS[spoil] in message
    assert finished.files() == before


def test_all_faults_in_the_data_are_told_together_and_nothing_is_left(sources: Project) -> None:
    together = [spoil for spoil in FAULTS if spoil is not remove_boxes_from_training]
    for spoil in together:
        spoil(sources.root / "data")
    sources.stage("download")

    message = sources.refused("preprocess")

    assert message.startswith(f"{len(together)} problems in the data:\n")
    for spoil in together:
        assert FAULTS[spoil] in message
    assert {path.name for path in (sources.root / "build").iterdir()} == {"raw"}


def test_a_missing_data_folder(finished: Project) -> None:
    shutil.rmtree(finished.root / "data")
    before = finished.files()
    message = finished.refused("download")
    assert message.startswith("data: no such folder or archive")
    assert finished.files() == before


@pytest.mark.parametrize("folder", ["images", "masks"])
def test_a_missing_folder_of_the_data(sources: Project, folder: str) -> None:
    shutil.rmtree(sources.root / "data" / folder)
    sources.stage("download")
    assert f"{folder}: no such folder" in sources.refused("preprocess")
    assert not (sources.root / "build/dataset").exists()


def test_a_class_table_with_several_mistakes(sources: Project) -> None:
    table = "classes: [{name: a, colour: [1, 2, 3]}, {name: b, color: [1, 2, 300]}]\nviod: [255]\n"
    (sources.root / "data/dataset.yaml").write_text(table, encoding="utf-8")
    message = sources.refused("download")
    for key in ("classes.0.colour: unknown key", "classes.1.color.2: ", "viod: unknown key; did you mean 'void'"):
        assert key in message
    assert sources.files() == {}


# Archives


def write_zip(path: Path, *entries: tuple[str, int]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("dataset.yaml", "classes: []")
        for name, mode in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, "/etc/passwd")


def write_tar(path: Path, *members: tarfile.TarInfo) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(b""))


def test_an_archive_with_another_sha256(finished: Project) -> None:
    write_zip(finished.root / "labels.zip")
    finished.change_params("download.source", "labels.zip")
    finished.change_params("download.sha256", "0" * 64)
    before = finished.files()
    message = finished.refused("download")
    assert message.startswith("labels.zip: its content is not the expected one: its sha256 is ")
    assert "0" * 64 in message
    assert finished.files() == before


def test_a_zip_with_entries_that_leave_the_folder_tells_all_of_them(sources: Project) -> None:
    wrong = [("../evil", stat.S_IFREG), ("/evil", stat.S_IFREG), ("a/../../evil", stat.S_IFREG), ("l", stat.S_IFLNK)]
    write_zip(sources.root / "labels.zip", *wrong)
    sources.change_params("download.source", "labels.zip")

    def own_files() -> set[str]:
        return {path for path in sources.files(".") if not path.startswith(".locks/") and "__pycache__" not in path}

    before = own_files()

    message = sources.refused("download")

    assert message.startswith("labels.zip: will not be unpacked: ")
    for name, _ in wrong:
        assert repr(name) in message
    assert own_files() == before
    assert not (sources.root.parent / "evil").exists()


def test_a_tar_with_links_and_entries_that_leave_the_folder(sources: Project) -> None:
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc"
    write_tar(sources.root / "labels.tar.gz", tarfile.TarInfo("../evil"), link)
    sources.change_params("download.source", "labels.tar.gz")
    message = sources.refused("download")
    assert "'../evil' leaves the folder" in message
    assert "'link' is a link" in message
    assert sources.files() == {}
    assert not (sources.root / "build/evil").exists()


def test_a_damaged_archive(sources: Project) -> None:
    write_tar(sources.root / "labels.tar.gz", tarfile.TarInfo("a"))
    whole = (sources.root / "labels.tar.gz").read_bytes()
    (sources.root / "labels.tar.gz").write_bytes(whole[:-12])
    sources.change_params("download.source", "labels.tar.gz")
    assert "labels.tar.gz" in sources.refused("download")
    assert sources.files() == {}


def test_something_that_is_no_archive(sources: Project) -> None:
    (sources.root / "labels.txt").write_text("no archive", encoding="utf-8")
    sources.change_params("download.source", "labels.txt")
    assert not missing(sources.refused("download"), "folder", "archive")
    assert sources.files() == {}


# Parameters


MISTAKES = {
    "download.format": ("foldr", "unknown data format 'foldr'; did you mean 'folder'"),
    "class_weights.scheme": ("inverse_frequenzy", "did you mean 'inverse_frequency'"),
    "train.model.name": ("u-net", "unknown model 'u-net'; did you mean 'unet'"),
    "train.loss.0.name": ("cross_entrop", "did you mean 'cross_entropy'"),
    "train.learning_rat": (0.1, "unknown key; did you mean 'learning_rate'"),
    "train.learning_rate": (-0.1, "must be greater than 0 (got -0.1)"),
    "train.epochs": ("many", "must be an integer (got 'many')"),
    "register.model_name": ("a/b", ""),
}


def test_check_tells_all_mistakes_in_the_parameters_and_a_stage_those_of_its_section(sources: Project) -> None:
    for key, (value, _) in MISTAKES.items():
        sources.change_params(key, value)
    for section, message in (
        ("", message_of_refusal(sources.run("segpipe", "check"))),
        ("download.", sources.refused("download")),
        ("train.", sources.refused("train")),
        ("register.", sources.refused("register")),
    ):
        expected = {key: told for key, (_, told) in MISTAKES.items() if key.startswith(section)}
        lines = {line.split(": ")[1]: line for line in message.strip().splitlines()}
        assert lines.keys() == expected.keys()
        assert all(lines[key].startswith("params.yaml: ") and told in lines[key] for key, told in expected.items())
    assert sources.files() == {}


def test_wrong_options_of_a_model_are_told_together_and_the_older_model_stays(finished: Project) -> None:
    finished.change_params("train.model.options", {"widht": 4, "depth": 9})
    before = finished.files()
    message = finished.refused("train")
    assert not missing(message, "'unet'", "widht", "unknown", "'width'")
    assert not missing(message, "'unet'", "option", "depth", "to 6", "got 9")
    assert finished.files() == before


def test_wrong_options_of_a_weighting(finished: Project) -> None:
    finished.change_params("class_weights.options", {"pover": 0.5})
    before = finished.files()
    assert not missing(finished.refused("class_weights"), "pover", "unknown", "'power'")
    assert finished.files() == before


def test_a_split_that_names_no_sequence(finished: Project) -> None:
    finished.change_params("preprocess.split.val", ["z"])
    before = finished.files()
    message = finished.refused("preprocess")
    assert not missing(message, "preprocess.split.val", "group", "'z'")
    assert finished.files() == before


# Inputs of an earlier stage, other processes, the system


@pytest.mark.parametrize(
    ("stage", "missing"),
    [
        ("preprocess", "build/raw/source.json"),
        ("class_weights", "build/dataset/manifest.parquet"),
        ("train", "build/class_weights.json"),
        ("evaluate", "build/model/weights.safetensors"),
        ("register", "build/evaluation/metrics.json"),
    ],
)
def test_a_missing_output_of_an_earlier_stage_is_named(finished: Project, stage: str, missing: str) -> None:
    (finished.root / missing).unlink()
    before = finished.files()
    message = finished.refused(stage)
    assert Path(missing).parts[1] in message
    assert "run `dvc repro" in message
    assert finished.files() == before


def test_a_second_process_on_the_same_output(finished: Project) -> None:
    before = finished.files()
    with FileLock(finished.root / ".locks/dataset.lock"):
        message = finished.refused("preprocess")
    assert message.startswith("build/dataset is being written by another process")
    assert finished.files() == before
    finished.stage("preprocess")


@pytest.mark.parametrize("stage", ["download", "preprocess", "train"])
def test_a_file_size_limit_of_the_system_is_passed_on(finished: Project, stage: str) -> None:
    # Blocks of 1024 bytes: less than files, pixels and weights need. Python ignores SIGXFSZ, so the write fails.
    finished.change_params("train.seed", 5)
    before = finished.files()
    limited = f"ulimit -f 4; MLFLOW_TRACKING_URI=http://127.0.0.1:1 exec python -m segpipe.stages.{stage}"
    message = message_of_refusal(finished.run("bash", "-c", limited))
    assert message.startswith("the system refuses: [Errno 27]")
    assert finished.files() == before


@pytest.mark.parametrize(
    ("stage", "folder", "free_kb"),
    [
        ("download", "build", 8),
        ("preprocess", "build", 16),
        ("class_weights", "build", 0),
        ("train", "build", 4),
        ("train", "checkpoints", 60),
        ("evaluate", "build", 8),
    ],
)
def test_a_full_disk_is_passed_on(
    finished: Project, mount_small_disk: Callable[[Path, int], None], stage: str, folder: str, free_kb: int
) -> None:
    finished.change_params("train.seed", 5)
    mount_small_disk(finished.root / folder, free_kb)
    before = finished.files()
    message = finished.refused(stage)
    assert message.startswith("the system refuses: [Errno 28]")
    assert finished.files() == before
