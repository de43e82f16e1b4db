"""Every page in a browser: its console is empty, it fits on a phone, and it can be read and used by keyboard."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from django.test import Client

from tests.admin.any_admin.walk import kind_of, walk

from .checks import check
from .chromium import Chromium

pytestmark = pytest.mark.long


@dataclass
class Seen:
    """What the browser found on a page. Each list is empty if the page is good."""

    address: str
    complaints: list[str] = field(default_factory=list)
    sideways: int = 0
    cut_off: list[str] = field(default_factory=list)
    poor_contrast: dict[str, list[str]] = field(default_factory=dict)
    unreachable: list[str] = field(default_factory=list)


SEEN: list[Seen] = []
"""The result of the only visit of all pages. The tests only read it."""


IS_COMPLETE: list[bool] = []
"""Not empty when all pages were visited: a walk that failed half-way must not pass."""


@pytest.fixture
def seen(browser: Chromium, live_server, admin_client: Client) -> list[Seen]:
    """Open every page once, and return what the browser found."""
    if not SEEN or not IS_COMPLETE:
        SEEN.clear()
        for address in chosen(walk(admin_client)):
            SEEN.append(look_at(browser, live_server.url + address))
        for address, action in actions(browser, live_server.url):
            browser.resize(390)
            browser.open(live_server.url + address)
            browser.submit(choose_action(action))
            SEEN.append(measure(browser, Seen(f"{address} {action}")))
        IS_COMPLETE.append(True)
    return SEEN


def chosen(pages) -> list[str]:
    """Return the pages of rows, and one page of each kind of list."""
    addresses, kinds = [], set()
    for page in pages:
        kind = kind_of(page.address)
        is_page = page.status == 200 and page.html
        if is_page and not (kind in kinds and urlsplit(page.address).query):
            kinds.add(kind)
            addresses.append(page.address)
    return addresses


def look_at(browser: Chromium, address: str) -> Seen:
    """Open a page on a phone."""
    browser.resize(390)
    browser.prefer("light")
    browser.open(address)
    return measure(browser, Seen(address))


def measure(browser: Chromium, page: Seen) -> Seen:
    """Measure the page that is open: on the phone, then on a wide screen in light and dark."""
    page.complaints = [text for text in browser.complaints() if "favicon.ico" not in text]
    page.sideways = check(browser, "sideways")
    page.cut_off = check(browser, "cutOff")
    page.unreachable = check(browser, "unreachable")
    browser.resize(1280)
    page.cut_off += check(browser, "cutOff")
    for scheme in ("dark", "light"):
        browser.prefer(scheme)
        page.poor_contrast[scheme] = check(browser, "poorContrast")
    return page


def actions(browser: Chromium, url: str) -> list[tuple[str, str]]:
    """Return the actions of the lists, each with the address of its list."""
    lists = [page.address.removeprefix(url) for page in SEEN if "/change/" not in page.address]
    found = {}
    for address in (a for a in lists if not urlsplit(a).query):
        browser.open(url + address)
        values = browser.run(
            "[...document.querySelectorAll('#changelist-form select[name=action] option')].map((o) => o.value)"
        )
        found[address] = [value for value in values if value]
    return [(address, value) for address, values in found.items() for value in values]


def choose_action(value: str) -> str:
    """Return JavaScript that selects the first row of a list and runs an action."""
    return f"""
        document.querySelector("input.action-select").click();
        document.querySelector("select[name=action]").value = "{value}";
        document.querySelector("button[name=index]").click();
    """


def test_the_console_is_empty(seen: list[Seen]) -> None:
    """Neither an error nor a violation of the strict policy."""
    assert {page.address: page.complaints for page in seen if page.complaints} == {}


def test_no_page_scrolls_sideways_on_a_phone(seen: list[Seen]) -> None:
    assert {page.address: page.sideways for page in seen if page.sideways > 0} == {}


def test_long_ids_are_not_cut_off_and_widen_no_column(seen: list[Seen]) -> None:
    assert {page.address: page.cut_off for page in seen if page.cut_off} == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast(seen: list[Seen], scheme: str) -> None:
    assert {page.address: page.poor_contrast[scheme] for page in seen if page.poor_contrast[scheme]} == {}


def test_the_keyboard_reaches_every_link_button_and_field(seen: list[Seen]) -> None:
    assert {page.address: page.unreachable for page in seen if page.unreachable} == {}
