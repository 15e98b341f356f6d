"""The inputs of a run: one for each split, and what is left of them where nothing is known of the data."""

import json
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from segpipe.tracking.datasets import describe_inputs, find_datasets, split_digest
from segpipe.tracking.run import standard_tags

DIGEST = "0123456789abcdef" * 2
CLASSES = {"names": ["ground", "box"], "colors": [[1, 2, 3], [4, 5, 6]]}
BROUGHT = {"format": "folder", "licence": "free", "classes": CLASSES}
FILES = {
    "source.json": json.dumps({"name": "streets", **BROUGHT, "sources": {"streets": BROUGHT}, "sha256": {}}).encode(),
    "report.json": json.dumps(
        {
            "splits": [
                {"split": "train", "num_samples": 5, "groups": ["a", "b"], "shares": {"ground": 0.75, "box": 0.25}},
                {"split": "val", "num_samples": 2, "groups": ["c"], "shares": {"ground": 1.0, "box": 0.0}},
            ],
            "warnings": [],
        }
    ).encode(),
}


def test_each_split_is_an_input_with_name_schema_and_profile() -> None:
    inputs = describe_inputs("dataset", DIGEST, 3, {"segpipe.dvc.data": "abc"}, FILES)
    assert find_datasets(inputs) == {
        "train": ("streets", "0123456789abcdef-train"),
        "val": ("streets", "0123456789abcdef-val"),
    }
    profile = json.loads(inputs[1].dataset.profile)
    assert profile == {
        "num_samples": 2,
        "num_groups": 1,
        "licence": "free",
        "share_of_labelled_pixels": {"ground": 1.0, "box": 0.0},
    }
    schema = json.loads(inputs[0].dataset.schema)["mlflow_tensorspec"]
    shapes = [json.loads(schema[part])[0]["tensor-spec"]["shape"] for part in ("features", "targets")]
    assert shapes == [[-1, -1, -1, 3], [-1, -1, -1]]


def test_sources_that_were_joined_are_all_named() -> None:
    joined = {"name": "streets", **BROUGHT, "sources": {"streets": BROUGHT, "fog": BROUGHT}, "sha256": {}}
    inputs = describe_inputs("dataset", DIGEST, 3, {}, {**FILES, "source.json": json.dumps(joined).encode()})
    assert {one.dataset.name for one in inputs} == {"streets + fog"}


@pytest.mark.parametrize("files", [{}, {"source.json": b"{", "report.json": b"[]"}])
def test_where_nothing_is_known_the_data_set_is_one_input(files: dict[str, bytes]) -> None:
    (one,) = describe_inputs("dataset", DIGEST, 3, {}, files)
    assert (one.dataset.name, one.dataset.digest) == ("dataset", DIGEST)
    assert find_datasets([one]) == {"training": ("dataset", DIGEST)}


def test_mlflow_takes_the_inputs(client: MlflowClient) -> None:
    run_id = client.create_run("0").info.run_id
    client.log_inputs(run_id, describe_inputs("dataset", DIGEST, 1, {}, FILES))
    found = find_datasets(client.get_run(run_id).inputs.dataset_inputs)
    assert found["val"] == ("streets", split_digest(DIGEST, "val"))


def test_the_standard_tags_name_a_file_of_the_project_and_its_commit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "src/train.py"
    program.parent.mkdir()
    program.touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [str(program)])
    tags = standard_tags({"segpipe.git_commit": "c0ffee"})
    assert tags["mlflow.source.name"] == "src/train.py"
    assert tags["mlflow.source.git.commit"] == "c0ffee"
    assert tags["mlflow.source.type"] == "LOCAL"
    assert tags["mlflow.user"]
    assert not [name for name in tags if "repo" in name.lower()], "an origin's address may hold a password"
    assert "mlflow.source.git.commit" not in standard_tags({})
