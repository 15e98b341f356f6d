"""`segpipe predict`: what is refused before a model is loaded, and how shards end."""

from __future__ import annotations

from pathlib import Path

import pytest
from facts import missing

from segpipe.cli import main
from segpipe.cli.predict import _report
from segpipe.errors import PredictionError, SkippedError
from segpipe.prediction.inputs import Skipped
from segpipe.prediction.job import Done

SKIPPED = (Skipped(Path("a.png"), "is damaged"),)


def test_a_shard_may_not_delete_what_the_others_have_predicted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(tmp_path), "--output", str(tmp_path / "out"), "--shard", "2/4", "--again"]) == 1
    assert not missing(capsys.readouterr().err, "--shard 2/4", "--shard 0/4 --again")
    assert not (tmp_path / "out").exists()


def test_what_is_no_shard_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["predict", "shots", "--output", "out", "--shard", "5/4"])
    assert ended.value.code == 1
    assert not missing(capsys.readouterr().err, "--shard", "'5/4'", "4/4")


def test_a_shard_without_a_good_image_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    _report(Done(0, 0, ()), Path("out"), is_shard=True)
    assert capsys.readouterr().out.startswith("0 images predicted")
    with pytest.raises(SkippedError, match=r"(?s)1 skipped:.*a\.png: is damaged"):
        _report(Done(0, 0, SKIPPED), Path("out"), is_shard=True)
    with pytest.raises(PredictionError, match="no image could be predicted") as raised:
        _report(Done(0, 0, SKIPPED), Path("out"), is_shard=False)
    assert raised.value.exit_code == 1
