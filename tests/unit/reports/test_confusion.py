"""Confusion matrices on pages: numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segpipe.classes import ClassTable
from segpipe.reports.confusion import (
    CELL_PX,
    MAX_CLASSES_PRINTED,
    divide,
    draw_confusion_matrix,
    make_tables,
)

CONFUSION = np.array([[6, 2, 0], [1, 3, 0], [0, 4, 0]])  # nothing is predicted as the third


def test_by_row_and_by_column() -> None:
    assert divide(CONFUSION, "row").tolist() == [[0.75, 0.25, 0.0], [0.25, 0.75, 0.0], [0.0, 1.0, 0.0]]
    assert divide(CONFUSION, "column") == pytest.approx(np.array([[6 / 7, 2 / 9, 0], [1 / 7, 3 / 9, 0], [0, 4 / 9, 0]]))


def test_two_tables_of_a_split() -> None:
    by_truth, by_prediction = make_tables("val", CONFUSION)
    assert (by_truth.title, by_prediction.title) == ("val, by truth", "val, by prediction")
    assert by_truth.shares == divide(CONFUSION, "row").tolist()
    assert by_prediction.shares == divide(CONFUSION, "column").tolist()
    assert by_truth.picture is by_prediction.picture is None


def test_many_classes_are_a_picture() -> None:
    num_classes = MAX_CLASSES_PRINTED + 1
    table, _ = make_tables("val", np.eye(num_classes, dtype=np.int64))
    assert table.shares is None
    assert table.picture is not None
    assert table.picture.startswith("data:image/webp;base64,")


@pytest.mark.parametrize("num_classes", [3, 171])
def test_the_picture_for_plots_has_a_size_that_opens(tmp_path: Path, num_classes: int) -> None:
    names = tuple(f"class {i}" for i in range(num_classes))
    classes = ClassTable(names, ((1, 2, 3),) * num_classes)
    draw_confusion_matrix(np.eye(num_classes, dtype=np.int64), classes, tmp_path / "matrix.png")
    with Image.open(tmp_path / "matrix.png") as picture:
        assert max(picture.size) <= 2000
        assert min(picture.size) > num_classes * CELL_PX
