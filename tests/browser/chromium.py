"""Chromium without a window, driven over the DevTools protocol.

The protocol runs over two pipes (``--remote-debugging-pipe``), so no driver, no port and no other package is needed.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps",
    "--disable-extensions", "--hide-scrollbars", "--force-color-profile=srgb", "--lang=en-US", "--mute-audio",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
)  # fmt: skip
"""The last flag makes sure that a page can reach only this machine."""

TIMEOUT = 30.0
"""Seconds that a command may take."""

EXEC_WITH_PIPES = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 20) for number in sys.argv[1:3]]
os.dup2(ends[0], 3)
os.dup2(ends[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Chromium reads commands from file descriptor 3 and writes answers to 4."""


def find_chromium() -> str | None:
    """Return the path of the browser, or None if this machine has none. ``TEST_CHROMIUM`` names another one."""
    given = os.environ.get("TEST_CHROMIUM")
    return given or next((path for name in NAMES if (path := shutil.which(name))), None)


class Chromium:
    """A browser with one tab, and what its console reports."""

    def __init__(self, path: str, profile: Path) -> None:
        reads, self._commands = os.pipe()
        self._answers, writes = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-c", EXEC_WITH_PIPES, str(reads), str(writes), path, *FLAGS,
             f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"],
            pass_fds=(reads, writes), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(reads)
        os.close(writes)
        self._buffer, self._number, self._session = b"", 0, ""
        self._events: list[dict[str, Any]] = []
        self._open_tab()

    def _open_tab(self) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)

    def close(self) -> None:
        """End the browser."""
        self._process.terminate()
        self._process.wait(TIMEOUT)
        os.close(self._commands)
        os.close(self._answers)

    # --- the protocol -----------------------------------------------------------------------------

    def call(self, method: str, **params: Any) -> Any:
        """Send a command and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        answer = self._wait_for(lambda item: item.get("id") == self._number)
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def _wait_for(self, is_wanted: Any) -> dict[str, Any]:
        deadline = time.monotonic() + TIMEOUT
        while True:
            message = self._read(deadline - time.monotonic())
            if is_wanted(message):
                return message
            if "method" in message:
                self._events.append(message)

    def _read(self, seconds: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], max(seconds, 0))
            if not ready:
                raise TimeoutError("Chromium did not answer")
            self._buffer += os.read(self._answers, 1 << 20)
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)  # type: ignore[no-any-return]

    # --- pages ------------------------------------------------------------------------------------

    def log_in(self, address: str, cookie: str, value: str) -> None:
        """Set the cookie of a session."""
        self.call("Network.setCookie", url=address, name=cookie, value=value)

    def open(self, address: str) -> None:
        """Open a page and wait until it is loaded. Forget the messages of the page before."""
        self._events.clear()
        loader = self.call("Page.navigate", url=address)["loaderId"]
        self._wait_until_loaded(loader)

    def _wait_until_loaded(self, loader: str | None = None) -> None:
        """Wait until the page of a loader, or of any loader, is loaded."""

        def is_load(event: dict[str, Any]) -> bool:
            params = event.get("params", {})
            is_its_own = loader in (None, params.get("loaderId"))
            return event.get("method") == "Page.lifecycleEvent" and params["name"] == "load" and is_its_own

        if not any(map(is_load, self._events)):
            self._events.append(self._wait_for(is_load))

    def submit(self, expression: str) -> None:
        """Run JavaScript that leads to another page, and wait until that page is loaded."""
        self.expect_page(lambda: self.run(expression))

    def expect_page(self, step: Callable[[], object]) -> None:
        """Do a step that leads to another page, and wait until that page is loaded."""
        self._events.clear()
        step()
        self._wait_until_loaded()

    def run(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def complaints(self) -> list[str]:
        """Return the errors of the page's console: exceptions, files not found, violations of its policy."""
        self.run("0")  # the events before this answer have arrived
        texts = []
        for event in self._events:
            params = event["params"]
            if event["method"] == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                texts.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
            elif event["method"] == "Runtime.exceptionThrown":
                texts.append(json.dumps(params["exceptionDetails"])[:500])
            elif event["method"] == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
                texts.append(json.dumps(params["args"])[:500])
        return texts

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press and release a key."""
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code,
                **({"text": text} if text and kind == "keyDown" else {}),
            )  # fmt: skip

    # --- the screen -------------------------------------------------------------------------------

    def resize(self, width: int, height: int = 844, *, scale: float = 1) -> None:
        """Set the size of the screen in CSS pixels. A phone is 390 wide."""
        # Not "mobile": a phone would zoom out of a page that is too wide, and nothing would show that it is.
        size = {"width": width, "height": height, "screenWidth": width, "screenHeight": height}
        self.call("Emulation.setDeviceMetricsOverride", deviceScaleFactor=scale, mobile=False, **size)

    def prefer(self, scheme: str) -> None:
        """Set the colour scheme that the person prefers: ``light`` or ``dark``."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def allow_scripts(self, is_allowed: bool) -> None:
        """Allow or forbid the scripts of pages."""
        self.call("Emulation.setScriptExecutionDisabled", value=not is_allowed)

    def screenshot(self, path: Path, *, is_full: bool = True) -> None:
        """Write a picture of the page."""
        clip = {}
        if is_full:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            clip = {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=is_full, **clip)["data"]
        path.write_bytes(base64.b64decode(picture))
