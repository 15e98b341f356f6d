"""DVC's record of running commands: a damaged one stops DVC for ever, and `segpipe unlock` removes it, safely."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from facts import missing
from integration.project import Project, message_of_refusal

RECORD = ".dvc/tmp/rwlock"
GRAPH = """\
stages:
  copy:
    cmd: cp given taken
    deps: [given]
    outs: [taken]
  wait:
    cmd: touch started && sleep 60
    outs: [never]
"""
HOLD = """\
import sys
from dvc.lock import make_lock
with make_lock(".dvc/tmp/lock", tmp_dir=".dvc/tmp", hardlink_lock={}):
    print("held", flush=True)
    sys.stdin.read()
"""
ENTRY = {"write": {"/somewhere/taken": {"pid": 0, "cmd": "dvc repro"}}, "read": {}}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A repository with a graph that needs nothing of segpipe."""
    project = Project(tmp_path, {"PYTHONPATH": str(Path(__file__).parents[2] / "src")})
    project.call("git", "init", "--quiet")
    project.call("dvc", "init", "--quiet")
    (tmp_path / "dvc.yaml").write_text(GRAPH, encoding="utf-8")
    (tmp_path / "given").write_text("1", encoding="utf-8")
    project.call("dvc", "repro", "--quiet", "copy")
    return project


def spoil(project: Project, content: str) -> Path:
    record = project.root / RECORD
    record.write_text(content, encoding="utf-8")
    return record


def test_a_damaged_record_stops_dvc_until_it_is_unlocked(project: Project) -> None:
    record, whole = project.root / RECORD, (project.root / RECORD).read_text(encoding="utf-8")
    for content, problem in (("", "is empty"), ('{"read": {"/a": [{"pi', "is damaged"), ('["foreign"]', "is damaged")):
        spoil(project, content)
        done = project.run("dvc", "repro", "copy")
        assert done.returncode != 0
        assert "rwlock" in done.stderr
        assert problem in project.call("segpipe", "unlock")
        assert not record.exists()
    project.call("dvc", "repro", "copy")
    assert record.read_text(encoding="utf-8") == whole
    assert project.call("segpipe", "unlock", "--quiet") == ""
    assert "is not damaged" in project.call("segpipe", "unlock")
    (project.root / ".dvc/tmp/exps").mkdir(exist_ok=True)
    (project.root / ".dvc/tmp/exps/rwlock").write_text("", encoding="utf-8")
    assert ".dvc/tmp/exps/rwlock is empty: removed" in project.call("segpipe", "unlock")


@contextmanager
def running(project: Project, *command: str) -> Iterator["subprocess.Popen[str]"]:
    with project.start(*command, stdin=subprocess.PIPE, start_new_session=True) as process:
        try:
            yield process
        finally:
            os.killpg(process.pid, 9)


@pytest.mark.parametrize("use_hardlinks", [False, True])
def test_a_held_lock_is_left_alone(project: Project, use_hardlinks: bool) -> None:
    if use_hardlinks:
        project.call("dvc", "config", "core.hardlink_lock", "true")
        (project.root / ".dvc/tmp/lock").unlink()
    record = spoil(project, "")
    with running(project, "python", "-c", HOLD.format(use_hardlinks)) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert not missing(message_of_refusal(project.run("segpipe", "unlock")), "lock", ".dvc/tmp/lock")
        assert record.exists()
    if not use_hardlinks:  # whose lock outlives its holder
        project.call("segpipe", "unlock")
        assert not record.exists()


def test_a_running_stage_is_left_alone(project: Project) -> None:
    with running(project, "dvc", "repro", "wait") as process:
        while not (project.root / "started").exists():
            assert process.poll() is None
        record = spoil(project, "")
        message = message_of_refusal(project.run("segpipe", "unlock"))
        assert f"process {process.pid} (" in message
        assert record.exists()
    project.call("segpipe", "unlock")
    assert not record.exists()


def test_a_whole_record_stays_while_its_process_lives(project: Project) -> None:
    with running(project, "sleep", "60") as process:
        document = json.loads(json.dumps(ENTRY).replace('"pid": 0', f'"pid": {process.pid}'))
        record = spoil(project, json.dumps(document))
        assert "is not damaged" in project.call("segpipe", "unlock")
        assert json.loads(record.read_text(encoding="utf-8")) == document
        os.utime(record, (1, 1))  # written before that process began: the number was another's then
        assert not missing(project.call("segpipe", "unlock"), "processes", "ended")
        spoil(project, json.dumps(document))
    assert not missing(project.call("segpipe", "unlock"), "processes", "ended")
