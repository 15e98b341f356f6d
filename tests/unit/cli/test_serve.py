"""`segpipe serve` before it serves."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from facts import missing

from segpipe.cli import main
from segpipe.cli.serve import BACKENDS
from segpipe.serving.backends import RUNTIMES, TORCH


def test_the_extra_is_named() -> None:
    code = "import sys; sys.modules['uvicorn'] = None; from segpipe.cli import main; sys.exit(main(['serve']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert not missing(done.stderr, "uvicorn", "`pip install 'segpipe[serve]'`")
    assert "Traceback" not in done.stderr


def test_other_machines_need_a_token_before_a_model_is_looked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SEGPIPE_SERVE_TOKEN", raising=False)
    assert main(["serve", "--host", "0.0.0.0", "--model", "nothing"]) == 1
    assert not missing(
        capsys.readouterr().err, "--host 0.0.0.0", 'export SEGPIPE_SERVE_TOKEN="$(openssl rand -hex 32)"'
    )


STOPPED_WHILE_IT_LOADS = """
import os, signal, sys, time
from segpipe.cli import main, serve

def run(options, access, limits, bound, workspace):
    (workspace / "export").mkdir()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(20)

serve._run = run
sys.exit(main(["serve", "--port", "0"]))
"""


def test_sigterm_while_it_loads_leaves_no_folder(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", STOPPED_WHILE_IT_LOADS], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (143, "")
    assert not list(tmp_path.iterdir())


def test_the_backends_are_those_of_the_service() -> None:
    assert set(BACKENDS) == {*RUNTIMES, TORCH}
