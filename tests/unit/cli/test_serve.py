"""`segpipe serve` before it serves."""

import subprocess
import sys

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


def test_the_backends_are_those_of_the_service() -> None:
    assert set(BACKENDS) == {*RUNTIMES, TORCH}
