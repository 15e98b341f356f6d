"""The files of a prediction on a disk that is full."""

from __future__ import annotations

import errno
from pathlib import Path
from threading import get_ident

import numpy as np
import pytest

from segpipe.classes import ClassTable
from segpipe.data.images import Picture
from segpipe.prediction.outputs import write_prediction
from segpipe.prediction.predicting import Predicted
from segpipe.prediction.reading import Scene

FULL_DISK = Path("/dev/full")
MASK = np.zeros((300, 400), np.uint8)
PREDICTED = Predicted(
    Scene("a", Path("a.png"), (1, 1), Picture(MASK[..., None].repeat(3, axis=2))),
    MASK,
    probabilities_CHW=np.random.default_rng(0).random((3, 300, 400)).astype(np.float16),
)


def test_probabilities_are_what_was_computed(tmp_path: Path, classes: ClassTable) -> None:
    write_prediction(PREDICTED, classes, tmp_path, tmp_path)
    np.testing.assert_array_equal(np.load(tmp_path / "probabilities/a.npy"), PREDICTED.probabilities_CHW)


@pytest.mark.skipif(not FULL_DISK.exists(), reason="only Linux has a disk that is always full")
@pytest.mark.parametrize("name", ["masks/a.png", "probabilities/a.npy"])
def test_a_full_disk_is_named_with_the_file(name: str, tmp_path: Path, classes: ClassTable) -> None:
    part = tmp_path / f"{get_ident()}{Path(name).suffix}"
    part.symlink_to(FULL_DISK)
    with pytest.raises(OSError, match=name) as caught:
        write_prediction(PREDICTED, classes, tmp_path, tmp_path)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / name))
    assert not (tmp_path / name).exists()
