"""`segpipe export`: what is refused before a model is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
from facts import missing

from segpipe.cli import main


def test_a_missing_data_set_is_named_with_both_ways_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(tmp_path), "--output", str(tmp_path / "out"), "--dataset", str(tmp_path / "none")]) == 1
    said = capsys.readouterr().err
    assert not missing(said, str(tmp_path / "none"), "--dataset FOLDER", "--made-up-images")


def test_a_folder_with_other_files_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").touch()
    assert main(["export", "model", "--output", str(tmp_path), "--made-up-images"]) == 1
    assert not missing(capsys.readouterr().err, str(tmp_path), "notes.txt")


def test_a_folder_without_a_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    assert main(["export", str(tmp_path / "none"), "--output", str(output), "--made-up-images"]) == 1
    assert not missing(capsys.readouterr().err, str(tmp_path / "none"), "holds no usable model")
    assert not output.exists()


def test_an_unknown_format_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["export", "model", "--output", "out", "--format", "tflite"])
    assert ended.value.code == 1
    assert not missing(capsys.readouterr().err, "tflite", "onnx", "torch")


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["--int8", "--made-up-images"], ("validation images", "--dataset FOLDER")),
        (["--int8", "--format", "torch"], ("int8", "--format onnx")),
        (["--bf16"], ("--format openvino",)),
    ],
)
def test_fewer_bits_are_refused_where_they_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], facts: tuple[str, ...]
) -> None:
    (tmp_path / "dataset").mkdir()
    output = tmp_path / "out"
    given = ["--output", str(output), "--dataset", str(tmp_path / "dataset"), *arguments]
    assert main(["export", str(tmp_path / "none"), *given]) == 1
    assert not missing(capsys.readouterr().err, *facts)
    assert not output.exists()
