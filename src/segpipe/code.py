"""Which of our code decides a result, and a digest of what that code does.

A stage depends on the rooms that decide its result; `dvc.yaml` lists them. The files in `DECIDE_NOTHING` decide no
result: they read parameters, which `params.yaml` states in full, or they move, report and explain what other rooms
compute. A test checks each import of each stage against the two lists.
"""

import ast
import hashlib
import os
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

PACKAGE = Path(__file__).parent
DECIDE_NOTHING = (
    "__init__.py",
    "addresses.py",
    "choices.py",
    "cli/",
    "code.py",
    "config/",
    "documents.py",
    "errors.py",
    "faults.py",
    "files.py",
    "parent_death.py",
    "places.py",
    "process.py",
    "project.py",
    "reports/",
    "stages/__init__.py",
    "stages/own_code.py",
    "stages/parent.py",
    "stages/rank.py",
    "stages/stage.py",
    "terminal.py",
    "tracking/",
)


def decides(file: Path) -> bool:
    """Whether a file of this package can decide a result."""
    return not file.relative_to(PACKAGE).as_posix().startswith(DECIDE_NOTHING)


def digest_of_loaded() -> str:
    """Identifies the deciding code of this package that the process has loaded; 64 hexadecimal digits."""
    # With `python -m segpipe.stages.NAME` the stage is loaded as `__main__`.
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    own = [Path(file) for file in files if file and file.startswith(f"{PACKAGE}{os.sep}")]
    return digest_of_code(file for file in own if decides(file))


def digest_of_code(files: Iterable[Path]) -> str:
    """Identifies Python files by what they do: comments, docstrings and layout do not count.

    Args:
        files: of the package `segpipe`; their paths in it count too.

    Returns:
        64 hexadecimal digits.
    """
    places = {file.relative_to(PACKAGE).as_posix(): file for file in files}
    meanings = [(place, _meaning(file)) for place, file in sorted(places.items())]
    return hashlib.sha256(repr(meanings).encode()).hexdigest()


@cache
def _meaning(file: Path) -> str:
    tree = ast.parse(file.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, Documented) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)
