"""The service's page in a real browser: a picture is chosen, and the mask is drawn."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import Browser
from integration.serving import Server, draw_png, serving
from tiny_network import CLASSES, write_network

from segpipe.inference.network import Network

WIDTHS_PX = (390, 1200)
TOKEN = "a token of some length"
# A folder for the pictures of the documentation, and the models and the picture that they show.
PICTURES, MODEL, OTHER, PICTURE = (
    os.environ.get(f"SEGPIPE_{name}") for name in ("PICTURES", "PICTURED_MODEL", "PICTURED_CHALLENGER", "PICTURED")
)
# The pixels of a canvas as RGBA, as a list.
PIXELS = "[...document.getElementById('{}').getContext('2d').getImageData(0, 0, {}, {}).data]"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(MODEL) if MODEL else write_network(tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="module")
def challenger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(OTHER) if OTHER else write_network(tmp_path_factory.mktemp("other"), 1)


@pytest.fixture(scope="module")
def server(model: Path, challenger: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("serve")
    options = ("--model", str(model), "--challenger", str(challenger), "--backend", "torch")
    with serving(folder, *options, SEGPIPE_SERVE_TOKEN=TOKEN) as started:
        yield started


def choose(browser: Browser, file: Path) -> None:
    """Chooses a file as a person does, and waits for the mask."""
    root = browser.send("DOM.getDocument")["root"]["nodeId"]
    node = browser.send("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    browser.send("DOM.setFileInputFiles", files=[str(file)], nodeId=node)
    wait_for(browser, "document.getElementById('state').textContent.endsWith('ms')")


def log_in(browser: Browser, server: Server, width_px: int, is_dark: bool = False) -> None:
    """Opens the page with the token of the service."""
    # Before the page's own script: a refusal of an earlier opening might come late.
    script = {"source": f"sessionStorage.setItem('token', '{TOKEN}')"}
    added = browser.send("Page.addScriptToEvaluateOnNewDocument", **script)
    browser.open(f"{server.address}/", width_px, is_dark)
    browser.send("Page.removeScriptToEvaluateOnNewDocument", **added)
    wait_for(browser, "document.getElementById('model').textContent.includes('classes')")


def read_canvas(browser: Browser, name: str, height: int, width: int) -> np.ndarray:
    """Gives the (height, width, 4) RGBA pixels of a canvas."""
    return np.array(browser.evaluate(PIXELS.format(name, width, height)), np.uint8).reshape(height, width, 4)


def take_picture(browser: Browser, name: str, width_px: int, is_dark: bool) -> None:
    """Writes a picture of the whole page."""
    height_px = browser.evaluate("document.documentElement.scrollHeight")
    file = Path(PICTURES or ".") / f"{name}-{width_px}-{'dark' if is_dark else 'light'}.png"
    browser.screenshot(file, height_px=height_px)


def wait_for(browser: Browser, condition: str) -> None:
    deadline = time.monotonic() + 20
    while not browser.evaluate(condition):
        assert time.monotonic() < deadline, (condition, browser.evaluate("document.body.innerText"), browser.messages)
        time.sleep(0.05)


@pytest.mark.parametrize("is_dark", [False, True])
@pytest.mark.parametrize("width_px", WIDTHS_PX)
def test_a_chosen_picture_gets_its_mask_in_the_colours_of_the_classes(
    browser: Browser, server: Server, model: Path, tmp_path: Path, width_px: int, is_dark: bool
) -> None:
    height, width = 96, 136
    file = tmp_path / "picture.png"
    content, pixels = draw_png(height, width)
    file.write_bytes(content)
    browser.open(f"{server.address}/", width_px, is_dark)
    browser.evaluate("sessionStorage.clear()")
    browser.open(f"{server.address}/", width_px, is_dark)
    wait_for(browser, "!document.getElementById('login').hidden")
    browser.messages.clear()  # the browser says that the first request was refused
    browser.evaluate(f"document.getElementById('token').value = '{TOKEN}'")
    browser.evaluate("document.getElementById('login').requestSubmit()")
    wait_for(browser, "document.getElementById('login').hidden")
    chosen = Path(PICTURE) if PICTURE else file
    choose(browser, chosen)
    if PICTURES:
        take_picture(browser, "serve", width_px, is_dark)
        return

    drawn = read_canvas(browser, "champion-mask", height, width)
    expected = Network.load(model, torch.device("cpu")).predict(pixels[None])[0]
    np.testing.assert_array_equal(drawn[..., :3], CLASSES.color_lookup()[expected])
    assert len(np.unique(expected)) >= 2
    shares = browser.evaluate("[...document.querySelectorAll('#legend td:last-child')].map(one => one.textContent)")
    assert sum(float(share.rstrip("%")) for share in shares) == pytest.approx(100, abs=0.2)
    assert browser.evaluate("document.getElementById('confidence').textContent").endswith("%")
    browser.evaluate("const o = document.getElementById('opacity'); o.value = 25; o.dispatchEvent(new Event('input'))")
    assert browser.evaluate("document.getElementById('champion-mask').style.opacity") == "0.25"
    assert browser.overflow_px() <= 0
    assert browser.messages == []
    assert all(url.startswith((server.address, f"blob:{server.address}")) for url in browser.requests)


@pytest.mark.parametrize("is_dark", [False, True])
@pytest.mark.parametrize("width_px", WIDTHS_PX)
def test_both_models_are_compared_side_by_side(
    browser: Browser, server: Server, model: Path, challenger: Path, tmp_path: Path, width_px: int, is_dark: bool
) -> None:
    height, width = 96, 136
    file = tmp_path / "picture.png"
    content, pixels = draw_png(height, width)
    file.write_bytes(content)
    log_in(browser, server, width_px, is_dark)
    choose(browser, Path(PICTURE) if PICTURE else file)
    assert browser.evaluate("document.getElementById('challenger').hidden")
    browser.evaluate("document.getElementById('compare').click()")
    wait_for(browser, "!document.getElementById('difference').hidden")
    wait_for(browser, "document.getElementById('state').textContent.endsWith('ms')")
    if PICTURES:
        take_picture(browser, "compare", width_px, is_dark)
        return

    masks = [Network.load(one, torch.device("cpu")).predict(pixels[None])[0] for one in (model, challenger)]
    for role, mask in zip(("champion", "challenger"), masks, strict=True):
        drawn = read_canvas(browser, f"{role}-mask", height, width)
        np.testing.assert_array_equal(drawn[..., :3], CLASSES.color_lookup()[mask])
    differs = masks[0] != masks[1]
    assert 0 < differs.mean() < 1
    np.testing.assert_array_equal(read_canvas(browser, "difference-mask", height, width)[..., 3] > 0, differs)
    assert browser.evaluate("document.getElementById('differing').textContent") == f"{100 * differs.mean():.1f}%"
    cells = browser.evaluate("[...document.querySelectorAll('#legend tr')].map(row => row.innerText.split('\\t'))")
    shares = {name.strip(): (first, second) for name, first, second in cells}
    for index, name in enumerate(CLASSES.names):
        assert shares[name] == tuple(f"{100 * (mask == index).mean():.1f}%" for mask in masks)
    place = "(({{x, y}}) => [x, y])(document.getElementById('{}').getBoundingClientRect())"
    (x, y), (other_x, other_y) = (browser.evaluate(place.format(role)) for role in ("champion", "challenger"))
    assert (other_x > x, other_y > y) == ((False, True) if width_px < 800 else (True, False))
    assert browser.overflow_px() <= 0
    assert browser.messages == []

    browser.evaluate("document.getElementById('compare').click()")
    wait_for(browser, "document.getElementById('difference').hidden")


def test_a_file_that_is_no_picture_is_told(browser: Browser, server: Server, tmp_path: Path) -> None:
    file = tmp_path / "notes.png"
    file.write_text("no picture")
    log_in(browser, server, 390)
    root = browser.send("DOM.getDocument")["root"]["nodeId"]
    node = browser.send("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    browser.send("DOM.setFileInputFiles", files=[str(file)], nodeId=node)
    wait_for(browser, "!document.getElementById('error').hidden")
    assert "not an image" in browser.evaluate("document.getElementById('error').textContent")
