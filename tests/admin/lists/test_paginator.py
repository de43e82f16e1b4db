"""The paginator: limits, estimates, and how both are shown."""

from __future__ import annotations

import pytest
from django.test import Client
from django.test.utils import override_settings

from evermuse_outbox.admin.lists import paginator
from tests.admin import rows
from tests.admin.client import listed_ids, url

pytestmark = pytest.mark.django_db


def test_a_count_beyond_the_limit_is_shown_as_a_lower_bound(
    viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paginator, "MAX_ROWS", 60)
    for _ in range(70):
        rows.record()
    text = viewer.get(url("record", "changelist")).content.decode()
    assert "60+ records" in text
    assert "Pages show only the first 60 rows" in text
    assert len(listed_ids(viewer, p=2)) == 10
    assert viewer.get(url("record", "changelist"), {"p": 3}).status_code == 302
    with override_settings(USE_THOUSAND_SEPARATOR=True):
        assert "60+ records" not in viewer.get(url("record", "changelist")).content.decode()


def test_an_estimate_is_shown_as_an_estimate(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    rows.record()
    monkeypatch.setattr(paginator, "estimate_rows", lambda rows: 7_654_321)
    assert "~7654321 records" in viewer.get(url("record", "changelist")).content.decode()
