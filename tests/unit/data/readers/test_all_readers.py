"""What every reader must do, for all of the registry: a new format needs only a layout in `layouts.py`."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from unit.data.readers.layouts import HEIGHT, LAYOUTS, WIDTH

from segpipe.choices import READERS
from segpipe.classes import IGNORE_INDEX, MAX_NUM_CLASSES
from segpipe.data.sources.source import Source
from segpipe.errors import SegpipeError
from segpipe.faults import KINDS

SPLITS = {None, "train", "val", "test"}


def _write_and_read(name: str, root: Path) -> Source:
    write, _ = LAYOUTS[name]
    write(root)
    return _read(name, root)


def _read(name: str, root: Path) -> Source:
    source = READERS.call(name, LAYOUTS[name][1], root=root)
    assert isinstance(source, Source)
    return source


def test_each_reader_has_a_layout_to_be_tested_with() -> None:
    assert sorted(LAYOUTS) == READERS.names()


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_source_is_whole(name: str, tmp_path: Path) -> None:
    source = _write_and_read(name, tmp_path)
    assert source.problems == ()
    assert source.licence
    ids = [sample.sample_id for sample in source.samples]
    assert len(ids) >= 2
    assert ids == sorted(set(ids))
    assert {sample.official_split for sample in source.samples} <= SPLITS
    assert 1 <= source.classes.num_classes <= MAX_NUM_CLASSES
    assert len(set(source.classes.names)) == len(source.classes.colors) == source.classes.num_classes


@pytest.mark.parametrize("name", LAYOUTS)
def test_all_files_lie_in_the_source(name: str, tmp_path: Path) -> None:
    for sample in _write_and_read(name, tmp_path).samples:
        for path in (sample.image, *sample.label.files):
            assert path.is_relative_to(tmp_path)
            assert path.is_file()


@pytest.mark.parametrize("name", LAYOUTS)
def test_labels_travel_to_workers_and_give_masks(name: str, tmp_path: Path) -> None:
    source = _write_and_read(name, tmp_path)
    for sample in pickle.loads(pickle.dumps(source.samples)):
        reading = sample.label.read((HEIGHT, WIDTH))
        assert reading.faults == ()
        assert reading.pixels.shape == (HEIGHT, WIDTH)
        assert reading.pixels.dtype == np.uint8
        assert set(np.unique(reading.pixels)) <= {*range(source.classes.num_classes), IGNORE_INDEX}


@pytest.mark.parametrize("name", LAYOUTS)
def test_keys_do_not_depend_on_where_the_source_lies(name: str, tmp_path: Path) -> None:
    first, second = (_write_and_read(name, tmp_path / folder) for folder in ("here", "there/deeper"))
    assert [sample.label.key for sample in first.samples] == [sample.label.key for sample in second.samples]
    assert [sample.sample_id for sample in first.samples] == [sample.sample_id for sample in second.samples]


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_folder_around_all_changes_nothing(name: str, tmp_path: Path) -> None:
    inside = _write_and_read(name, tmp_path / "archive-main")
    outside = _read(name, tmp_path)
    assert outside.problems == ()
    assert [sample.official_split for sample in outside.samples] == [sample.official_split for sample in inside.samples]
    assert [sample.image for sample in outside.samples] == [sample.image for sample in inside.samples]


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_missing_image_is_named_by_a_known_kind(name: str, tmp_path: Path) -> None:
    source = _write_and_read(name, tmp_path)
    gone = source.samples[0].image
    gone.unlink()
    source = _read(name, tmp_path)
    assert len(source.problems) == 1
    (problem,) = source.problems
    assert problem.kind in KINDS
    assert problem.fix
    assert gone.stem in f"{problem.where} {problem.what}"
    assert gone not in [sample.image for sample in source.samples]


@pytest.mark.parametrize("name", LAYOUTS)
def test_files_of_a_mac_are_ignored(name: str, tmp_path: Path) -> None:
    before = _write_and_read(name, tmp_path)
    for path in [path for path in tmp_path.rglob("*") if path.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
        below = tmp_path / "__MACOSX" / path.relative_to(tmp_path)
        below.parent.mkdir(parents=True, exist_ok=True)
        below.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
    assert _read(name, tmp_path) == before


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_empty_folder_is_refused_or_named(name: str, tmp_path: Path) -> None:
    try:
        source = _read(name, tmp_path)
    except SegpipeError as error:
        assert str(tmp_path) in str(error)
    else:
        assert source.samples == ()
        assert source.problems
