"""`segpipe init`: the project it makes, what it asks for, what it refuses, and that a failure changes nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from facts import missing
from own_data import NUM_IMAGES
from PIL import Image
from ruamel.yaml import YAML
from starter import NAME, is_here, make_params

from segpipe.cli import init, main
from segpipe.config.params import load_config
from segpipe.errors import CommandError
from segpipe.new_project import make
from segpipe.project import git

ROOT = Path(__file__).parents[3]
COPIED = (
    "recipes/fcn8s_voc.yaml",
    "recipes/sources/voc2012_sbd.yaml",
    ".gitignore",
    ".dvc/config",
    ".dvc/.gitignore",
)
RESULTS = ("dvc.lock", "metrics.json")


@pytest.fixture(scope="module")
def clone_of_starter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("starter") / "clone"
    for name in COPIED:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, root / name)
    (root / "params.yaml").write_text(make_params(), encoding="utf-8")
    (root / "recipes/smoke.yaml").write_text(make_params("smoke", "smoke"), encoding="utf-8")
    for name in ("images", "masks"):
        (root / "data" / name).mkdir(parents=True)
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(root / "data" / name / "street00_000.png")
    (root / "data/dataset.yaml").write_text("classes: []\n")
    (root / "data.dvc").write_text("outs:\n- path: data\n  cache: false\n")
    for name in RESULTS:
        (root / name).write_text("{}\n")
    for command in (["init", "-q"], ["config", "user.name", "t"], ["config", "user.email", "t@t"], ["add", "-A"]):
        subprocess.run(["git", *command], cwd=root, check=True)
    subprocess.run(["git", "commit", "-qm", "starter"], cwd=root, check=True)
    return root


@pytest.fixture
def clone(clone_of_starter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "clone"
    shutil.copytree(clone_of_starter, root)
    (root / "build").mkdir()
    (root / "build/registration.json").write_text("{}")
    monkeypatch.chdir(root)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.setattr(init, "_is_terminal", lambda: False)
    return root


def contents(root: Path) -> dict[str, bytes]:
    paths = [path for path in root.rglob("*") if path.is_file() and not {".git", ".cache"} & {*path.parts}]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def without_dvc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the calls of DVC, which take seconds."""
    monkeypatch.setattr(make, "dvc", lambda *arguments: "")


def read(path: str) -> dict[str, object]:
    document: dict[str, object] = YAML(typ="safe", pure=True).load(Path(path).read_text(encoding="utf-8"))
    return document


def test_photos_with_masks_of_0_and_255_become_a_project(
    clone: Path, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = own / "berries"
    before = contents(folder)
    flags = ["--name", "berries", "--data", str(folder), "--classes", "ground,berry", "--model", "unet"]
    assert main(["init", *flags]) == 0
    assert not missing(capsys.readouterr().out, "40 samples", "ground, berry", "git commit", "data check", "make repro")
    assert contents(folder) == before
    classes = read("data/dataset.yaml")["classes"]
    assert [(c["name"], c["value"]) for c in classes] == [("ground", 0), ("berry", 255)]  # type: ignore[attr-defined]
    config = load_config()
    assert (config.register_.model_name, config.train.experiment) == ("berries", "berries")
    assert (config.train.model.name, config.train.model.in_channels) == ("unet", 3)
    assert (config.preprocess.split.val, config.preprocess.group_pattern) == (0.15, None)
    # What the starter left is gone; DVC watches the new content.
    assert not any(Path(name).exists() for name in (*RESULTS, "build", "data/images/street00_000.png"))
    assert "md5" in read("data.dvc")["outs"][0]  # type: ignore[index]
    staged = git(clone, "status", "--porcelain", "--untracked-files=all").splitlines()
    assert all(line[1] == " " for line in staged), staged
    assert {"A  data/images/berry_00.jpg", "D  data/images/street00_000.png", "D  dvc.lock"} <= set(staged)
    # The recipes that train on data/ go with it, under names of their own; the others stay.
    smoke = load_config(Path("recipes/smoke.yaml"))
    assert (smoke.register_.model_name, smoke.preprocess) == ("berries-smoke", config.preprocess)
    assert Path("recipes/fcn8s_voc.yaml").read_bytes() == (ROOT / "recipes/fcn8s_voc.yaml").read_bytes()
    # A second one is refused until the first is committed.
    assert main(["init", "--name", "other", "--data", str(own / "cvat")]) == 1


def test_only_a_project_of_ones_own_lacks_the_starters_images() -> None:
    # Or the tests that skip without them would skip in the starter too.
    assert is_here() or load_config(ROOT / "params.yaml").register_.model_name != NAME


def test_many_bytes_are_kept_in_dvcs_cache(clone: Path, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make, "MAX_BYTES_IN_GIT", 1000)
    assert main(["init", "--name", "c", "--data", str(own / "cvat")]) == 0
    assert "cache" not in read("data.dvc")["outs"][0]  # type: ignore[index]
    assert "/data" in Path(".gitignore").read_text().splitlines()
    staged = git(clone, "status", "--porcelain", "--untracked-files=all").splitlines()
    assert "A  data/labelmap.txt" not in staged
    assert len(list(Path(".dvc/cache").rglob("*"))) > NUM_IMAGES
    assert load_config().download.format == "cvat"


def test_colour_masks_take_the_names_of_a_label_map(clone: Path, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_dvc(monkeypatch)
    label_map = own / "fields/label_map.txt"
    assert main(["init", "--name", "f", "--data", str(own / "fields"), "--classes", str(label_map)]) == 0
    document = read("data/dataset.yaml")
    assert document["masks"] == "colors"
    assert [c["name"] for c in document["classes"]] == ["soil", "weed", "crop"]  # type: ignore[attr-defined]


def test_groups_may_be_a_column(clone: Path, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_dvc(monkeypatch)
    flags = ["--name", "m", "--data", str(own / "microscopy"), "--by", "column:patient"]
    assert main(["init", *flags]) == 0
    config = load_config()
    assert (config.preprocess.group_column, config.train.model.in_channels) == ("patient", 1)


def test_patterns_get_their_class_table_as_options(clone: Path, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_dvc(monkeypatch)
    folder = clone.parent / "odd"
    shutil.copytree(own / "berries/images", folder / "photos")
    shutil.copytree(own / "berries/masks", folder / "labels")
    patterns = ["--option", "images=photos/{id}.jpg", "--option", "masks=labels/{id}.png"]
    flags = ["--name", "p", "--data", str(folder), "--format", "patterns", *patterns]
    assert main(["init", *flags]) == 0
    options = load_config().download.options
    assert [c["value"] for c in options["classes"]] == [0, 255]


def test_the_data_may_lie_in_data_already(clone: Path, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_dvc(monkeypatch)
    shutil.rmtree("data")
    shutil.copytree(own / "microscopy", "data")
    assert main(["init", "--name", "m", "--data", "data"]) == 0
    assert len(list(Path("data/images").iterdir())) == NUM_IMAGES


def test_without_a_terminal_the_missing_flags_are_told(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init"]) == 1
    assert not missing(capsys.readouterr().err, "--name", "--data")


def test_in_a_terminal_it_asks(
    clone: Path, own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without_dvc(monkeypatch)
    answers = iter(["berries", str(own / "berries"), "", "earth", ""])  # the present model, the second name as proposed
    monkeypatch.setattr(init, "_is_terminal", lambda: True)
    monkeypatch.setattr("builtins.input", lambda question: next(answers))
    assert main(["init"]) == 0
    assert "earth, class_1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "facts"),
    [
        (["--name", "streets"], ["--name", "streets"]),
        (["--name", "a/b"], ["params.yaml", "register.model_name"]),
        (["--classes", "one,two,three"], ["--classes", "3", "2", "0, 255"]),
        (["--classes", "one,one"], ["--classes: ", "twice", "one"]),
        (["--classes", "one,"], ["--classes: ", "empty"]),
        (["--model", "unett"], ["--model", "'unet'"]),
        (["--by", "column:patient"], ["patient"]),
        (["--format", "cvat"], ["SegmentationClass"]),
        (["--data", "nowhere"], ["nowhere", "folder"]),
        (["--data", "."], ["--data"]),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_changes(
    clone: Path, own: Path, flags: list[str], facts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(clone)
    assert main(["init", "--name", "x", "--data", str(own / "berries"), *flags]) == 1
    assert not missing(capsys.readouterr().err, *facts)
    assert contents(clone) == before
    assert git(clone, "status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("lines", "facts"),
    [
        (["name,r,g,b,value", "a,0,0,0,0", "b,1,1,1,0"], ["--classes: value", "twice", "0"]),
        (["name,r,g,b", "a,0,0,0", "b,0,0,0", "b,255,255,255"], ["--classes: named twice: b", "--classes: value", "0"]),
    ],
)
@pytest.mark.parametrize("format_name", ["folder", "patterns"])
def test_a_class_file_that_contradicts_itself_is_refused(
    clone: Path, own: Path, lines: list[str], facts: list[str], format_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = clone.parent / "classes.csv"
    table.write_text("\n".join(lines))
    flags = ["--name", "x", "--data", str(own / "berries"), "--format", format_name, "--classes", str(table)]
    assert main(["init", *flags]) == 1
    assert not missing(capsys.readouterr().err, *facts)


def test_uncommitted_work_is_never_overwritten(clone: Path, own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("params.yaml").write_text(Path("params.yaml").read_text() + "\n# mine\n")
    for name in ("data/mine.png", "mine.txt"):
        Path(name).write_text("mine")
    before = contents(clone)
    assert main(["init", "--name", "x", "--data", str(own / "berries")]) == 1
    told = capsys.readouterr().err
    assert not missing(told, "params.yaml", "data/mine.png", "git stash")
    assert "mine.txt" not in told  # a new file elsewhere stays as it is
    assert contents(clone) == before


def test_labels_that_only_data_holds_are_never_lost(
    clone: Path, own: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make, "MAX_BYTES_IN_GIT", 1000)
    assert main(["init", "--name", "c", "--data", str(own / "cvat")]) == 0
    git(clone, "commit", "--quiet", "--message", "c")
    Path("data/new.png").write_text("mine")
    assert main(["init", "--name", "x", "--data", str(own / "berries")]) == 1
    assert "dvc commit -f data.dvc" in capsys.readouterr().err
    assert Path("data/new.png").read_text() == "mine"


def test_a_clone_in_data_is_not_deleted(clone: Path, own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("data/.git").mkdir()
    assert main(["init", "--name", "x", "--data", str(own / "berries")]) == 1
    assert "clone of its own" in capsys.readouterr().err
    assert Path("data/.git").is_dir()


def test_ignored_images_are_kept_in_git_all_the_same(
    clone: Path, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_dvc(monkeypatch)
    folder = shutil.copytree(own / "berries", tmp_path / "photos")
    (folder / ".gitignore").write_text("/images\n")
    for path in (folder / "masks", folder):
        path.chmod(0o555)  # the original may be read-only
    assert main(["init", "--name", "b", "--data", str(folder)]) == 0
    assert len(git(clone, "ls-files", "data/images").splitlines()) == NUM_IMAGES
    folder.chmod(0o755)
    (folder / "masks").chmod(0o755)


def test_a_link_that_leads_nowhere_is_named(clone: Path, own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = clone.parent / "linked"
    shutil.copytree(own / "berries", folder)
    (folder / "images/more.jpg").symlink_to("nowhere")
    assert main(["init", "--name", "x", "--data", str(folder)]) == 1
    assert not missing(capsys.readouterr().err, "more.jpg", "copied")


def test_an_export_of_no_image_is_refused_with_the_reason(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "disk"}]}
    folder = clone.parent / "export"
    folder.mkdir()
    (folder / "result.json").write_text(json.dumps(document), encoding="utf-8")
    assert main(["init", "--name", "x", "--data", str(folder), "--format", "coco"]) == 1
    assert not missing(capsys.readouterr().err, "1 problem", "export", "no labelled image", "coco")


def test_a_failure_half_way_puts_everything_back(clone: Path, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> str:
        assert not Path("dvc.lock").exists()  # the switch has begun
        raise CommandError("dvc: no")

    monkeypatch.setattr(make, "dvc", fail)
    before = contents(clone)
    assert main(["init", "--name", "x", "--data", str(own / "berries")]) == 1
    assert contents(clone) == before
    assert git(clone, "status", "--porcelain") == ""
    assert not list(Path(".cache").iterdir())
