"""Charts in a page: the page's colours, no network, the same bytes twice."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from segpipe.reports.drawing.curves import STAND_INS, Chart, Reliability, draw_curves, draw_reliability


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("history")
    for split, values in (("train", "1,2.5,0.1\n2,1.5,0.2\n3,1.0,0.4\n"), ("val", "1,2.6,0.1\n3,1.2,0.3\n")):
        (folder / f"{split}.csv").write_text(f"epoch,loss,mean_iou\n{values}", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def charts(history: Path) -> list[Chart]:
    return [*draw_curves(history, best_epoch=3), draw_reliability("val", Reliability((0.4, 0.9), (0.5, 0.7), 0.15))]


def test_what_is_drawn(charts: list[Chart]) -> None:
    assert [chart.title for chart in charts] == ["loss", "mIoU, %", "reliability, val"]
    texts = [re.findall(r"<text [^>]*>([^<]*)</text>", chart.svg) for chart in charts]
    assert {"train", "val", "kept: epoch 3", "epoch", "1", "2", "3"} <= set(texts[0])
    assert {"val", "confidence, %", "right, %"} <= set(texts[2])


def test_colours_are_the_pages_and_nothing_is_fetched(charts: list[Chart]) -> None:
    for chart in charts:
        assert "var(--first)" in chart.svg
        assert not any(stand_in in chart.svg for stand_in in STAND_INS)
        assert "http" not in chart.svg
        assert "<style" not in chart.svg, "it would hold for the whole page"


def test_charts_of_one_page_have_no_id_in_common(charts: list[Chart]) -> None:
    ids = [re.findall(r' id="([^"]+)"', chart.svg) for chart in charts]
    flat = [one for of_chart in ids for one in of_chart]
    assert len(flat) == len(set(flat))
    for chart, of_chart in zip(charts, ids, strict=True):
        assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', chart.svg)) <= set(of_chart)


def test_the_same_history_gives_the_same_bytes(history: Path, charts: list[Chart]) -> None:
    assert draw_curves(history, best_epoch=3) == charts[:2]
