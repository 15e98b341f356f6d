"""Masks in MATLAB's files."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat
from unit.data.readers.layouts import HEIGHT, WIDTH, fill, write_mat

from segpipe.data.masks.labels import plain_indices
from segpipe.data.masks.mat_labels import MatMask

SIZE = (HEIGHT, WIDTH)


def _mask(path: Path) -> MatMask:
    return MatMask(path, plain_indices(21))


def test_the_matrix_is_read(tmp_path: Path) -> None:
    write_mat(tmp_path / "a.mat", 0, 20, 255, 7)
    mask = _mask(tmp_path / "a.mat")
    reading = pickle.loads(pickle.dumps(mask)).read(SIZE)
    np.testing.assert_array_equal(reading.pixels, fill([0, 20, 255, 7]))
    assert reading.pixels.dtype == np.uint8
    assert reading.pixels.flags.c_contiguous
    assert reading.faults == ()
    assert mask.files == (tmp_path / "a.mat",)


def test_the_key_tells_other_meanings_apart(tmp_path: Path) -> None:
    assert _mask(tmp_path / "a.mat").key == _mask(tmp_path / "b.mat").key
    assert _mask(tmp_path / "a.mat").key != MatMask(tmp_path / "a.mat", plain_indices(20)).key


def test_unknown_values_are_named_and_shown(tmp_path: Path) -> None:
    write_mat(tmp_path / "a.mat", 21, 99, 0)
    (fault,) = _mask(tmp_path / "a.mat").read(SIZE).faults
    assert fault.kind == "mask-values"
    assert fault.what == "holds values outside the class table: 21, 99 (2 px)"
    assert np.argwhere(fault.pixels).tolist() == [[0, 0], [0, 1]]


def test_any_damage_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    write_mat(path, 0, 20, 7)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for cut in rng.integers(0, len(whole), 40):
        path.write_bytes(whole[:cut])
        reading = _mask(path).read(SIZE)
        assert reading.pixels is None, cut
        assert [fault.kind for fault in reading.faults] == ["image-damaged"], cut


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ({"other": 1}, "image-damaged"),
        ({"GTcls": {"Boundaries": 1}}, "image-damaged"),
        ({"GTcls": {"Segmentation": np.zeros((2, 2), np.float64)}}, "mask-mode"),
        ({"GTcls": {"Segmentation": np.zeros((2, 2, 2), np.uint8)}}, "mask-mode"),
        ({"GTcls": {"Segmentation": "text"}}, "mask-mode"),
    ],
)
def test_another_content_is_a_fault(tmp_path: Path, content: dict[str, object], kind: str) -> None:
    savemat(tmp_path / "a.mat", content)
    reading = _mask(tmp_path / "a.mat").read(SIZE)
    assert reading.pixels is None
    assert [fault.kind for fault in reading.faults] == [kind]


def test_a_file_that_is_gone_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        _mask(tmp_path / "none.mat").read(SIZE)
