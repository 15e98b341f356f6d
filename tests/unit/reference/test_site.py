"""The documentation's site: it builds without a warning, holds what the code says, and loads nothing from a network."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from browser import Browser
from mkdocs.config import load_config
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from segpipe.choices import MODELS

ROOT = Path(__file__).parents[3]
LOADING = {
    "script": "src",
    "img": "src",
    "link": "href",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "use": "href",
}
RESULTS = "document.querySelectorAll('.md-search-result__item').length"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    command = (sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder))
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert "Documentation built" in built.stderr  # so warnings were heard: --quiet hides them from --strict too
    return folder


class Resources(HTMLParser):
    """Collects what a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keeps the address of a tag that loads something."""
        self.addresses += [value or "" for key, value in attrs if key == LOADING.get(tag)]


def test_no_page_loads_anything_from_a_network(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > len(list((ROOT / "docs").rglob("*.md")))
    for page in pages:
        resources = Resources()
        resources.feed(page.read_text(encoding="utf-8"))
        assert resources.addresses
        assert not [one for one in resources.addresses if re.match(r"(\w+:)?//", one)], page.name
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet.name


def test_the_reference_holds_keys_commands_and_modules(site: Path) -> None:
    parameters, commands, python = (
        (site / f"reference/{name}.html").read_text(encoding="utf-8") for name in ("parameters", "commands", "python")
    )
    assert 'id="evaluateinferencecrf"' in parameters and "<code>appearance_px</code>" in parameters
    assert 'id="segpipe-registry-rollback"' in commands and "--output" in commands
    assert 'id="segpipe.inference.predictor.Predictor.predict_masks"' in python


def test_a_path_in_the_text_is_a_link_with_the_title_of_its_page(site: Path) -> None:
    start = (site / "index.html").read_text(encoding="utf-8")
    assert '<a href="registry.html">The registry: which version is the champion, and why</a>' in start
    page = (site / "security.html").read_text(encoding="utf-8")
    assert 'href="team-server.html"' in page and 'href="registry.html#who-is-trusted"' in page


def test_a_path_that_names_no_document_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.syspath_prepend(ROOT / "tools")
    hooks = importlib.import_module("site_hooks")
    config = load_config(str(ROOT / "mkdocs.yml"))
    names = ("data.md", "decisions/0001-outs-without-ids.md")
    files = Files([File(name, config.docs_dir, config.site_dir, use_directory_urls=False) for name in names])
    page = Page(None, next(file for file in files if file.src_uri == names[1]), config)
    code = "[code](../../src/segpipe/cli/data.py)"
    text = f"docs/data.md and {code}, `docs/gone.md`; see docs/absent.md, [here](lost.md#x)"
    linked = hooks.on_page_markdown(text, page, config, files)
    assert linked.startswith("[The data path](../data.md) and code, `docs/gone.md`; ")
    assert linked.endswith("[here](lost.md#x)")  # mkdocs warns of it
    assert len(caplog.records) == 1 and "docs/absent.md" in caplog.messages[0]


def test_the_first_page_and_the_reference_are_shown_on_a_phone_and_a_screen(site: Path, browser: Browser) -> None:
    for page in (site / "index.html", site / "reference/parameters.html"):
        for width_px in (390, 1280):
            for is_dark in (False, True):
                browser.open_tab()
                browser.open(page, width_px, is_dark)
                where = f"{page.name} at {width_px} px, {'dark' if is_dark else 'light'}"
                assert browser.overflow_px() <= 0, where
                assert browser.messages == [], where
                assert [one for one in browser.requests if not one.startswith("file:")] == [], where
                scheme = browser.evaluate("document.body.getAttribute('data-md-color-scheme')")
                assert scheme == ("slate" if is_dark else "default"), where
                assert browser.evaluate("[...document.images].every(one => one.naturalWidth > 0)"), where


def test_the_search_works_in_pages_that_are_read_from_files(site: Path, browser: Browser) -> None:
    browser.open(site / "index.html", 1280)
    browser.evaluate("""new Promise(done => {
        const query = document.querySelector('[data-md-component=search-query]')
        new MutationObserver(() => document.querySelector('.md-search-result__item') && done()).observe(
            document.querySelector('.md-search-result'), {subtree: true, childList: true})
        query.focus()
        query.value = 'rollback'
        query.dispatchEvent(new Event('keyup'))
    })""")
    assert browser.evaluate(RESULTS) > 0


def test_the_registries_of_the_python_page_are_there() -> None:
    text = (ROOT / "docs/reference/python.md").read_text(encoding="utf-8")
    names = re.findall(r"`([A-Z]+)`", text)
    assert names
    for name in names:
        assert isinstance(vars(sys.modules[MODELS.__module__])[name], type(MODELS))
