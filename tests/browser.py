"""Pages in a headless Chromium: what overflows, what the console says, what is requested, how it looks.

Chromium is driven by its DevTools protocol. `apt-get install chromium` brings it; without it `find_chromium` gives
None, and tests skip.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")
QUIET = ("--no-first-run", "--disable-background-networking", "--disable-extensions", "--remote-debugging-port=0")
START_SECONDS, ANSWER_SECONDS = 60, 20


def find_chromium() -> str | None:
    """Gives the path of an installed Chromium or Chrome."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass
class Browser:
    """A running Chromium with one tab.

    Attributes:
        connection: to Chromium.
        session: of the tab.
        messages: errors and warnings of the console since the page was opened.
        requests: addresses requested since the page was opened, `data:` and the page itself left out.
    """

    connection: ClientConnection
    session: str = ""
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    _number: int = 0
    _target: str = ""

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Sends a command and waits for its answer; events before it are kept."""
        self._number += 1
        session = {"sessionId": self.session} if self.session else {}
        self.connection.send(json.dumps({"id": self._number, "method": method, "params": params, **session}))
        while True:
            answer = json.loads(self.connection.recv(ANSWER_SECONDS))
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                result: dict[str, Any] = answer["result"]
                return result
            self._keep(answer)

    def open_tab(self) -> None:
        """Opens an empty tab, which replaces the one before."""
        self.session = ""
        if self._target:
            self.send("Target.closeTarget", targetId=self._target)
        self._target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=self._target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Inspector"):
            self.send(f"{domain}.enable")

    def _keep(self, event: Mapping[str, Any]) -> None:
        method, params = event.get("method"), event.get("params", {})
        if method == "Inspector.targetCrashed" and event.get("sessionId") == self.session:
            raise RuntimeError("the tab crashed: is there too little memory?")
        if method == "Runtime.exceptionThrown":
            self.messages.append(params["exceptionDetails"]["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.messages.append(str(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.messages.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent" and not params["request"]["url"].startswith("data:"):
            self.requests.append(params["request"]["url"])

    def open(self, page: Path | str, width_px: int, is_dark: bool = False, height_px: int = 900) -> None:
        """Opens a page from its file, or an address, and waits until all of it is loaded."""
        address = page if isinstance(page, str) else page.resolve().as_uri()
        self.messages.clear()
        self.requests.clear()
        size = {"width": width_px, "height": height_px, "deviceScaleFactor": 1, "mobile": width_px < 600}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.send("Page.navigate", url=address)
        loaded = "new Promise(done => document.readyState === 'complete' ? done() : addEventListener('load', done))"
        self.evaluate(loaded)
        self.requests[:] = [url for url in self.requests if url != address]

    def evaluate(self, expression: str) -> Any:
        """Gives the value of a JavaScript expression; waits where it is a promise."""
        result = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def overflow_px(self) -> int:
        """Gives how much wider the page is than the window."""
        return int(self.evaluate("document.scrollingElement.scrollWidth - document.documentElement.clientWidth"))

    def press(self, key: str) -> None:
        """Presses a key of the keyboard, such as 'Tab' or 'ArrowRight'."""
        codes = {"Tab": 9, "ArrowLeft": 37, "ArrowRight": 39, "ArrowDown": 40}
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key])

    def screenshot(self, file: Path, top_px: int = 0, height_px: int = 900) -> None:
        """Writes a picture of a part of the page as PNG."""
        width = self.evaluate("innerWidth")
        clip = {"x": 0, "y": top_px, "width": width, "height": height_px, "scale": 1}
        picture = self.send("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(picture["data"]))


@contextmanager
def start_browser(chromium: str) -> Iterator[Browser]:
    """Starts Chromium with an empty profile, and ends it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = (chromium, *OPTIONS, *QUIET, f"--user-data-dir={profile}", "about:blank")
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            address = _wait_for_address(process, Path(profile) / "DevToolsActivePort")
            with connect(address, max_size=None, compression=None, ping_interval=None) as connection:
                browser = Browser(connection)
                browser.open_tab()
                yield browser
        finally:
            process.terminate()
            process.wait(START_SECONDS)


def _wait_for_address(process: subprocess.Popen[bytes], file: Path) -> str:
    """Gives the address of the DevTools, which Chromium writes to a file in its profile."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        lines = file.read_text(encoding="utf-8").split() if file.exists() else []
        if len(lines) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        time.sleep(0.05)
    raise RuntimeError(f"Chromium did not start; exit code {process.poll()}")
