"""An admin site of the host, with another name and another prefix: no link and no redirect leaves it."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

import pytest
from django.test import Client

from .walk import Elements, Page, submit_forms, walk

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.usefixtures("every_state"),
    pytest.mark.urls("tests.admin.any_admin.custom_site"),
]

PREFIX = "/tools/operations/"

ROWS = 20
"""Rows of a model whose pages are read. ``test_walk.py`` reads those of all."""


@pytest.fixture
def pages(admin_client: Client) -> list[Page]:
    """Return the pages of the second site, those after forms included."""
    walked = list(walk(admin_client, "operations", ROWS))
    return [*walked, *submit_forms(admin_client, walked)]


def targets(page: Page) -> set[str]:
    """Return the paths of the links and forms of a page."""
    elements = Elements(page.html)
    addresses = [*elements.links, *(form.action for form in elements.forms)]
    base = page.address.removeprefix("POST ").partition(" ")[0]
    return {urlsplit(urljoin(base, address)).path for address in addresses}


def test_every_link_form_and_redirect_stays_on_the_site(pages: list[Page]) -> None:
    assert any(page.address.startswith(f"POST {PREFIX}") for page in pages)
    for page in pages:
        assert page.status in (200, 302), (page.address, page.found_on)
        assert page.address.removeprefix("POST ").startswith(PREFIX), (page.address, page.found_on)
        outside = {path for path in targets(page) if not path.startswith(PREFIX)}
        assert outside <= {"/"}, (page.address, outside)  # the link to the host's site
