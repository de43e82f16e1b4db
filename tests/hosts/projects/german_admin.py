"""A German admin with thousand separators, and ids in the millions."""

from tests.hosts.base import *  # noqa: F403

LANGUAGE_CODE = "de"
USE_THOUSAND_SEPARATOR = True


def after_migrate():
    """Let the ids of the tables start high."""
    from tests.admin.any_admin.every_state import start_ids_high

    start_ids_high()


def verify(pages):
    """Check the language of the pages, and that ids have no separators."""
    from tests.admin.any_admin.walk import SEPARATED_ID

    texts = [page.html for page in pages]
    assert all('<html lang="de"' in text for text in texts)
    assert any("1234501" in text for text in texts)
    assert [page.address for page in pages if SEPARATED_ID.search(page.html)] == []
