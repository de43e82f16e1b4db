"""The errors of a batch lead to the right records."""

from __future__ import annotations

import pytest
from django.test import Client
from django.utils import timezone

from evermuse_outbox.models import BatchState, OutboxRejection
from tests.admin import rows
from tests.admin.client import page_text, url

pytestmark = pytest.mark.django_db


def test_errors_link_to_their_records(viewer: Client) -> None:
    errors = [{"index": 2, "code": "BAD", "message": "no"}, {"index": 99, "code": "ODD", "message": "?"}]
    home = rows.batch(BatchState.COMPLETE, errors=errors, record_count=3, total_error_count=30)
    members = [rows.record(home) for _ in range(3)]
    text = page_text(viewer, url("batch", "change", home.pk))
    link = f'<td>2</td><td><a href="{url("record", "change", members[2].pk)}">#{members[2].pk}</a></td>'
    assert link in text
    assert "<td>99</td><td>-</td>" in text
    assert "Evermuse counts 30 errors" in text


def test_errors_of_a_split_batch_link_to_rejected_records_only(viewer: Client) -> None:
    """The other records have left the batch, so the order of the rest no longer gives their positions."""
    home = rows.batch(
        BatchState.SPLIT,
        record_count=5,
        errors=[{"index": 3, "code": "BAD", "message": "no"}, {"index": 0, "code": "X", "message": "y"}],
    )
    rows.batch(parent=home)
    invalid = rows.record(home, closed_as="rejected")
    OutboxRejection.objects.create(
        record=invalid, batch=home, position=3, code="BAD", message="no", rejected_at=timezone.now()
    )
    text = page_text(viewer, url("batch", "change", home.pk))
    assert f'<td>3</td><td><a href="{url("record", "change", invalid.pk)}">#{invalid.pk}</a></td>' in text
    assert "<td>0</td><td>-</td>" in text
    assert "Later batches of these records" in text
