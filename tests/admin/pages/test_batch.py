"""The page of a batch: attempts, attachments and records."""

from __future__ import annotations

import pytest
from django.test import Client

from evermuse_outbox.models import BatchState
from tests.admin import rows
from tests.admin.client import page_text, url

pytestmark = pytest.mark.django_db


def test_the_page_shows_the_newest_attempts(viewer: Client) -> None:
    home = rows.batch(BatchState.ACCEPTED)
    row = rows.record(home)
    for number in range(205):
        rows.attempt(home, status=503, outcome="in_doubt", detail=f"answer {number}.")
    rows.attempt(home, status=None, seconds=None, outcome="unavailable", detail="")
    text = page_text(viewer, url("batch", "change", home.pk))
    assert "HTTP 503" in text
    assert "no answer" in text
    assert "answer 204." in text
    assert "answer 3." not in text
    assert "Only the newest attempts are shown" in text
    assert "HTTP 503" in page_text(viewer, url("record", "change", row.pk))


def test_the_page_shows_the_first_records_and_links_to_all(viewer: Client) -> None:
    home = rows.batch(BatchState.COMPLETE, attachment_total=8, attachment_complete=5, attachment_failed=1)
    for _ in range(52):
        rows.record(home)
    rows.record()
    text = page_text(viewer, url("batch", "change", home.pk))
    assert "All 52 records" in text
    assert "5 / 8, 1 failed" in text
    assert text.count("delivered</span>") == 50
    text = page_text(viewer, url("record", "changelist") + f"?batch__id__exact={home.pk}")
    assert "52 records" in text
    assert f"#{home.pk}" in text
