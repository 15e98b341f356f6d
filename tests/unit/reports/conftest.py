"""Pages in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from browser import Browser

WIDTHS_PX = (390, 800, 1400)


@pytest.fixture
def look_at(browser: Browser) -> Callable[[Path], None]:
    """Opens a page on a phone, a tablet and a screen, in light and dark, and checks it there: `look_at(page)`.

    It is not wider than the window, nothing but the page is requested, the console says nothing, all is readable.
    """

    def look(page: Path) -> None:
        for width_px in WIDTHS_PX:
            for is_dark in (False, True):
                browser.open(page, width_px, is_dark)
                browser.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
                where = f"{page.name} at {width_px} px, {'dark' if is_dark else 'light'}"
                assert browser.overflow_px() <= 0, where
                assert browser.messages == [], where
                assert browser.requests == [], where
                paper, ink = (_brightness(browser, name) for name in ("backgroundColor", "color"))
                assert (paper < 60 and ink > 200) if is_dark else (paper > 240 and ink < 60), where
                assert browser.evaluate("[...document.images].every(one => one.naturalWidth > 0)"), where

    return look


def _brightness(browser: Browser, name: str) -> float:
    """Gives the mean of red, green and blue, 0..255, of a colour of the page's body."""
    red_green_blue = browser.evaluate(f"getComputedStyle(document.body).{name}.match(/[0-9]+/g).slice(0, 3)")
    return sum(map(int, red_green_blue)) / 3
