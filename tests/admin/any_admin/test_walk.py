"""Every page of the outbox: it exists, and each of its texts can be translated.

Its ids have no thousand separators, and a strict Content-Security-Policy allows it.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.test import Client

import evermuse_outbox

from .marked import unmarked_words, use_marked_language
from .walk import INLINE, SEPARATED_ID, Elements, Page, submit_forms, walk

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("every_state")]

PACKAGE = Path(evermuse_outbox.__file__).parent

PAGES: list[Page] = []
"""The pages of the default site, those after forms included. The tests only read them, so one walk is enough."""


@pytest.fixture
def pages(admin_client: Client, monkeypatch, settings) -> list[Page]:
    """Return the pages of the default site, those after forms included, in the language of marks."""
    if not PAGES:
        use_marked_language(monkeypatch)
        settings.USE_THOUSAND_SEPARATOR = True
        walked = list(walk(admin_client))
        PAGES.extend([*walked, *submit_forms(admin_client, walked)])
    return PAGES


def test_the_walk_reaches_the_pages_of_every_model(pages: list[Page]) -> None:
    addresses = " ".join(page.address for page in pages)
    for model in ("record", "batch", "workspace", "group", "action"):
        assert f"/outbox{model}/ " in addresses
        assert re.search(rf"/outbox{model}/[^/ ]+/change/", addresses)
        assert f"POST /admin/evermuse_outbox/outbox{model}/" in addresses or model == "action"


def test_every_page_exists(pages: list[Page]) -> None:
    assert {(page.address, page.found_on) for page in pages if page.status not in (200, 302)} == set()


def test_no_form_is_inside_of_another(pages: list[Page]) -> None:
    """A browser ignores the inner form: its first button would post to the address of the outer form."""
    assert {page.address for page in pages if Elements(page.html).has_nested_forms} == set()


def test_no_page_has_inline_styles_or_scripts(pages: list[Page]) -> None:
    for page in pages:
        assert not INLINE.search(page.html), page.address
        for source in Elements(page.html).sources:
            assert source.startswith(("/static/", "/admin/jsi18n/")), (page.address, source)


def test_ids_have_no_thousand_separators(pages: list[Page]) -> None:
    assert {page.address for page in pages if SEPARATED_ID.search(page.html)} == set()


def test_every_text_of_the_admin_can_be_translated(pages: list[Page]) -> None:
    assert {text: page.address for page in pages for text in unmarked_words(page.html)} == {}


def test_no_template_and_no_module_writes_inline_styles_or_scripts() -> None:
    files = [*PACKAGE.rglob("*.html"), *(PACKAGE / "admin").rglob("*.py")]
    assert files
    assert {path.name for path in files if INLINE.search(path.read_text("utf-8"))} == set()


@pytest.mark.parametrize(
    ("html", "is_inline"),
    [
        ('<p style="x">', True),
        ("<style>", True),
        ("<script>", True),
        ('<button onclick="x()">', True),
        ('<a href="javascript:x()">', True),
        ('<script src="/static/x.js" defer>', False),
        ('<link rel="stylesheet">', False),
        ("reason = 'x'", False),
    ],
)
def test_the_rule_finds_what_is_inline(html: str, is_inline: bool) -> None:
    assert bool(INLINE.search(html)) == is_inline
