"""`segpipe data split`: what it prints, what it refuses, and that it changes nothing else in a parameter file."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dvc.utils.hydra import apply_overrides
from facts import missing
from own_data import draw_set
from ruamel.yaml import YAML
from starter import make_params

from segpipe.cli.data_split import add_command
from segpipe.config.params import load_config
from segpipe.config.split_edit import Grouping, format_lines
from segpipe.data.inspection.fingerprint import fingerprint
from segpipe.errors import ConfigError, DataError, SegpipeError, SourceError, StoreError

PARAMS = make_params()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the starter's parameters and a manifest: 10 sequences of 4 frames, three cameras, two classes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(PARAMS, encoding="utf-8")
    blank = fingerprint(np.zeros((8, 8, 3), np.uint8))
    rows = [
        {
            "sample_id": f"00{group:02d}E5_{frame}",
            "group": f"00{group:02d}E5",
            "perceptual_hash": blank,
            "num_px_road": 900 + group,
            "num_px_car": 10 * (group % 3),
            "attribute_camera": f"camera {group % 3}",
            "attribute_town": "x" if group else "",
        }
        for group in range(10)
        for frame in range(4)
    ]
    _write(tmp_path, pd.DataFrame(rows))
    return tmp_path


def _write(project: Path, manifest: pd.DataFrame, folder: str = ".cache/dataset") -> None:
    (project / folder).mkdir(parents=True, exist_ok=True)
    manifest.to_parquet(project / folder / "manifest.parquet", index=False)


def _run(*arguments: str) -> None:
    parser = argparse.ArgumentParser()
    add_command(parser.add_subparsers())
    options = parser.parse_args(["split", *arguments])
    options.run(options)


def test_a_proposal_is_printed_with_its_lines_of_yaml(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (project / "params.yaml").read_text()
    _run("--val", "0.2", "--test", "0.2")
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert lines[0].split() == ["split", "groups", "samples", "share", "%", "wanted", "%"]
    assert [line.split() for line in lines[1:4]] == [
        ["train", "6", "24", "60.0", "60.0"],
        ["val", "2", "8", "20.0", "20.0"],
        ["test", "2", "8", "20.0", "20.0"],
    ]
    assert lines[7].split() == ["class", "share", "%", "train", "val", "test"]
    road = lines[8].split()
    assert road[:2] == ["road", f"{100 * 4 * 9045 / (4 * 9045 + 4 * 90):.2f}"]
    proposed = YAML(typ="safe").load(printed[printed.index("preprocess:") :])
    groups = proposed["preprocess"]["split"]["val"] + proposed["preprocess"]["split"]["test"]
    assert len(set(groups)) == 4
    assert all(isinstance(group, str) for group in groups), "0016E5 is a number to YAML"
    assert (project / "params.yaml").read_text() == before


def test_the_printed_deviations_are_those_of_the_groups(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _run("--val", "0.2", "--test", "0.2")
    printed = capsys.readouterr().out
    val = YAML(typ="safe").load(printed[printed.index("preprocess:") :])["preprocess"]["split"]["val"]
    manifest = pd.read_parquet(".cache/dataset/manifest.parquet")
    rows = manifest[manifest["group"].isin(val)]
    share, whole = (
        frame["num_px_car"].sum() / frame[["num_px_road", "num_px_car"]].sum().sum() for frame in (rows, manifest)
    )
    car = next(line.split() for line in printed.splitlines() if line.startswith("car"))
    assert float(car[3]) == pytest.approx(100 * (share / whole - 1), abs=0.06)


def test_writing_changes_the_split_and_nothing_else(project: Path) -> None:
    before = (project / "params.yaml").read_text().splitlines()
    _run("--write")
    after = (project / "params.yaml").read_text().splitlines()
    assert [line for line in after if line not in before] == [line for line in after if "E5" in line]
    assert [line for line in before if line not in after] == [line for line in before if "- street" in line]
    split = load_config(project / "params.yaml").preprocess.split
    assert set(split.val) | set(split.test) <= {f"00{group:02d}E5" for group in range(10)}


def test_writing_a_pattern_and_no_test(project: Path) -> None:
    _run("--write", "--test", "0", "--by", "pattern:^(....)")
    preprocess = load_config(project / "params.yaml").preprocess
    assert preprocess.group_pattern == "^(....)"
    assert preprocess.split.test is None
    assert "# is only reported" in (project / "params.yaml").read_text()


def test_writing_a_column_where_there_was_a_pattern(project: Path) -> None:
    _run("--write", "--by", "column:camera")
    preprocess = load_config(project / "params.yaml").preprocess
    assert (preprocess.group_pattern, preprocess.group_column) == (None, "camera")
    assert {len(preprocess.split.val), len(preprocess.split.test)} == {1}


@pytest.mark.parametrize(
    "layout",
    [
        "  split:\n    val: 0.2  # a share\n",
        "  split:\n    test: source\n    val:\n    - a\n    - b  # last\n    # after\n",
        "  split:\n      val: [a,\n        b]\n      test: null\n",
        "  policy: {fix: true}\n  # before\n  split:\n    val: 0.2\n  seed: 3\n",
    ],
)
def test_writing_into_other_layouts(project: Path, layout: str) -> None:
    text = PARAMS
    start, end = text.index("  group_pattern"), text.index("\nclass_weights:")
    (project / "params.yaml").write_text(text[:start] + layout + text[end:])
    before = load_config(project / "params.yaml")
    _run("--write", "--by", "pattern:^(.{6})")
    after = load_config(project / "params.yaml")
    written = (project / "params.yaml").read_text()
    assert all(comment in written for comment in ("# a share", "# last", "# after", "# before") if comment in layout)
    assert after.preprocess.group_pattern == "^(.{6})"
    assert len(after.preprocess.split.val) in (1, 2)
    assert len(after.preprocess.split.test) in (1, 2)
    same = {"group_pattern", "split"}
    assert after.preprocess.model_dump(exclude=same) == before.preprocess.model_dump(exclude=same)
    assert after.model_dump(exclude={"preprocess"}) == before.model_dump(exclude={"preprocess"})


@pytest.mark.parametrize(
    ("layout", "why"),
    [
        ("  split: {val: 0.2}\n", "must have a line for each key"),
        ("  split:\n    val: [a,  # the best street\n      b]\n", "a comment would be lost"),
    ],
)
def test_what_cannot_be_written_safely_is_left_as_it_is(project: Path, layout: str, why: str) -> None:
    text = PARAMS
    start, end = text.index("  group_pattern"), text.index("\nclass_weights:")
    (project / "params.yaml").write_text(text[:start] + layout + text[end:])
    before = (project / "params.yaml").read_bytes()
    with pytest.raises(ConfigError, match=why) as caught:
        _run("--write")
    assert "write these lines yourself:\npreprocess:\n  split:\n    val:\n    - " in str(caught.value)
    assert (project / "params.yaml").read_bytes() == before


def test_what_is_written_is_read_again_and_left_by_dvc(project: Path) -> None:
    lists = {"val": [f"sequence {i}" for i in range(60)], "test": ["0016E5", "yes", "it's", "a, b", "ü\n", "street1"]}
    text = format_lines(Grouping("group_pattern", r"^([^_]+)_\d"), lists)
    assert YAML(typ="safe").load(text) == {"preprocess": {"group_pattern": r"^([^_]+)_\d", "split": lists}}
    _run("--write", "--by", "pattern:^(....)")
    before = (project / "params.yaml").read_text().splitlines()
    apply_overrides(project / "params.yaml", ["train.seed=17"])
    after = (project / "params.yaml").read_text().splitlines()
    assert [new for old, new in zip(before, after, strict=True) if old != new] == ["  seed: 17"]


def test_the_last_dataset_serves_where_nothing_else_was_counted(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.move(project / ".cache/dataset", project / "build/dataset")
    _run()
    assert "train" in capsys.readouterr().out


def test_impossible_wishes_are_named(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _run("--by", "column:camera")
    printed = capsys.readouterr().out
    assert "Class car is missing in" in printed
    assert "Split val has" in printed


def test_two_groups_are_written_without_a_test(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = pd.read_parquet(".cache/dataset/manifest.parquet")
    _write(project, manifest[manifest["group"].isin(["0001E5", "0002E5"])])
    _run()
    printed = capsys.readouterr().out
    lines = YAML(typ="safe").load(printed[printed.index("preprocess:") :])
    _run("--write")
    split = load_config(project / "params.yaml").preprocess.split
    assert split.test is None
    assert lines["preprocess"]["split"] == {"val": split.val, "test": None}


def test_one_group_is_no_split(project: Path) -> None:
    before = (project / "params.yaml").read_bytes()
    for arguments in ([], ["--write"]):
        with pytest.raises(ConfigError, match=r"1 group cannot be divided .* --by"):
            _run("--by", "pattern:^(0)", *arguments)
    assert (project / "params.yaml").read_bytes() == before


def test_groups_that_look_alike_are_kept_together(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = pd.read_parquet(".cache/dataset/manifest.parquet")
    pattern = np.kron(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
    manifest.loc[[0, 4, 8], "perceptual_hash"] = fingerprint(pattern)
    _write(project, manifest)
    _run("--tie", "--val", "0.3")
    printed = capsys.readouterr().out
    assert not missing(printed, "10 groups", "as 8", "images")
    split = YAML(typ="safe").load(printed[printed.index("preprocess:") :])["preprocess"]["split"]
    sides = [
        next((name for name in split if group in split[name]), "train") for group in ("0000E5", "0001E5", "0002E5")
    ]
    assert len(set(sides)) == 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["--val", "0"], ConfigError, "--val 0.0 --test 0.15: val must be above 0, and both together below 1"),
        (["--val", "0.6", "--test", "0.4"], ConfigError, "both together below 1"),
        (["--manifest", "nothing"], StoreError, "nothing: no such file; run `dvc repro preprocess` first"),
        (["--manifest", "params.yaml"], StoreError, "params.yaml: is no manifest"),
        (["--by", "pattern:^(x)"], DataError, "40 problems in the data"),
        (["--by", "column:patient"], ConfigError, "--by column:patient: no such column; there are: camera, town"),
        (["--by", "column:town"], ConfigError, "4 samples have no value there, the first is 0000E5_0"),
    ],
)
def test_what_is_refused(project: Path, arguments: list[str], error: type[SegpipeError], message: str) -> None:
    with pytest.raises(error) as caught:
        _run(*arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--val", "1"],
        ["--test", "x"],
        ["--by", "group"],
        ["--by", "pattern:("],
        ["--by", "pattern:abc"],
        ["--by", "column:"],
    ],
)
def test_what_the_command_line_refuses(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _run(*arguments)
    assert "must" in capsys.readouterr().err


def test_an_empty_manifest_is_refused(project: Path) -> None:
    _write(project, pd.read_parquet(".cache/dataset/manifest.parquet").iloc[:0])
    with pytest.raises(StoreError, match="holds no samples"):
        _run()


@pytest.fixture
def microscopy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without a manifest, and a source of eight patients with five images each."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEGPIPE_WORKERS", "1")
    folder = draw_set("microscopy", tmp_path)
    table = "classes: [{name: ground, color: [0, 0, 0]}, {name: cell, color: [9, 9, 9]}]\n"
    (folder / "dataset.yaml").write_text(table, encoding="utf-8")
    return folder


def test_a_source_is_split_before_any_preprocess(microscopy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _run("microscopy", "--by", "column:patient", "--val", "0.25", "--test", "0.25")
    printed = capsys.readouterr().out
    assert [line.split()[:3] for line in printed.splitlines()[1:4]] == [
        ["train", "4", "20"],
        ["val", "2", "10"],
        ["test", "2", "10"],
    ]
    assert not missing(printed, "group_column: patient", "patient")
    assert not list(Path(".cache").iterdir())


def test_without_a_manifest_the_source_of_the_parameters_is_read(
    microscopy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = PARAMS.replace("source: data ", "source: microscopy ")
    Path("params.yaml").write_text(text.replace("group_pattern: ^([^_]+)_", "group_pattern: (slide..)"))
    _run("--write")
    assert {*load_config().preprocess.split.val} < {f"slide{number:02d}" for number in range(4)}  # type: ignore[arg-type]


def test_samples_that_cannot_be_used_are_told(microscopy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (microscopy / "masks/slide000.png").write_text("no picture")
    _run("microscopy", "--by", "column:patient")
    assert not missing(capsys.readouterr().out, "1 of 40", "segpipe data check")
    for mask in (microscopy / "masks").iterdir():
        mask.write_text("no picture")
    with pytest.raises(SourceError, match="segpipe data check"):
        _run("microscopy")


def test_a_source_and_a_manifest_are_too_much(microscopy: Path) -> None:
    with pytest.raises(ConfigError, match="--manifest"):
        _run("microscopy", "--manifest", "x.parquet")
