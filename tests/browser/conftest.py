"""A browser that is logged in to the admin of a server with rows in every state."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.conf import settings as project
from django.test import Client

from tests.admin.any_admin.every_state import WORKSPACES, create_rows

from .chromium import NAMES, Chromium, find_chromium


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """Return the browser; skip the test if this machine has none."""
    path = find_chromium()
    if path is None:
        pytest.skip(f"no browser: install Chromium as one of {', '.join(NAMES)}, or set TEST_CHROMIUM")
    browser = Chromium(path, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def every_state(transactional_db: None, outbox_settings) -> None:
    """Create rows in every state, in several workspaces."""
    outbox_settings(WORKSPACES=WORKSPACES)
    create_rows()


@pytest.fixture
def browser(chromium: Chromium, live_server, every_state: None, admin_client: Client) -> Iterator[Chromium]:
    """Return the browser, logged in as a superuser, on a wide light screen."""
    name = project.SESSION_COOKIE_NAME
    chromium.log_in(live_server.url, name, admin_client.cookies[name].value)
    chromium.resize(1280)
    chromium.prefer("light")
    yield chromium
    chromium.allow_scripts(True)
    chromium.open("about:blank")
