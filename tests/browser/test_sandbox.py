"""The page of the sandbox: foreign text, faults by keyboard, and the widths and colours of screens."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from evermuse_outbox.sandbox import DEFAULT_KEY, Sandbox
from tests.sandbox.published import record

from .chromium import Chromium

pytestmark = pytest.mark.long

SHOWN = """
new Promise((resolve, reject) => {
  const end = Date.now() + 15000;
  const look = () => {
    if (EXPRESSION) resolve(true);
    else if (Date.now() > end) reject(new Error(document.body.innerText));
    else setTimeout(look, 20);
  };
  look();
})
"""

HOSTILE = "<img src=x onerror=\"document.title='attacked'\"><script>document.title='attacked'</script>"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(control=True, rate_limit=1_000, batch_seconds=0) as sandbox:
        yield sandbox


def post(sandbox: Sandbox, *ids: str) -> requests.Response:
    """Post records with hostile text."""
    records = [record(_vendor_ids={"id": name}, _product_id=HOSTILE, data={"text": HOSTILE}) for name in ids]
    headers = {"x-api-key": DEFAULT_KEY, "Content-Type": "application/json"}
    return requests.post(f"{sandbox.url}/api/v1/ingest", data=json.dumps(records), headers=headers, timeout=5)


def wait_for(browser: Chromium, expression: str) -> None:
    """Wait until a JavaScript expression is true."""
    browser.run(SHOWN.replace("EXPRESSION", expression))


def test_foreign_text_stays_text_and_faults_are_set_by_keyboard(chromium: Chromium, sandbox: Sandbox) -> None:
    chromium.resize(1280)
    chromium.prefer("dark")
    assert post(sandbox, "m-0", HOSTILE).status_code == 202
    chromium.open(f"{sandbox.url}/")
    wait_for(chromium, "document.querySelector('#rows button')")
    chromium.run("document.querySelector('#rows button').focus()")
    chromium.press("Enter", 13, "\r")
    wait_for(chromium, "document.querySelector('dialog[open] pre')")
    assert HOSTILE in chromium.run("document.querySelector('#detail').textContent").replace('\\"', '"')
    assert DEFAULT_KEY not in chromium.run("document.documentElement.innerHTML")
    chromium.press("Escape", 27)
    wait_for(chromium, "!document.querySelector('dialog[open]')")

    chromium.run("document.getElementById('effect').value = 'reject'")
    chromium.run("document.getElementById('effect').dispatchEvent(new Event('change'))")
    chromium.run("document.getElementById('reject').value = 'm-1'")
    chromium.run("document.getElementById('reject').focus()")
    chromium.press("Enter", 13, "\r")
    wait_for(chromium, "document.querySelector('#waiting').textContent.includes('vendor id m-1')")
    assert post(sandbox, "m-0", "m-1").json()["rejectedCount"] == 1
    wait_for(chromium, "document.querySelector('#rows tr td.bad').textContent === '1'")
    chromium.run("document.querySelector('#waiting button').click()")
    wait_for(chromium, "!document.querySelector('#waiting button')")
    assert chromium.run("document.title") == "Evermuse sandbox"
    assert chromium.complaints() == []

    chromium.resize(390)
    assert chromium.run("document.documentElement.scrollWidth") == 390
    chromium.open("about:blank")
    chromium.resize(1280)
    chromium.prefer("light")


@pytest.fixture
def other_origin(tmp_path: Path) -> Iterator[str]:
    """Return the address of an empty page on another port."""
    (tmp_path / "index.html").write_text("<!doctype html><title>Other</title>")
    handler = partial(QuietHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://localhost:{server.server_port}/index.html"
        server.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Write no log."""


def test_a_page_of_another_origin_sets_no_fault(
    chromium: Chromium, sandbox: Sandbox, other_origin: str
) -> None:
    chromium.open(other_origin)
    url = f"{sandbox.url}/sandbox/faults"
    for content in ("'{\"status\": 500}'", "new Blob(['{\"status\": 500}'], {type: 'text/plain'})"):
        # A simple request needs no permission, so the browser sends it.
        sent = f"fetch('{url}', {{method: 'POST', mode: 'no-cors', body: {content}}})"
        assert chromium.run(f"{sent}.then(() => 'answered', () => 'blocked')") == "blocked"
    json_type = "headers: {'Content-Type': 'application/json'}, body: '{\"status\": 500}'"
    sent = f"fetch('{url}', {{method: 'POST', {json_type}}})"
    assert chromium.run(f"{sent}.then(() => 'answered', () => 'blocked')") == "blocked"
    assert sandbox.waiting_faults() == []


def test_the_picture_of_the_documentation(chromium: Chromium, sandbox: Sandbox, tmp_path: Path) -> None:
    """``make screenshots`` writes it to ``docs/images``."""
    sandbox.reject_record("mail-17", "The subject is not allowed.")
    sandbox.fail_next(status=503, type="call", count=5)
    for number in range(12):
        mails = [
            record(
                _vendor_ids={"id": f"mail-{number * 3 + index}"}, _type="email", _product_id="prod-support"
            )
            for index in range(3)
        ]
        if number == 9:
            sandbox.fail_next(status=429, retry_after=1)
        headers = {"x-api-key": DEFAULT_KEY, "Content-Type": "application/json"}
        requests.post(f"{sandbox.url}/api/v1/ingest", data=json.dumps(mails), headers=headers, timeout=5)
    chromium.resize(1280, 860)
    chromium.prefer("light")
    chromium.open(f"{sandbox.url}/")
    wait_for(chromium, "document.querySelectorAll('#rows tr').length === 12")
    path = Path(os.environ.get("SCREENSHOTS", tmp_path)) / "sandbox.png"
    chromium.screenshot(path, is_full=False)
    assert path.stat().st_size > 10_000
