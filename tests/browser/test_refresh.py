"""A part of a page that refreshes itself, with a policy that allows it and with one that does not."""

from __future__ import annotations

import contextlib
import time

import pytest
from django.http import HttpRequest, HttpResponse
from django.templatetags.static import static
from django.urls import path

from .chromium import Chromium

PAGE = """<!DOCTYPE html><title>Counter</title><script src="{script}" defer></script>
<input id="field" value="a"><div id="live" data-evermuse-refresh="0.2">{count}</div>"""

MAX_SECONDS = 10

count = 0


def counter(request: HttpRequest) -> HttpResponse:
    """Return a page whose number grows with each request."""
    global count
    count += 1
    response = HttpResponse(PAGE.format(script=static("evermuse_outbox/admin.js"), count=count))
    if "strict" in request.GET:
        response["Content-Security-Policy"] = "default-src 'none'; script-src 'self'"
    return response


urlpatterns = [path("counter/", counter)]


def wait_for(browser: Chromium, expression: str) -> None:
    """Wait until a JavaScript expression is true; a page that is loaded again has no value in between."""
    deadline = time.monotonic() + MAX_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(AssertionError):  # the page went away while the expression ran
            if browser.run(expression):
                return
    raise AssertionError(expression)


@pytest.mark.urls("tests.browser.test_refresh")
@pytest.mark.parametrize("query", ["", "?strict"])
def test_a_part_is_refreshed(chromium: Chromium, live_server, query: str) -> None:
    chromium.open(f"{live_server.url}/counter/{query}")
    first = int(chromium.run("document.getElementById('live').textContent"))
    wait_for(chromium, f"Number(document.getElementById('live')?.textContent) > {first + 2}")


@pytest.mark.urls("tests.browser.test_refresh")
def test_a_page_with_a_changed_field_is_not_loaded_again(chromium: Chromium, live_server) -> None:
    chromium.open(f"{live_server.url}/counter/?strict")
    wait_for(chromium, "sessionStorage.getItem('evermuse-reloads') === '1'")
    chromium.open(f"{live_server.url}/counter/?strict")
    chromium.run("document.getElementById('field').value = 'changed'; window.isSamePage = true")
    chromium.run("new Promise((done) => setTimeout(done, 700))")
    assert chromium.run("window.isSamePage")
