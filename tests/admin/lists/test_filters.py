"""The filters of the lists: what each finds, and what it may read."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.test.utils import override_settings
from django.utils import timezone

from evermuse_outbox.admin.lists import filters
from evermuse_outbox.admin.lists.filters import first_id_since
from evermuse_outbox.models import BatchState, OutboxRecord, RecordState
from tests.admin import rows
from tests.admin.client import listed_ids, url

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("state", RecordState.values)
def test_records_by_state(viewer: Client, state: str) -> None:
    rows.rejected()
    rows.record()
    rows.record(closed_as="superseded", superseded_by=1)
    rows.record(closed_as="discarded")
    for batch_state in BatchState:
        rows.record(rows.batch(batch_state))
    pks = set(OutboxRecord.objects.in_state(state).values_list("pk", flat=True))
    assert pks
    assert listed_ids(viewer, state=state) == pks


def test_records_by_type_and_batch(viewer: Client) -> None:
    call, message = rows.record(type="call"), rows.record(rows.batch())
    assert listed_ids(viewer, type="call") == {call.pk}
    assert listed_ids(viewer, batch__id__exact=message.batch_id) == {message.pk}
    for odd in ("x", "9" * 30, "-1"):
        assert listed_ids(viewer, batch__id__exact=odd) == set()


def test_records_by_workspace(viewer: Client, settings: object) -> None:
    north = rows.record(workspace="north")
    rows.record()
    assert "By workspace" not in viewer.get(url("record", "changelist")).content.decode()
    with override_settings(EVERMUSE_OUTBOX={"API_KEY": "d", "WORKSPACES": {"north": {"API_KEY": "k"}}}):
        assert "By workspace" in viewer.get(url("record", "changelist")).content.decode()
        assert listed_ids(viewer, workspace="north") == {north.pk}


def test_records_by_age(viewer: Client) -> None:
    now = timezone.now()
    hours = [500, 200, 100, 30, 20, 5, 2, 0.5, 0.1]
    pks = {age: rows.record(enqueued_at=now - timedelta(hours=age)).pk for age in hours}
    for name, limit in {"hour": 1, "day": 24, "week": 168}.items():
        assert listed_ids(viewer, age=name) == {pk for age, pk in pks.items() if age <= limit}, name
    assert listed_ids(viewer, age="older") == {pks[500], pks[200]}


def test_bisection_finds_the_first_id_of_a_time() -> None:
    now = timezone.now()
    assert first_id_since(OutboxRecord.rows.all(), now) <= 1
    pks = [rows.record(enqueued_at=now + timedelta(minutes=n)).pk for n in range(20)]
    OutboxRecord.rows.filter(pk__in=pks[3:15]).delete()
    for n in (0, 1, 2, 15, 16, 19):
        first_id = first_id_since(OutboxRecord.rows.all(), now + timedelta(minutes=n))
        assert OutboxRecord.rows.filter(pk__gte=first_id).order_by("pk").first().pk == pks[n]
    assert first_id_since(OutboxRecord.rows.all(), now + timedelta(days=1)) > pks[-1]


def test_batches_by_state(viewer: Client) -> None:
    batches = {state: rows.batch(state).pk for state in BatchState}
    for state, pk in batches.items():
        assert listed_ids(viewer, "batch", state=state) == {pk}


def test_a_filter_without_an_index_reads_only_the_newest_records(
    viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "MAX_SCANNED", 2)
    old = rows.rejected(type="call")
    for _ in range(3):
        rows.record(type="email")
    assert listed_ids(viewer, type="call") == set()
    response = viewer.get(url("record", "changelist"), {"type": "email"})
    assert "type, among the newest 2" in response.content.decode()
    assert len(response.context["cl"].result_list) == 2
    narrowed = [{"state": "rejected"}, {"age": "day"}, {"batch__id__exact": old.batch_id}, {"q": old.pk}]
    for query in narrowed:
        assert listed_ids(viewer, type="call", **query) == {old.pk}, query
