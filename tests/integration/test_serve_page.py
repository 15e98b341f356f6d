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
# A folder for the pictures of the documentation, and the model and the picture that they show.
PICTURES, MODEL, PICTURE = (os.environ.get(f"SEGPIPE_{name}") for name in ("PICTURES", "PICTURED_MODEL", "PICTURED"))
# The pixels of a canvas as RGBA, as a list.
PIXELS = "[...document.getElementById('{}').getContext('2d').getImageData(0, 0, {}, {}).data]"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(MODEL) if MODEL else write_network(tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("serve")
    options = ("--model", str(model), "--backend", "torch")
    with serving(folder, *options, SEGPIPE_SERVE_TOKEN=TOKEN) as started:
        yield started


def choose(browser: Browser, file: Path) -> None:
    """Chooses a file as a person does, and waits for the mask."""
    root = browser.send("DOM.getDocument")["root"]["nodeId"]
    node = browser.send("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    browser.send("DOM.setFileInputFiles", files=[str(file)], nodeId=node)
    wait_for(browser, "document.getElementById('state').textContent.endsWith('ms')")


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
        name = f"serve-{width_px}-{'dark' if is_dark else 'light'}.png"
        browser.screenshot(Path(PICTURES) / name, height_px=760 if width_px > 800 else 1000)
        return

    drawn = np.array(browser.evaluate(PIXELS.format("mask", width, height)), np.uint8).reshape(height, width, 4)
    expected = Network.load(model, torch.device("cpu")).predict(pixels[None])[0]
    np.testing.assert_array_equal(drawn[..., :3], CLASSES.color_lookup()[expected])
    assert len(np.unique(expected)) >= 2
    shares = browser.evaluate("[...document.querySelectorAll('#legend td:last-child')].map(one => one.textContent)")
    assert sum(float(share.rstrip("%")) for share in shares) == pytest.approx(100, abs=0.2)
    assert browser.evaluate("document.getElementById('confidence').textContent").endswith("%")
    browser.evaluate("const o = document.getElementById('opacity'); o.value = 25; o.dispatchEvent(new Event('input'))")
    assert browser.evaluate("document.getElementById('mask').style.opacity") == "0.25"
    assert browser.overflow_px() <= 0
    assert browser.messages == []
    assert all(url.startswith((server.address, f"blob:{server.address}")) for url in browser.requests)


def test_a_file_that_is_no_picture_is_told(browser: Browser, server: Server, tmp_path: Path) -> None:
    file = tmp_path / "notes.png"
    file.write_text("no picture")
    browser.open(f"{server.address}/", 390)
    browser.evaluate(f"sessionStorage.setItem('token', '{TOKEN}')")
    browser.open(f"{server.address}/", 390)
    wait_for(browser, "document.getElementById('model').textContent.includes('classes')")
    root = browser.send("DOM.getDocument")["root"]["nodeId"]
    node = browser.send("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    browser.send("DOM.setFileInputFiles", files=[str(file)], nodeId=node)
    wait_for(browser, "!document.getElementById('error').hidden")
    assert "not an image" in browser.evaluate("document.getElementById('error').textContent")
