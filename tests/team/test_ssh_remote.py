"""A DVC remote by ssh, on Debian's own sshd: what one clone has computed, another takes and computes nothing."""

import getpass
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from daemons import find_free_ports, listens, running
from facts import missing
from integration.project import REPOSITORY, Project, environment

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
CONFIG = """\
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PidFile none
Subsystem sftp internal-sftp
"""
# The shell of a worker that may run no stage.
TAKE_ONLY = {"SHELL": str(REPOSITORY / "pipelines/only_stage.sh"), "SEGPIPE_STAGE": ""}

pytestmark = [
    pytest.mark.team,
    pytest.mark.skipif(
        SSHD is None or shutil.which("ssh-keygen") is None, reason="no sshd here: apt-get install openssh-server"
    ),
]


@dataclass(frozen=True)
class Storage:
    """A machine that takes DVC's files: its sshd's port, a folder there, and a key that it lets in."""

    port: int
    folder: Path
    key: Path


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    assert SSHD is not None
    folder = tmp_path_factory.mktemp("sshd")
    (port,) = find_free_ports(1)
    for name in ("host_key", "key", "strangers_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    (folder / "config").write_text(CONFIG.format(port=port, folder=folder), encoding="utf-8")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # as root, sshd insists on it; Debian's service makes it
    command = [SSHD, "-D", "-e", "-f", str(folder / "config")]
    with running(command, environment(folder), folder / "log") as sshd:
        sshd.wait_until(lambda: listens(port))
        yield Storage(port, folder / "storage", folder / "key")


def set_remote(project: Project, storage: Storage, key: Path) -> None:
    """As docs and notes say: the address for everybody in `.dvc/config`, the credentials in `.dvc/config.local`."""
    project.call("dvc", "remote", "add", "--default", "team", f"ssh://127.0.0.1:{storage.port}{storage.folder}")
    set_credentials(project, key)


def set_credentials(project: Project, key: Path) -> None:
    for option, value in (("user", getpass.getuser()), ("keyfile", str(key)), ("allow_agent", "false")):
        project.call("dvc", "remote", "modify", "--local", "team", option, value)


def clone(project: Project, root: Path) -> Project:
    """A fresh clone that shares no cache and does not even know the results' hashes."""
    project.call("git", "clone", "--quiet", str(project.root), str(root))
    (root / "dvc.lock").unlink()
    return Project(root, project.variables)


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """No key, agent, configuration or known host of whoever runs the test."""
    (tmp_path / "home").mkdir()
    return {"HOME": str(tmp_path / "home"), "SSH_AUTH_SOCK": ""}


def test_a_fresh_clone_takes_everything_and_runs_no_stage(
    finished: Project, storage: Storage, home: dict[str, str], tmp_path: Path
) -> None:
    author = Project(finished.root, home)
    set_remote(author, storage, storage.key)
    author.call("git", "commit", "--quiet", "--message", "A remote for the team", ".dvc/config")
    fresh = clone(author, tmp_path / "fresh")
    set_credentials(fresh, storage.key)
    worker = Project(fresh.root, {**home, **TAKE_ONLY})

    # Nothing was pushed yet: the worker's shell lets DVC run no stage.
    refused = worker.run("dvc", "repro", "--pull")
    assert refused.returncode != 0
    assert not missing(refused.stdout + refused.stderr, "run", "download")
    assert not (worker.root / "dvc.lock").exists()

    author.call("dvc", "push", "--run-cache")
    assert any(storage.folder.rglob("*.dir"))
    worker.call("dvc", "repro", "--pull")

    assert (worker.root / "dvc.lock").read_bytes() == (author.root / "dvc.lock").read_bytes()
    assert worker.files("build") == author.files("build")
    assert not (worker.root / "checkpoints").exists()  # what a training would have left
    assert "up to date" in worker.call("dvc", "status")


def test_a_key_that_is_not_let_in_is_a_message(
    finished: Project, storage: Storage, home: dict[str, str], tmp_path: Path
) -> None:
    author = Project(finished.root, home)
    set_remote(author, storage, storage.key.with_name("strangers_key"))
    author.call("git", "commit", "--quiet", "--message", "A remote for the team", ".dvc/config")
    fresh = clone(author, tmp_path / "fresh")
    set_credentials(fresh, storage.key.with_name("strangers_key"))

    # Taking must fail too, not go on as if the remote were empty: a retraining would compute everything again.
    pushed = author.run("dvc", "push", "--run-cache")
    taken = Project(fresh.root, {**home, **TAKE_ONLY}).run("dvc", "repro", "--pull")
    for done in (pushed, taken):
        assert done.returncode > 0
        assert f"Permission denied for user {getpass.getuser()} on host 127.0.0.1" in done.stderr
        assert "Traceback" not in done.stderr
        assert "would have to run" not in done.stdout + done.stderr
