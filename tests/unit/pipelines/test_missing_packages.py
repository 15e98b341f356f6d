"""Without the packages of the extra `orchestration` the pipelines say what to install."""

import subprocess
import sys

import pytest
from facts import missing


@pytest.mark.parametrize("module", ["pipelines.services", "pipelines.deploy", "pipelines.flows"])
def test_the_extra_is_named(module: str) -> None:
    code = f"import sys; sys.modules['prefect'] = None; import {module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert not missing(done.stderr, "prefect", "`pip install 'segpipe[orchestration]'`")
    assert "Traceback" not in done.stderr
