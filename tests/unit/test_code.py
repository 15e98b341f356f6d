"""The digest of what code does: what changes it, and what does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from segpipe import code
from segpipe.code import PACKAGE, decides, digest_of_code

TEXT = '''"""A module."""

def add(a, b):
    """Adds."""
    return a + b
'''


@pytest.fixture
def digest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Gives the digest of a package of one file with a text."""
    monkeypatch.setattr(code, "PACKAGE", tmp_path)

    def of(text: str, name: str = "file.py") -> str:
        code._meaning.cache_clear()
        (tmp_path / name).write_text(text, encoding="utf-8")
        return digest_of_code([tmp_path / name])

    return of


@pytest.mark.parametrize(
    "same",
    [
        TEXT.replace('"""Adds."""', '"""Gives the sum."""'),
        TEXT.replace('    """Adds."""\n', ""),
        TEXT.replace('"""A module."""\n', ""),
        TEXT + "\n# a comment\n",
        TEXT.replace("return a + b", "return (\n        a + b  # why\n    )"),
    ],
)
def test_comments_and_docstrings_change_nothing(digest, same: str) -> None:
    assert same != TEXT
    assert digest(same) == digest(TEXT)


@pytest.mark.parametrize(
    "other",
    [
        TEXT.replace("a + b", "b + a"),
        TEXT.replace("(a, b)", "(a, b=1)"),
        TEXT + 'NAME = "value"\n',
        TEXT.replace("    return", '    "not a docstring"\n    return'),
    ],
)
def test_code_changes_it(digest, other: str) -> None:
    assert digest(other) != digest(TEXT)


def test_a_string_that_is_used_is_no_docstring(digest) -> None:
    assert digest('NAME = "a"\n') != digest('NAME = "b"\n')


def test_the_place_counts_and_the_order_does_not(digest) -> None:
    assert digest(TEXT, "other.py") != digest(TEXT)
    pair = [code.PACKAGE / "file.py", code.PACKAGE / "other.py"]
    assert digest_of_code(pair) == digest_of_code(pair[::-1])


def test_which_files_decide(tmp_path: Path) -> None:
    deciding = ["classes.py", "data/store.py", "training/loop.py", "stages/train.py", "models/unet.py"]
    assert all(decides(PACKAGE / file) for file in deciding)
    other = ["errors.py", "config/train.py", "tracking/run.py", "reports/page.py", "stages/stage.py", "cli/data.py"]
    assert not any(decides(PACKAGE / file) for file in other)


def test_a_stage_counts_what_it_has_loaded_and_itself() -> None:
    """Another training of the same code has the same digest; one more deciding module changes it, a report does not."""
    show = "import segpipe.code; print(segpipe.code.digest_of_loaded())"

    def run(*imports: str) -> str:
        lines = "".join(f"import {name}; " for name in imports)
        return subprocess.run([sys.executable, "-c", lines + show], check=True, capture_output=True, text=True).stdout

    alone = run("segpipe.classes")
    assert run("segpipe.classes", "segpipe.errors", "segpipe.reports.page") == alone
    assert run("segpipe.classes", "segpipe.metrics.parts.scores") != alone
