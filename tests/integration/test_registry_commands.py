"""`segpipe registry` on a store of three versions: the first, a better one, and one that was refused.

A process takes seconds to start, so most commands run in this one; each kind of command is also typed in a real shell.
"""

import contextlib
import io
import json
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from facts import missing
from integration.challenger import fabricate_challenger
from integration.project import MODEL_NAME, NUM_FRAMES, Project, message_of_refusal, read_picture

from segpipe.cli import main
from segpipe.registry.lock import describe_self

NOBODY = "http://127.0.0.1:1"


@pytest.fixture(scope="module")
def three(original: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Three versions, the second of them champion: to look at, never to change."""
    project = original.copy_to(tmp_path_factory.mktemp("registry") / "project")
    project.change_params("register.block_length", 1)
    for share_right in (1.0, 0.3):
        fabricate_challenger(project, share_right)
        project.stage("register")
    yield project
    shutil.rmtree(project.root)
    mlflow.set_tracking_uri(None)


@pytest.fixture
def mine(three: Project, tmp_path: Path) -> Iterator[Project]:
    """A copy to change."""
    project = three.copy_to(tmp_path / "project")
    yield project
    shutil.rmtree(project.root)


def run(project: Project, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Runs a command in this process, as if it were typed in the project's folder."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.chdir(project.root))
        stack.enter_context(contextlib.redirect_stdout(stdout))
        stack.enter_context(contextlib.redirect_stderr(stderr))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # SQLAlchemy's, when MLflow's tables are first used
        # Absolute, because MLflow keeps a connection for each address.
        address = project.variables.get("MLFLOW_TRACKING_URI", f"sqlite:///{project.root}/mlflow.db")
        stack.enter_context(pytest.MonkeyPatch.context()).setenv("MLFLOW_TRACKING_URI", address)
        code = main(["registry", *arguments])
    return subprocess.CompletedProcess(arguments, code, stdout.getvalue(), stderr.getvalue())


def ask(project: Project, *arguments: str) -> Any:
    """What a command gives to programs."""
    done = run(project, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(project: Project, *arguments: str) -> str:
    return message_of_refusal(run(project, *arguments))


def type_in(project: Project, *arguments: str) -> str:
    """Runs a command that must succeed in a real shell; gives what it says."""
    return project.call("segpipe", "registry", *arguments)


def database(project: Project) -> bytes:
    return (project.root / "mlflow.db").read_bytes()


# Looking


def test_list(three: Project) -> None:
    before = database(three)
    head, *rows = type_in(three, "list").splitlines()
    assert head.split() == ["version", "created", "mIoU", "95%", "interval", "decision", "commit", "MB"]
    commit = three.call("git", "rev-parse", "HEAD")[:12]
    size_mb = (three.root / "build/model/weights.safetensors").stat().st_size / 1e6
    assert [row.split()[0] for row in rows] == ["3", "2", "1"]
    assert [row.split()[-1] == "champion" for row in rows] == [False, True, False]
    assert "not promoted" in rows[0]
    assert f"1.0000  -             promoted      {commit}+changes" in rows[1]  # params.yaml is not committed
    assert f"{size_mb:.2f}" in rows[2]

    document = ask(three, "list")
    assert (document["model_name"], document["champion"], document["is_pinned"]) == (MODEL_NAME, "2", False)
    assert document["warnings"] == []
    assert [version["is_champion"] for version in document["versions"]] == [False, True, False]
    assert document["versions"][2]["mean_iou"] == pytest.approx(0.62, abs=0.3)
    assert document["versions"][2]["size_mb"] == size_mb
    assert database(three) == before


def test_show(three: Project) -> None:
    lines = type_in(three, "show", "champion").splitlines()
    assert lines[0] == f"{MODEL_NAME} version 2, the champion: promoted"
    assert lines[1].startswith("Better beyond chance: validation mIoU 1.0000 against ")
    scores = lines[next(number for number, line in enumerate(lines) if line.startswith("IoU ")) :]
    assert scores[0].split() == ["IoU", "validation", "test"]
    mean_iou, box = scores[1], scores[5]
    assert mean_iou.split()[:2] == ["mIoU", "1.0000"]
    assert box.split()[:2] == ["box", "1.0000"]
    names = {line.partition(" ")[0] for line in lines}
    assert "train.learning_rate" in names
    of_first = ask(three, "show", "1")
    assert of_first["test"].keys() >= {"mean_iou", "iou_box", "pixel_accuracy"}
    assert of_first["params"]["train.learning_rate"] == "0.03"
    assert 0 < of_first["test"]["mean_iou"] <= 1
    (folded,) = [line for line in lines if "--all" in line]
    more = {line.partition(" ")[0] for line in run(three, "show", "champion", "--all").stdout.splitlines()} - names
    assert len(more) == int(folded.split()[0])
    assert "segpipe.environment.numpy" in more
    assert any(line.startswith("segpipe.environment.torch ") for line in lines)
    assert any("version 2 promoted  (champion 1 -> 2)" in line for line in lines)

    document = ask(three, "show", "v3")
    assert (document["version"], document["decision"], document["is_champion"]) == ("3", "not promoted", False)
    assert document["reasons"][0].startswith("Not better beyond chance: ")
    assert document["iou"].keys() == {"ground", "sky", "box"}
    (entry,) = document["ledger"]
    assert (entry["number"], entry["action"], entry["version"]) == (3, "not promoted", "3")
    assert (entry["champion_before"], entry["champion_after"]) == ("2", "2")
    assert entry["reasons"] == document["reasons"]
    assert document["tags"]["segpipe.git_dirty"] == "true"


def test_compare(three: Project) -> None:
    document = json.loads(type_in(three, "compare", "1", "champion", "--json"))
    page = three.root / "pages/compare-1-2"
    assert json.loads((page / "comparison.json").read_text(encoding="utf-8")) == document
    one, two = document["versions"]
    assert [(one["version"], one["is_champion"]), (two["version"], two["is_champion"])] == [("1", False), ("2", True)]
    assert two["mean_iou"] == document["mean_iou"]["second"] == 1.0
    assert document["mean_iou"]["difference"] == pytest.approx(1 - one["mean_iou"])
    assert document["mean_iou"]["low"] > 0
    assert document["set"]["num_images"] == document["set"]["num_units"] == NUM_FRAMES
    assert document["set"]["kind"] == "block"
    assert [row["name"] for row in document["classes"]] == ["ground", "sky", "box"]
    for version in (one, two):
        assert 0 < version["latency_low_ms"] <= version["latency_ms"] <= version["latency_high_ms"]
    assert one["num_parameters"] == two["num_parameters"] > 1_000
    assert document["notes"] == document["params"] == document["environment"] == []
    commits = three.call("git", "rev-parse", "HEAD~1", "HEAD").split()
    assert document["data"] == [{"name": "code (git commit)", "first": commits[0], "second": commits[1]}]

    # Pictures of the images that differ most, the most different first: image, truth and both predictions.
    differences = [picture["second"] - picture["first"] for picture in document["pictures"]]
    assert len(differences) == NUM_FRAMES
    assert differences == sorted(differences, reverse=True)
    html = (page / "index.html").read_text(encoding="utf-8")
    for picture in document["pictures"]:
        assert read_picture(page / picture["file"]).size == (4 * 64, 48)
        assert f'href="{picture["file"]}"' in html
        assert picture["group"] == "c"
    assert not missing(html, "Version 2", "better", "version 1")


def test_compare_says_what_it_does_on_standard_error(three: Project, tmp_path: Path) -> None:
    done = three.run("segpipe", "registry", "compare", "1", "2", "--output", str(tmp_path / "page"), "--json")
    json.loads(done.stdout)
    assert not missing(done.stderr, "reading the scores of versions 1 and 2", "timing", "drawing")


def test_compare_without_the_images(mine: Project) -> None:
    shutil.rmtree(mine.root / "build/dataset")
    lines = run(mine, "compare", "2", "3", "--output", "here").stdout.splitlines()
    assert lines[0].split() == ["IoU", "version", "2", "version", "3", "difference", "95%", "interval"]
    assert lines[1].split()[:2] == ["mIoU", "1.0000"]
    assert lines[1].split()[3].startswith("-0.")
    assert [line.split()[0] for line in lines[2:5]] == ["ground", "sky", "box"]
    assert lines[5].startswith("3 images in 3 blocks; version 3 is better with probability 0.0")
    assert any(not missing(line, "build/dataset", "speed", "pictures") for line in lines)
    assert lines[-1] == "Page: here/index.html"
    assert {path.name for path in (mine.root / "here").iterdir()} == {"index.html", "comparison.json"}


def test_lineage(three: Project, tmp_path: Path) -> None:
    document = json.loads(type_in(three, "lineage", "3", "--output", str(tmp_path / "page"), "--json"))
    assert json.loads((tmp_path / "page/lineage.json").read_text(encoding="utf-8")) == document
    assert (document["version"], document["is_champion"]) == ("3", False)
    assert document["source"]["licence"] == "painted for a test"
    assert document["source"]["num_files"] == 2 * len(list((three.root / "data/images").iterdir())) + 1
    assert {"data", "build/dataset", "build/raw"} <= document["data"].keys()
    assert document["dataset_digest"] == three.json("build/dataset/dataset.json")["digest"]
    assert [split["split"] for split in document["splits"]] == ["train", "val", "test"]
    assert document["class_weights"].keys() == {"ground", "sky", "box"}
    assert document["params"]["learning_rate"] == 0.03
    assert document["code"]["commit"] == three.call("git", "rev-parse", "HEAD").strip()
    assert document["code"]["patch"] == "lineage/uncommitted.patch"
    assert document["run"]["status"] == "FINISHED"
    assert document["evaluation"]["splits"].keys() == {"val", "test"}
    assert document["decision"]["decision"] == "not promoted"
    assert document["decision"]["by"] == describe_self()
    assert [earlier["version"] for earlier in document["predecessors"]] == ["2", "1"]

    # Another page takes the place of a page, and of nothing else.
    assert run(three, "lineage", "champion", "--output", str(tmp_path / "page")).stdout.startswith("Page: ")
    html = (tmp_path / "page/index.html").read_text(encoding="utf-8")
    assert "version 2" in html
    assert "painted for a test" in html
    (tmp_path / "site").mkdir()
    (tmp_path / "site/index.html").write_text("of somebody else", encoding="utf-8")
    message = refused(three, "lineage", "champion", "--output", str(tmp_path / "site"))
    assert not missing(message, str(tmp_path / "site"), "exists", "files of your own", "another folder by --output")
    assert (tmp_path / "site/index.html").read_text(encoding="utf-8") == "of somebody else"


# Changing


def test_promote_rollback_pin_and_unpin(mine: Project) -> None:
    promoted = json.loads(type_in(mine, "promote", "3", "--why", "  Sees bicycles. ", "--json"))
    assert (promoted["action"], promoted["version"], promoted["reasons"]) == ("promoted", "3", ["Sees bicycles."])
    assert (promoted["champion_before"], promoted["champion_after"], promoted["is_pinned"]) == ("2", "3", False)
    # What the gate had said of it no longer holds.
    assert ask(mine, "show", "3")["decision"] == "promoted"

    text = run(mine, "rollback", "--why", "It does not.").stdout
    assert not missing(text, MODEL_NAME, "version 2", "pinned", "`segpipe registry unpin`")
    # What was wrong with version 3 is no reason for version 2, and 3 did not come before it.
    assert ask(mine, "show", "champion")["reasons"][0].startswith("Better beyond chance: ")
    document = ask(mine, "lineage", "champion")
    assert (document["decision"]["decision"], document["decision"]["evidence"]["num_units"]) == ("promoted", NUM_FRAMES)
    assert [earlier["version"] for earlier in document["predecessors"]] == ["1"]
    listed = run(mine, "list").stdout.splitlines()
    assert [line.endswith("pinned champion") for line in listed[1:]] == [False, True, False]

    assert ask(mine, "rollback")["champion_after"] == "1"
    unpinned = ask(mine, "unpin")
    assert (unpinned["action"], unpinned["is_pinned"], unpinned["champion_after"]) == ("unpinned", False, "1")
    assert "has no pinned champion" in refused(mine, "unpin")
    assert not missing(refused(mine, "pin", "3"), "version 3", "champion", "1")
    assert ask(mine, "pin", "champion", "--why", "Stays.")["is_pinned"]

    document = json.loads(type_in(mine, "history", "--json"))
    assert [entry["action"] for entry in document["entries"]] == [
        "promoted", "promoted", "not promoted", "promoted", "rolled back", "rolled back", "unpinned", "pinned",
    ]  # fmt: skip
    assert document["head"] == document["entries"][-1]["digest"]
    assert [entry["previous"] for entry in document["entries"][1:]] == [e["digest"] for e in document["entries"][:-1]]
    assert (document["problems"], document["outside_change"]) == ([], None)
    champion = mine.client().get_model_version_by_alias(MODEL_NAME, "champion")
    assert str(champion.version) == "1"


def test_what_was_changed_behind_the_ledgers_back_is_shown(mine: Project) -> None:
    client = mine.client()
    client.set_registered_model_alias(MODEL_NAME, "champion", "3")
    outside = "the alias champion was moved outside segpipe, from version 2 to 3"
    assert f"warning: {outside}" in run(mine, "history").stdout.splitlines()
    assert ask(mine, "list")["warnings"] == [outside]

    ledger = f"{MODEL_NAME}.ledger"
    text = client.get_model_version(ledger, "2").tags["segpipe.entry"]
    client.set_model_version_tag(ledger, "2", "segpipe.entry", text.replace("1.0000", "0.9000"))
    done = mine.run("segpipe", "registry", "history")
    message = message_of_refusal(done)
    assert not missing(message, "changed", "written", "entry 2")
    assert "is whole" not in done.stdout
    assert "version 2 promoted" in done.stdout
    shown = run(mine, "show", "2").stdout.splitlines()
    assert any(not missing(line, "warning", "entry 2", "changed") for line in shown)


# Refusals


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("show", "7"), ("'boxes'", "'7'", "3, 2, 1", "'champion'")),
        (("show", "latest"), ("'boxes'", "'latest'")),
        (("compare", "1", "99999999999999999999999"), ("'boxes'", "'99999999999999999999999'")),
        (("promote", "4", "--why", "x"), ("'boxes'", "'4'")),
        (("promote", "2", "--why", "x"), ("version 2", "champion", "already")),
    ],
    ids=lambda value: " ".join(value[:3]),
)
def test_an_unknown_version_is_named_and_nothing_is_changed(
    three: Project, arguments: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    before = ask(three, "history"), ask(three, "list")
    assert not missing(refused(three, *arguments), *expected)
    assert (ask(three, "history"), ask(three, "list")) == before


@pytest.mark.parametrize("arguments", [("promote", "3"), ("promote", "3", "--why", " "), ("rollback", "--why", "")])
def test_a_reason_must_be_given(three: Project, arguments: tuple[str, ...]) -> None:
    before = database(three)
    done = three.run("segpipe", "registry", *arguments)
    assert done.returncode == 1
    assert "--why" in done.stderr
    assert database(three) == before


def test_without_any_version(sources: Project) -> None:
    for arguments in (("list",), ("show", "1")):
        assert not missing(refused(sources, *arguments), "version", "'boxes'", "`dvc repro`")
    assert not missing(refused(sources, "show", "champion"), "champion", "'boxes'", "`dvc repro`")
    assert "had no earlier champion" in refused(sources, "rollback")
    assert ask(sources, "list")["versions"] == ask(sources, "history")["entries"] == []
    assert sources.client().search_registered_models() == []


@pytest.mark.parametrize(
    "arguments",
    [("list",), ("show", "champion"), ("compare", "1", "2"), ("promote", "1", "--why", "x"), ("history",)],
    ids=lambda arguments: arguments[0],
)
def test_a_server_that_is_down_is_named(three: Project, arguments: tuple[str, ...]) -> None:
    message = refused(Project(three.root, {"MLFLOW_TRACKING_URI": NOBODY}), *arguments)
    assert not missing(message, NOBODY, "MLFLOW_TRACKING_URI", "mlflow.db")


def test_a_store_that_can_only_be_read_is_read_and_never_changed(three: Project) -> None:
    store = f"sqlite:///file:{three.root}/mlflow.db?mode=ro&uri=true"
    reader = Project(three.root, {"MLFLOW_TRACKING_URI": store})
    before = database(three)
    assert ask(reader, "list") == ask(three, "list")
    assert ask(reader, "show", "champion") == ask(three, "show", "champion")
    assert ask(reader, "history") == ask(three, "history")
    done = reader.run("segpipe", "registry", "promote", "3", "--why", "x")
    assert not missing(message_of_refusal(done), "the registry: MLflow refused", "this user", "nothing was changed")
    assert database(three) == before
