"""What the documents name is there: files of ours, tests, and every room in docs/architecture.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMED = re.compile(
    r"(?<![\w/])(?:src/segpipe|tests|benchmarks|pipelines|tools|docs|recipes)/[\w./-]*\w\.(?:py|md|yaml|j2)\b"
)
PLACEHOLDERS = {"NAME", "PAGE", "SECTION"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_file_that_a_document_names_is_there(document: Path) -> None:
    named = set(NAMED.findall(document.read_text(encoding="utf-8")))
    missing = {name for name in named if not PLACEHOLDERS & set(re.findall(r"[A-Z]+", name))}
    assert not {name for name in missing if not (ROOT / name).exists()}


def test_the_architecture_names_every_room() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    package = ROOT / "src/segpipe"
    rooms = [path for path in [*package.iterdir(), *(package / "data").iterdir()] if (path / "__init__.py").exists()]
    assert rooms
    for room in rooms:
        name = room.relative_to(package).as_posix()
        assert name == "data" or f"`{name}/`" in text, name


@pytest.mark.parametrize("path", sorted((ROOT / "src/segpipe").rglob("__init__.py")), ids=lambda path: path.parent.name)
def test_a_room_says_what_it_owns(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith('"""')
