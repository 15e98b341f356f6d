"""Which samples a report shows, and what their layers hold."""

from __future__ import annotations

import base64

import cv2
import numpy as np
import pytest

from segpipe.classes import ClassTable
from segpipe.reports.drawing.thumbnails import embed, shrink_mask, shrink_photo
from segpipe.reports.samples import WRONG, choose_by_score, highlight, show_class, show_labels, show_prediction

NAN = float("nan")


def _pixels(address: str) -> np.ndarray:
    """The picture of a `data:` address, RGB."""
    content = np.frombuffer(base64.b64decode(address.partition("base64,")[2]), np.uint8)
    return np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR_RGB))


@pytest.mark.parametrize(
    ("num_chosen", "chosen"),
    [
        (0, []),
        (1, [(4, "worst")]),
        (2, [(4, "worst"), (0, "best")]),
        (3, [(4, "worst"), (2, "median"), (0, "best")]),
        (4, [(4, "worst"), (1, "worst"), (2, "median"), (0, "best")]),
        (9, [(4, "worst"), (1, "worst"), (2, "median"), (5, "best"), (0, "best")]),
    ],
)
def test_the_worst_the_median_and_the_best(num_chosen: int, chosen: list[tuple[int, str]]) -> None:
    scores = np.array([0.9, 0.2, 0.5, NAN, 0.1, 0.7])  # without the fourth, in order: 4, 1, 2, 5, 0
    assert choose_by_score(scores, num_chosen) == chosen


def test_of_equal_scores_the_first_is_chosen() -> None:
    assert choose_by_score(np.array([0.5, 0.5, 0.5]), 1) == [(0, "worst")]


def test_nothing_is_chosen_of_nothing_labelled() -> None:
    assert choose_by_score(np.array([NAN]), 6) == []


def test_the_layers_of_a_prediction(classes: ClassTable) -> None:
    image = np.full((16, 32, 3), 80, np.uint8)
    truth, prediction = np.zeros((16, 32), np.uint8), np.zeros((16, 32), np.uint8)
    truth[:, 16:24], prediction[:, 16:] = 255, 2
    confidence = np.full((16, 32), 40, np.uint8)
    confidence[:, 16:] = 220
    shown = show_prediction(image, truth, prediction, confidence, classes, title="worst", caption="a", full="a.png")
    road, car, sky = classes.colors
    by_name = {layer.name: _pixels(layer.picture) for layer in shown.layers}
    assert list(by_name) == ["truth", "prediction", "errors", "confidence"]
    assert [by_name["truth"][8, column].tolist() for column in (0, 20, 31)] == [list(road), [0, 0, 0], list(road)]
    assert [by_name["prediction"][8, column].tolist() for column in (0, 20, 31)] == [list(road), list(sky), list(sky)]
    right, void, wrong = (by_name["errors"][8, column].astype(int) for column in (4, 20, 29))
    assert max(abs(right - 150)) < 12, "pale grey: 110 + 80 / 2"
    assert max(abs(void - 150)) < 12, "neither right nor wrong"
    assert max(abs(wrong - WRONG)) < 60, "magenta, but for WebP's losses"
    unsure, sure = (by_name["confidence"][8, column].astype(int) for column in (4, 28))
    assert max(abs(unsure - 40)) < 12
    assert max(abs(sure - 220)) < 12
    assert shown.legend == (("road", road), ("sky", sky), ("void", (0, 0, 0)), ("wrong", WRONG))
    assert (shown.height, shown.width) == (16, 32)
    assert car not in [color for _, color in shown.legend]


def test_labels_alone(classes: ClassTable) -> None:
    shown = show_labels(
        np.zeros((40, 80, 3), np.uint8), np.full((40, 80), 1, np.uint8), classes, title="", caption="", max_px=20
    )
    assert (shown.height, shown.width) == (10, 20)
    assert [layer.name for layer in shown.layers] == ["labels"]
    assert [name for name, _ in shown.legend] == ["car"]


def test_a_class_keeps_its_colours() -> None:
    image = np.full((16, 32, 3), (200, 40, 40), np.uint8)
    mask = np.zeros((16, 32), np.uint8)
    mask[:, 16:] = 1
    drawn = _pixels(show_class(image, mask, 1, max_px=32)).astype(int)
    assert np.ptp(drawn[8, 4]) < 10, "grey"
    assert np.ptp(drawn[8, 28]) > 120, "as it was"


def test_marked_pixels_are_magenta_and_all_else_is_pale() -> None:
    image = np.array([[[0, 0, 0], [255, 255, 255], [9, 9, 9]]], np.uint8)
    marked = highlight(image, np.array([[False, False, True]]))
    assert marked.tolist() == [[[110] * 3, [237] * 3, list(WRONG)]]


def test_thumbnails_are_at_most_so_large_and_indices_are_never_mixed() -> None:
    mask = np.tile(np.array([0, 255], np.uint8), (10, 50))
    assert shrink_photo(np.zeros((10, 100, 3), np.uint8), 25).shape == (2, 25, 3)
    assert set(np.unique(shrink_mask(mask, 25))) <= {0, 255}
    assert shrink_mask(mask, 100) is mask


def test_equal_pictures_are_equal_texts() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    assert embed(picture, "photo") == embed(picture.copy(), "photo")
    assert _pixels(embed(picture, "drawing")).tolist() == picture.tolist()
