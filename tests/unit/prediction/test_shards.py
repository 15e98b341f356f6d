"""Shares of the images by several calls, and the tables by one more: the same as by a single call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from segpipe.errors import PredictionError
from segpipe.inference.network import Network
from segpipe.prediction.job import Done, Options, predict_inputs
from segpipe.prediction.record import open_record
from segpipe.prediction.shards import Shard

WritePicture = Callable[..., np.ndarray]


@pytest.fixture
def predict(tmp_path: Path, network: Network, write_picture: WritePicture) -> Callable[..., Done]:
    """Predicts five pictures, one of them broken, and a file that is none: `predict(output, shard, is_fresh)`."""
    for number in range(5):
        write_picture(tmp_path / f"in/{'night' if number % 2 else 'day'}/{number}.png", 4 + number)
    (tmp_path / "in/night/3.png").write_text("no image")
    (tmp_path / "in/day/z.psd").touch()

    def call(output: str = "out", shard: str = "", is_fresh: bool = False) -> Done:
        options = Options(shard=Shard.parse(shard) if shard else None, is_fresh=is_fresh)
        return predict_inputs(network, [str(tmp_path / "in")], tmp_path / output, options)

    return call


def _files(folder: Path) -> dict[str, bytes]:
    """What people get: all but the progress."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".progress" not in path.parts
    }


@pytest.mark.parametrize("num_shards", [2, 3, 9])
def test_shards_and_a_last_call_give_what_one_call_gives(
    tmp_path: Path, predict: Callable[..., Done], num_shards: int
) -> None:
    whole = predict("whole")
    assert (whole.num_predicted, len(whole.skipped)) == (4, 2)
    shares = [predict(shard=f"{index + 1}/{num_shards}") for index in range(num_shards)]
    assert sum(share.num_predicted for share in shares) == 4
    assert sorted(one.path.name for share in shares for one in share.skipped) == ["3.png", "z.psd"]
    assert not list((tmp_path / "out").glob("*.csv"))
    assert predict() == Done(0, 4, whole.skipped)
    assert _files(tmp_path / "out") == _files(tmp_path / "whole")
    # What the shards knew is in one file now.
    assert [path.name for path in (tmp_path / "out/.progress").glob("rows*")] == ["rows.jsonl"]
    assert predict() == Done(0, 4, whole.skipped)


def test_a_shard_goes_on_where_it_was_ended(tmp_path: Path, predict: Callable[..., Done]) -> None:
    assert predict(shard="1/2").num_predicted == 2
    rows = tmp_path / "out/.progress/rows-1-of-2.jsonl"
    rows.write_bytes(rows.read_bytes()[:-5])
    (tmp_path / "out/.progress/parts-1-of-2").mkdir()
    assert (predict(shard="1/2").num_predicted, predict(shard="1/2").num_predicted) == (1, 0)
    # With another number of shards, what is there is not predicted again.
    assert sum(predict(shard=f"{index}/3").num_predicted for index in (1, 2, 3)) == 2


def test_the_zeroth_shard_begins_the_folder_and_predicts_nothing(tmp_path: Path, predict: Callable[..., Done]) -> None:
    predict()
    assert predict(shard="0/2", is_fresh=True) == Done(0, 0, ())
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"job.json", ".progress"}
    assert [predict(shard=f"{index}/2").num_predicted for index in (1, 2)] == [2, 2]


def test_two_shards_write_at_once_and_nothing_else_does(tmp_path: Path, predict: Callable[..., Done]) -> None:
    predict(shard="0/2")
    progress = tmp_path / "out/.progress"
    with FileLock(progress / "lock-1-of-2"):  # as if it ran
        assert predict(shard="2/2").num_predicted == 2
        for call in ({"shard": "1/2"}, {}, {"shard": "0/2", "is_fresh": True}):
            with pytest.raises(PredictionError, match="another"):
                predict(**call)
    assert (tmp_path / "out/masks/night/1.png").exists()
    assert len(list(progress.glob("rows*"))) > 1, "a call that was refused has moved no row"


def test_shards_of_different_jobs_are_not_mixed(tmp_path: Path, predict: Callable[..., Done]) -> None:
    predict(shard="1/2")
    with (
        pytest.raises(PredictionError, match="weights_sha256"),
        open_record(tmp_path / "out", {"weights_sha256": "1" * 64}, is_fresh=False, shard=Shard(2, 2)),
    ):
        pass


@pytest.mark.parametrize("text", ["", "1", "3/2", "0/0", "-1/2", "1/2/3", "1/2\n", "a/b", "१/२"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be INDEX/COUNT"):
        Shard.parse(text)
