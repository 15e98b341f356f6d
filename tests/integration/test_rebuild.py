"""Versions made again from what MLflow, git and DVC hold of them."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
from facts import missing
from integration.project import EXPERIMENT, MODEL_NAME, Project, environment, read_picture
from PIL import Image

from segpipe.documents import InitialWeights, ModelDescription
from segpipe.errors import TrackingError
from segpipe.registry.addresses import as_before
from segpipe.registry.describing.provenance import open_record
from segpipe.registry.rebuilding.clone import bring_data, open_clone
from segpipe.registry.rebuilding.differences import Difference, Record
from segpipe.registry.rebuilding.rebuild import Rebuilt, rebuild
from segpipe.tracking.client import connect
from segpipe.tracking.lineage import RunLineage
from segpipe.tracking.run import Description, find_or_create_run

MASK = "masks/b_000.png"  # the only one of its size: no other file has its content, and so its hash


@pytest.fixture(autouse=True)
def _users_shell(finished: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command that rebuilds would find around it."""
    for name, value in environment(finished.root).items():
        monkeypatch.setenv(name, value)
    # A rebuild must send nothing to it.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{finished.root}/mlflow.db")


def record_of(project: Project, folder: Path) -> Record:
    """What is recorded of the newest run; of the version where it has one."""
    client = project.client()
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    run = client.search_runs(experiments, order_by=["attributes.start_time DESC"])[0]
    versions = client.search_model_versions(f"name = '{MODEL_NAME}' and run_id = '{run.info.run_id}'")
    folder.mkdir(exist_ok=True)
    lineage = Path(client.download_artifacts(run.info.run_id, "lineage", str(folder)))
    tags = versions[0].tags if versions else run.data.tags
    model = ModelDescription.read(project.root / "build/model/model.json", "")
    return Record(str(versions[0].version) if versions else "2", tags, lineage, model)


def rebuilt(project: Project, record: Record, keep: Path | None = None) -> Rebuilt:
    lines: list[str] = []
    result = rebuild(record, project.root, lines.append, keep)
    assert any(line.startswith("epoch 2/") for line in lines)
    return result


def refusal(project: Project, record: Record) -> str:
    with pytest.raises(TrackingError) as error:
        rebuild(record, project.root, lambda line: None)
    return str(error.value)


def commit(project: Project, message: str = "a change") -> None:
    project.call("git", "add", "--all")
    project.call("git", "commit", "--quiet", "--message", message)


def train_again(project: Project) -> None:
    project.change_params("train.epochs", 2)
    commit(project)
    project.stage("train")


def move_data_to_remote(project: Project) -> Path:
    """Does what the documentation tells a team to do; gives the remote, which the settings name by a relative path."""
    project.call("git", "rm", "-r", "--quiet", "--cached", "data", "data.dvc")
    (project.root / "data.dvc").unlink()
    project.call("dvc", "add", "--quiet", "data")
    project.call("dvc", "remote", "add", "--quiet", "--default", "team", "../remote")
    commit(project)
    project.call("dvc", "push", "--quiet", "data.dvc")
    return project.root.parent / "remote"


def forget_data(project: Project) -> None:
    """Leaves what another clone has: the pointer alone."""
    shutil.rmtree(project.root / "data")
    shutil.rmtree(project.root / ".dvc/cache")


def replace_in(store: Path, content: bytes, other: bytes) -> None:
    """Changes a file of a remote or a cache behind DVC's back."""
    (file,) = [path for path in store.rglob("*") if path.is_file() and path.read_bytes() == content]
    file.chmod(0o644)
    file.write_bytes(other)


def state_of(project: Project) -> dict[str, bytes]:
    """All that a user would miss or wonder at."""
    kept = (".dvc", "build", "checkpoints", "data", "mlruns", ".git/refs", ".git/worktrees")
    files = {name: content for folder in kept for name, content in project.files(folder).items()}
    for name in ("mlflow.db", "dvc.lock", "params.yaml", ".git/HEAD", ".git/index"):
        files[name] = (project.root / name).read_bytes()
    return files


def test_a_record_says_which_weights_the_registry_holds_now(finished: Project) -> None:
    def held() -> str | None:
        with as_before(), open_record(connect().get_model_version(MODEL_NAME, "1")) as record:
            assert record.model.weights_sha256 == model["weights_sha256"]
            return record.held_sha256

    model = finished.json("build/model/model.json")
    assert held() == model["weights_sha256"]
    (file,) = (finished.root / "mlruns").rglob("models/*/artifacts/**/weights.safetensors")
    file.write_bytes(b"others")
    assert held() == hashlib.sha256(b"others").hexdigest()
    file.unlink()
    assert held() is None


# The same again


def test_the_starter_s_version_comes_out_identical_and_nothing_here_is_changed(
    finished: Project, tmp_path: Path
) -> None:
    record = record_of(finished, tmp_path / "record")
    before = state_of(finished)
    result = rebuilt(finished, record)
    assert result == Rebuilt(
        version="1",
        is_identical=True,
        weights_sha256=record.model.weights_sha256,
        rebuilt_sha256=record.model.weights_sha256,
        differences=(),
        mean_iou=finished.json("build/evaluation/metrics.json")["val"]["mean_iou"],
        rebuilt_mean_iou=result.mean_iou,
        folder=None,
    )
    assert state_of(finished) == before


@pytest.mark.slow
def test_a_recipe_s_version_and_what_another_number_of_threads_does(finished: Project, tmp_path: Path) -> None:
    recipe = (finished.root / "params.yaml").read_text().replace("epochs: 12", "epochs: 2")
    (finished.root / "recipes").mkdir()
    (finished.root / "recipes/two.yaml").write_text(recipe.replace("num_threads: 1", "num_threads: 2", 1))
    finished.change_params("train.epochs", 2)
    commit(finished)
    shutil.copyfile(finished.root / "recipes/two.yaml", finished.root / "params.yaml")
    finished.stage("train")
    record = record_of(finished, tmp_path / "record")
    assert record.tags["segpipe.recipe"] == "two"

    result = rebuilt(finished, record, tmp_path / "kept")
    assert result.is_identical
    assert result.differences == ()
    assert result.folder == tmp_path / "kept"
    assert (tmp_path / "kept/build/model/weights.safetensors").is_file()

    # Had nobody noted the recipe, the commit's own parameters would be taken.
    tags = {name: value for name, value in record.tags.items() if name != "segpipe.recipe"}
    result = rebuilt(finished, dataclasses.replace(record, tags=tags))
    assert set(result.differences) == {
        Difference("params", "train.num_threads 2, here 1"),
        Difference("threads", "num_threads 2, here 1"),
    }


@pytest.mark.slow
def test_data_come_from_the_remote_and_else_from_the_cache(finished: Project, tmp_path: Path) -> None:
    remote = move_data_to_remote(finished)
    train_again(finished)
    record = record_of(finished, tmp_path / "record")
    shutil.rmtree(remote)
    before = state_of(finished)
    assert rebuilt(finished, record).is_identical
    assert state_of(finished) == before

    forget_data(finished)
    message = refusal(finished, record)
    assert not missing(message, "DVC", "data.dvc")
    assert not missing(message, "`dvc push`", "clone")


# Something has changed


@pytest.mark.slow
def test_one_other_pixel_in_the_remote_is_named(finished: Project, tmp_path: Path) -> None:
    remote = move_data_to_remote(finished)
    train_again(finished)
    record = record_of(finished, tmp_path / "record")
    mask = np.array(read_picture(finished.root / "data" / MASK))
    mask[0, 0] = 0
    Image.fromarray(mask).save(tmp_path / "other.png")
    replace_in(remote, (finished.root / "data" / MASK).read_bytes(), (tmp_path / "other.png").read_bytes())

    result = rebuilt(finished, record)  # although this clone's cache still has the right one

    assert not result.is_identical
    assert result.rebuilt_sha256 != result.weights_sha256
    data, *others = result.differences
    assert data.part == "data"
    assert data.what.startswith(f"data/{MASK}: another content (sha256 ")
    assert {difference.part for difference in others} == {"class weights"}


def test_one_broken_byte_in_the_remote_is_named_although_its_mask_cannot_be_read(
    finished: Project, tmp_path: Path
) -> None:
    remote = move_data_to_remote(finished)
    train_again(finished)
    record = record_of(finished, tmp_path / "record")
    content = (finished.root / "data" / MASK).read_bytes()
    middle = len(content) // 2
    replace_in(remote, content, content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    forget_data(finished)

    message = refusal(finished, record)

    assert message.startswith(
        "version 2 cannot be rebuilt: the stage preprocess ended with exit code 1; its last lines:\n"
    )
    told = message.partition("This differs from the original:\n")[2].splitlines()
    assert len(told) == 1
    assert told[0].startswith(f"  data: data/{MASK}: another content (sha256 ")


# What MLflow keeps


def test_a_run_that_the_store_took_without_its_lineage_gets_it_at_the_next_attempt(
    finished: Project, tmp_path: Path
) -> None:
    record = record_of(finished, tmp_path / "record")
    kept = {path.name: path.read_bytes() for path in record.lineage_folder.iterdir()}
    of_stages = {"params.yaml", "dvc.lock", "data.dvc", "source.json", "manifest.parquet", "report.json"}
    assert kept.keys() == {*of_stages, "lineage.json"}
    tags = RunLineage.parse(kept["lineage.json"], "lineage.json", "").to_tags()
    client = finished.client()
    (run,) = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])
    (lost,) = (finished.root / "mlruns").rglob("artifacts/lineage")
    for names, is_written in ((["params.yaml", "lineage.json"], True), ([], False)):
        for name in names:
            (lost / name).unlink()
        files = kept if is_written else dict.fromkeys(kept, b"later")
        description = Description(EXPERIMENT, "", {}, tags if is_written else {}, "dataset", "", files)
        assert find_or_create_run(client, description, run.data.tags["segpipe.attempt"], None) == run.info.run_id
        assert {path.name: path.read_bytes() for path in lost.iterdir()} == kept


# Refused


def test_a_version_of_uncommitted_changes_is_refused_and_its_patch_brings_it_back(
    finished: Project, tmp_path: Path
) -> None:
    head = finished.call("git", "rev-parse", "HEAD").strip()
    code = finished.root / "src/segpipe/training/optim.py"
    code.write_text(code.read_text() + "\n# tried out\n")
    (finished.root / "src/segpipe/losses/new.py").write_text("# tried out\n")
    finished.change_params("train.epochs", 1)
    finished.stage("train")
    record = record_of(finished, tmp_path / "record")

    message = refusal(finished, record)
    assert not missing(message, f"commit {head[:12]}", "not committed")
    assert not missing(message, "keeps", "lineage/uncommitted.patch")
    assert "commit, and train again" in message

    finished.call("git", "worktree", "add", "--quiet", "--detach", str(tmp_path / "again"), head)
    subprocess.run(
        ["git", "apply", str(record.lineage_folder / "uncommitted.patch")], cwd=tmp_path / "again", check=True
    )
    for file in (code, finished.root / "src/segpipe/losses/new.py", finished.root / "params.yaml"):
        assert (tmp_path / "again" / file.relative_to(finished.root)).read_bytes() == file.read_bytes()


def test_a_commit_that_only_the_origin_has_is_fetched_and_one_that_is_nowhere_is_refused(
    finished: Project, tmp_path: Path
) -> None:
    record = record_of(finished, tmp_path / "record")
    clone = tmp_path / "clone"
    finished.call("git", "clone", "--quiet", str(finished.root), str(clone))
    unknown_commit = dataclasses.replace(record, tags={**record.tags, "segpipe.git_commit": "0" * 39 + "1"})
    assert not missing(refusal(Project(clone), unknown_commit), "branch", "origin")

    (finished.root / "dvc.yaml").write_text("stages: {}\n")
    commit(finished)
    later = finished.call("git", "rev-parse", "HEAD").strip()
    unknown_here = dataclasses.replace(record, tags={**record.tags, "segpipe.git_commit": later})
    assert not missing(refusal(Project(clone), unknown_here), "dvc.yaml", "evaluate")


def test_a_commit_that_no_branch_and_no_tag_of_the_origin_holds_is_not_run(finished: Project, tmp_path: Path) -> None:
    record = record_of(finished, tmp_path / "record")
    clone = Project(tmp_path / "clone")
    finished.call("git", "clone", "--quiet", str(finished.root), str(clone.root))

    def commit_that_writes(project: Project, note: Path) -> str:
        code = f"import pathlib; pathlib.Path({str(note)!r}).touch()\n"
        (project.root / "src/segpipe/stages/download.py").write_text(code)
        commit(project)
        sha = project.call("git", "rev-parse", "HEAD").strip()
        project.call("git", "reset", "--quiet", "--hard", "HEAD~1")
        return sha

    pushed = commit_that_writes(finished, tmp_path / "pushed")
    finished.call("git", "update-ref", "refs/other/x", pushed)
    dangling = commit_that_writes(clone, tmp_path / "dangling")
    local = commit_that_writes(clone, tmp_path / "local")
    clone.call("git", "branch", "mine", local)  # which nobody else has seen
    clone.call("git", "fetch", "--quiet", "origin", "refs/other/x")
    for sha in (pushed, dangling, local):
        clone.call("git", "cat-file", "-e", sha)
        named = dataclasses.replace(record, tags={**record.tags, "segpipe.git_commit": sha})
        assert f"commit {sha[:12]}, and no branch or tag of its origin holds it" in refusal(clone, named)
    # Where there is no origin, this clone's own branches count.
    (message,) = {refusal(finished, dataclasses.replace(record, tags={**record.tags, "segpipe.git_commit": pushed}))}
    assert "no branch or tag of this clone holds it" in message
    assert not [name for name in ("pushed", "dangling", "local") if (tmp_path / name).exists()]


@pytest.mark.parametrize(
    ("source", "version"),
    [
        ("/etc/hostname", None),
        ("../outside.safetensors", None),
        ("weights/../../outside.safetensors", None),
        ("linked/outside.safetensors", None),
        (f"models:/{MODEL_NAME}/1", "1/../../x"),
    ],
)
@pytest.mark.parametrize("is_committed", [False, True], ids=["in model.json", "in the commit too"])
def test_the_first_weights_that_a_version_names_lead_nowhere_out(
    finished: Project, tmp_path: Path, source: str, version: str | None, is_committed: bool
) -> None:
    record = record_of(finished, tmp_path / "record")
    secret = b"not for everybody"
    initial = InitialWeights(source, version, hashlib.sha256(secret).hexdigest())
    model = dataclasses.replace(record.model, initial_weights=initial)
    (finished.root.parent / "outside.safetensors").write_bytes(secret)
    tags = dict(record.tags)
    if is_committed:
        (tmp_path / "elsewhere").mkdir()
        (finished.root / "linked").symlink_to(tmp_path / "elsewhere")
        finished.change_params("train.model.weights", source)
        commit(finished)
        tags["segpipe.git_commit"] = finished.call("git", "rev-parse", "HEAD").strip()
        (finished.root / "linked").unlink()
    (finished.root / "linked").mkdir()
    (finished.root / "linked/outside.safetensors").write_bytes(secret)
    (finished.root / "weights").mkdir()

    message = refusal(finished, dataclasses.replace(record, model=model, tags=tags))

    assert source in message
    assert "segpipe-rebuild" not in message
    places = [tmp_path / "elsewhere/outside.safetensors", Path(tempfile.gettempdir()) / "outside.safetensors"]
    assert not [path for path in places if path.exists()]


def test_only_the_owner_can_read_what_a_rebuild_keeps(finished: Project, tmp_path: Path) -> None:
    move_data_to_remote(finished)
    head = finished.call("git", "rev-parse", "HEAD").strip()
    secret = "['remote \"other\"']\n    url = ssh://host/data\n    password = secret\n"
    (finished.root / ".dvc/config.local").write_text(secret, encoding="utf-8")
    umask = os.umask(0o022)
    try:
        with open_clone(finished.root, head, tmp_path / "kept") as project:
            bring_data(finished.root, project, lambda line: None)
    finally:
        os.umask(umask)
    settings = tmp_path / "kept/.dvc/config.local"
    assert "password = secret" in settings.read_text(encoding="utf-8")
    assert settings.stat().st_mode & 0o777 == 0o600


def test_a_rebuild_that_is_ended_leaves_nothing(finished: Project, tmp_path: Path) -> None:
    record = record_of(finished, tmp_path / "record")
    (tmp_path / "temporary").mkdir()
    code = (
        "import pathlib\n"
        "from segpipe.documents import ModelDescription\n"
        "from segpipe.registry.rebuilding.differences import Record\n"
        "from segpipe.registry.rebuilding.rebuild import rebuild\n"
        f"record = Record('1', {dict(record.tags)!r}, pathlib.Path({str(record.lineage_folder)!r}), "
        "ModelDescription.read(pathlib.Path('build/model/model.json'), ''))\n"
        "rebuild(record, pathlib.Path(), lambda line: print(line, flush=True))\n"
    )
    project = dataclasses.replace(finished, variables={"TMPDIR": str(tmp_path / "temporary")})
    with project.start("python", "-c", code) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("epoch 1/"):
                break
        process.send_signal(signal.SIGTERM)
        process.stdout.read()  # its end comes with that of the last process that holds it
        assert process.wait(60) == 143
    assert not list((tmp_path / "temporary").glob("segpipe-rebuild-*"))
