"""What a stage's `meta` in `dvc.yaml` says, and how it is refused."""

from pathlib import Path

import pytest

import pipelines
from pipelines.errors import PipelineError
from pipelines.graph import POOLS, Stage, ancestors_of, read_stages

ROOT = Path(pipelines.__file__).parents[1]
GOOD = """\
stages:
  second: {cmd: "true", meta: {pool: gpu, retries: 2, timeout_hours: 72}}
  first: {cmd: "true", meta: {pool: cpu}}
"""


def write_graph(root: Path, text: str) -> Path:
    (root / "dvc.yaml").write_text(text, encoding="utf-8")
    return root


def test_meta_is_read_and_what_it_leaves_out_has_a_default(tmp_path: Path) -> None:
    stages = read_stages(write_graph(tmp_path, GOOD))
    assert stages["second"] == Stage("second", pool="gpu", retries=2, timeout_hours=72)
    assert stages["first"] == Stage("first", pool="cpu", retries=0, timeout_hours=24.0)


def test_the_order_is_that_of_the_file(tmp_path: Path) -> None:
    assert list(read_stages(write_graph(tmp_path, GOOD))) == ["second", "first"]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (GOOD.replace("pool: cpu", "pool: tpu"), "unknown pools: first: 'tpu'; known are cpu, gpu"),
        (GOOD.replace("retries", "retry"), "'retry'; a stage's meta holds pool, retries and timeout_hours"),
        (GOOD.replace(", meta: {pool: cpu}", ""), "'pool'; a stage's meta holds pool, retries and timeout_hours"),
        (GOOD.replace("{pool: cpu}", "cpu"), "a stage's meta holds pool"),
        ("stages: {first: ", "a stage's meta holds pool"),
        ("vars: []\n", "'stages'"),
        ("", "a stage's meta holds pool"),
    ],
    ids=["pool", "key", "no meta", "no mapping", "broken", "no stages", "empty"],
)
def test_a_graph_that_cannot_be_placed_is_refused_by_the_name_of_its_file(tmp_path: Path, text: str, part: str) -> None:
    with pytest.raises(PipelineError) as caught:
        read_stages(write_graph(tmp_path, text))
    assert str(caught.value).startswith(f"{tmp_path / 'dvc.yaml'}: ")
    assert part in str(caught.value)


def test_all_unknown_pools_are_named_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("pool: cpu", "pool: tpu").replace("pool: gpu", "pool: npu")
    with pytest.raises(PipelineError, match=r"second: 'npu', first: 'tpu'"):
        read_stages(write_graph(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=str(tmp_path / "dvc.yaml")):
        read_stages(tmp_path)


def test_every_stage_has_a_known_pool() -> None:
    stages = read_stages(ROOT)
    assert list(stages) == ["download", "preprocess", "class_weights", "train", "evaluate", "register"]
    assert {stage.pool for stage in stages.values()} == set(POOLS)
    assert stages["train"].pool == "gpu"


BRANCHED = """\
stages:
  fetch: {cmd: "true", meta: {pool: cpu}, deps: [data], outs: [build/raw]}
  left: {cmd: "true", meta: {pool: cpu}, deps: [build/raw/images], outs: [build/left: {cache: false}]}
  right: {cmd: "true", meta: {pool: cpu}, deps: [build/raw], outs: [build/right.json]}
  join: {cmd: "true", meta: {pool: gpu}, deps: [build/left, build/right.json, src], outs: [build/all]}
  lookalike: {cmd: "true", meta: {pool: cpu}, deps: [build/rawer], metrics: [m.json]}
"""


def test_a_stage_waits_for_those_whose_outs_it_reads(tmp_path: Path) -> None:
    stages = read_stages(write_graph(tmp_path, BRANCHED))
    assert {name: stage.after for name, stage in stages.items()} == {
        "fetch": (),
        "left": ("fetch",),
        "right": ("fetch",),
        "join": ("left", "right"),
        "lookalike": (),
    }
    assert ancestors_of(stages, "join") == {"fetch", "left", "right"}
    assert ancestors_of(stages, "fetch") == set()


def test_the_edges_of_this_repository() -> None:
    assert {name: stage.after for name, stage in read_stages(ROOT).items()} == {
        "download": (),
        "preprocess": ("download",),
        "class_weights": ("preprocess",),
        "train": ("preprocess", "class_weights"),
        "evaluate": ("preprocess", "train"),
        "register": ("preprocess", "train", "evaluate"),
    }
