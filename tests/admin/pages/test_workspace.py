"""The list and the page of workspaces."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from evermuse_outbox.models import BatchState, OutboxWorkspace, WorkspaceState
from tests.admin import rows
from tests.admin.client import page_text, url

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("state", WorkspaceState.values)
def test_workspaces_in_every_state(viewer: Client, state: str) -> None:
    OutboxWorkspace.objects.create(
        name="north/a b", state=state, blocked_until=timezone.now(), reason="HTTP 503: <busy>", failures=3
    )
    OutboxWorkspace.objects.create(name="default", state=state)
    assert "&lt;busy&gt;" in page_text(viewer, url("workspace", "changelist"))
    assert "no longer in the settings" in page_text(viewer, url("workspace", "change", "north_2Fa b"))
    assert "http://127.0.0.1:1" in page_text(viewer, url("workspace", "change", "default"))


def test_the_throughput_of_the_last_hour(viewer: Client) -> None:
    OutboxWorkspace.objects.create(name="default")
    rows.batch(BatchState.COMPLETE, accepted_count=700)
    rows.batch(BatchState.COMPLETE, accepted_count=None, record_count=40, workspace="other")
    rows.batch(BatchState.COMPLETE, finished_at=timezone.now() - timedelta(hours=2), accepted_count=9_000)
    assert "740 records in 2 batches" in page_text(viewer, url("workspace", "changelist"))
    assert "700 records in 1 batches" in page_text(viewer, url("workspace", "change", "default"))


def test_an_empty_outbox(viewer: Client) -> None:
    for model in ("record", "batch", "workspace"):
        page_text(viewer, url(model, "changelist"))
