"""The pictures of the documentation. ``make screenshots`` writes them to ``docs/images``."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from django.conf import settings as project
from django.test import Client

from evermuse_outbox.models import OutboxOperation

from . import story
from .chromium import Chromium

WIDTH, HEIGHT = 1280, 860


@pytest.fixture
def pictured(chromium: Chromium, live_server, transactional_db: None, admin_client: Client) -> Chromium:
    """Return the browser, logged in, with the story as rows."""
    story.tell()
    name = project.SESSION_COOKIE_NAME
    chromium.log_in(live_server.url, name, admin_client.cookies[name].value)
    chromium.prefer("light")
    chromium.resize(WIDTH, HEIGHT)
    return chromium


def pages() -> dict[str, str]:
    """Return the name of each picture and the address of its page."""
    return {
        "overview": "outboxoverview/",
        "records": "outboxrecord/?state=rejected",
        "record": f"outboxrecord/{story.rejected_record().pk}/change/",
        "batch": f"outboxbatch/{story.recovered_batch().pk}/change/",
        "job": f"outboxoperation/{OutboxOperation.objects.latest('pk').pk}/change/",
    }


def test_the_pictures_of_the_documentation(pictured: Chromium, live_server, tmp_path: Path) -> None:
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    pictured.open(f"{live_server.url}/admin/")
    pictured.run("localStorage.setItem('django.admin.navSidebarIsOpen', 'false')")
    for name, address in pages().items():
        pictured.open(f"{live_server.url}/admin/evermuse_outbox/{address}")
        pictured.screenshot(folder / f"{name}.png", is_full=False)
        header = (folder / f"{name}.png").read_bytes()[:24]
        assert struct.unpack(">II", header[16:24]) == (WIDTH, HEIGHT)
