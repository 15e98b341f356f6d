"""Names of any characters: what is not reported can be a picture's name, and what cannot be seen is reported."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import strategies as st
from properties import holds_for_all

from segpipe.classes import ClassTable
from segpipe.data.inspection.unusable_names import find_unusable_names
from segpipe.data.masks.labels import IndexMask
from segpipe.data.sources.source import RawSample

NO_CLASSES = ClassTable((), ())
PARTS = st.one_of(st.sampled_from(["a", "..", ".", "", " ", "a\\b", "\0", "é" * 101]), st.text(max_size=8))
SAMPLE_IDS = st.lists(PARTS, min_size=1, max_size=3).map("/".join)
HIDDEN = st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp"])


def sample(sample_id: str) -> RawSample:
    return RawSample(sample_id, Path("x.png"), IndexMask(Path("x.png"), {0: 0}))


@holds_for_all(200, sample_id=SAMPLE_IDS)
def test_a_sample_that_is_not_reported_names_a_picture(sample_id: str) -> None:
    if find_unusable_names(NO_CLASSES, [sample(sample_id)]):
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "pictures"
        picture = folder / f"{sample_id}.overlay.png"
        picture.parent.mkdir(parents=True)
        picture.touch()
        (found,) = (path for path in Path(name).rglob("*") if path.is_file())
        assert found.relative_to(folder).as_posix() == f"{sample_id}.overlay.png"


@holds_for_all(200, before=st.text(max_size=5), hidden=HIDDEN, after=st.text(max_size=5))
def test_an_invisible_character_is_reported(before: str, hidden: str, after: str) -> None:
    name = before + hidden + after
    table = ClassTable((name,), ((0, 0, 0),))
    assert [problem.kind for problem in find_unusable_names(table, [sample(name)])] == ["name-unusable"] * 2
