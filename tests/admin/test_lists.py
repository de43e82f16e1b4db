"""The lists: filters, search, and what they ask of the database."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext, override_settings
from django.utils import timezone

from evermuse_outbox.admin.lists import filters, paginator, search
from evermuse_outbox.admin.lists.filters import first_since
from evermuse_outbox.models import BatchState, OutboxRecord, RecordState

from . import rows
from .conftest import url

NOBODY = "89d64e75-ad09-4e4e-85a5-c6deec512c4b"
"""The id of nothing that is there."""

pytestmark = pytest.mark.django_db


def listed(client: Client, model: str = "record", **query: object) -> set[int]:
    response = client.get(url(model, "changelist"), query)
    assert response.status_code == 200, response.get("Location")
    return {row.pk for row in response.context["cl"].result_list}


@pytest.mark.parametrize("state", RecordState.values)
def test_records_by_state(viewer: Client, state: str) -> None:
    rows.rejected()
    rows.record()
    rows.record(closed_as="superseded", superseded_by=1)
    rows.record(closed_as="discarded")
    for batch_state in BatchState:
        rows.record(rows.batch(batch_state))
    wanted = set(OutboxRecord.objects.in_state(state).values_list("pk", flat=True))
    assert wanted
    assert listed(viewer, state=state) == wanted


def test_records_by_type_and_batch(viewer: Client) -> None:
    call, message = rows.record(type="call"), rows.record(rows.batch())
    assert listed(viewer, type="call") == {call.pk}
    assert listed(viewer, batch__id__exact=message.batch_id) == {message.pk}
    for odd in ("x", "9" * 30, "-1"):
        assert listed(viewer, batch__id__exact=odd) == set()


def test_records_by_workspace(viewer: Client, settings: object) -> None:
    north = rows.record(workspace="north")
    rows.record()
    assert "By workspace" not in viewer.get(url("record", "changelist")).content.decode()
    with override_settings(EVERMUSE_OUTBOX={"API_KEY": "d", "WORKSPACES": {"north": {"API_KEY": "k"}}}):
        assert "By workspace" in viewer.get(url("record", "changelist")).content.decode()
        assert listed(viewer, workspace="north") == {north.pk}


def test_records_by_age(viewer: Client) -> None:
    now = timezone.now()
    hours = [500, 200, 100, 30, 20, 5, 2, 0.5, 0.1]
    found = {age: rows.record(enqueued_at=now - timedelta(hours=age)).pk for age in hours}
    for name, most in {"hour": 1, "day": 24, "week": 168}.items():
        assert listed(viewer, age=name) == {pk for age, pk in found.items() if age <= most}, name
    assert listed(viewer, age="older") == {found[500], found[200]}


def test_bisection_finds_where_a_time_begins() -> None:
    now = timezone.now()
    assert first_since(OutboxRecord.rows.all(), now) <= 1
    pks = [rows.record(enqueued_at=now + timedelta(minutes=n)).pk for n in range(20)]
    OutboxRecord.rows.filter(pk__in=pks[3:15]).delete()
    for n in (0, 1, 2, 15, 16, 19):
        begins = first_since(OutboxRecord.rows.all(), now + timedelta(minutes=n))
        assert OutboxRecord.rows.filter(pk__gte=begins).order_by("pk").first().pk == pks[n]
    assert first_since(OutboxRecord.rows.all(), now + timedelta(days=1)) > pks[-1]


def test_batches_by_state(viewer: Client) -> None:
    found = {state: rows.batch(state).pk for state in BatchState}
    for state, pk in found.items():
        assert listed(viewer, "batch", state=state) == {pk}


def test_without_an_index_only_the_newest_are_read(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "NEWEST", 2)
    old = rows.rejected(type="call")
    for _ in range(3):
        rows.record(type="email")
    assert listed(viewer, type="call") == set()
    response = viewer.get(url("record", "changelist"), {"type": "email"})
    assert "type, among the newest 2" in response.content.decode()
    assert len(response.context["cl"].result_list) == 2
    narrowed = [{"state": "rejected"}, {"age": "day"}, {"batch__id__exact": old.batch_id}, {"q": old.pk}]
    for query in narrowed:
        assert listed(viewer, type="call", **query) == {old.pk}, query


@pytest.mark.parametrize("state", [None, *RecordState.values])
def test_the_newest_stand_first(viewer: Client, state: str | None) -> None:
    for _ in range(3):
        rows.rejected()
        rows.record()
    response = viewer.get(url("record", "changelist"), {"state": state} if state else {})
    pks = [row.pk for row in response.context["cl"].result_list]
    assert pks == sorted(pks, reverse=True)


@pytest.mark.parametrize("lookup", ["payload__icontains", "batch__message__contains", "identity"])
def test_other_lookups_are_refused(viewer: Client, lookup: str) -> None:
    assert viewer.get(url("record", "changelist"), {lookup: "x"}).status_code == 400


# --- search ---------------------------------------------------------------------------------------------


def test_search_by_each_kind(viewer: Client) -> None:
    home = rows.batch(BatchState.ACCEPTED, remote_id="ev-batch-77")
    row = rows.record(home, payload=rows.line("Z-9", 'She said "yes" in Zürich, 4711'))
    rows.record()
    kinds = [row.pk, f"batch:{home.pk}", row.identity, row.identity.hex, "ev-batch-77", "z-9",
             "Zürich", 'said "yes"', '"4711"']  # fmt: skip
    for term in kinds:
        assert listed(viewer, q=term) == {row.pk}, term


def test_a_uuid_may_also_be_a_batch_id_of_evermuse(viewer: Client) -> None:
    row = rows.record(rows.batch(BatchState.ACCEPTED, remote_id=NOBODY))
    assert listed(viewer, q=NOBODY) == {row.pk}


@pytest.mark.parametrize("term", ["999999", "9" * 5_000, "batch:", "batch:x", "%", NOBODY])
def test_search_for_what_is_not_there(viewer: Client, term: str) -> None:
    rows.record()
    assert listed(viewer, q=term) == set()


def test_text_is_looked_for_among_the_newest(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [rows.record(payload=rows.line(text="needle")).pk for _ in range(5)]
    monkeypatch.setattr(search, "NEWEST", 3)
    assert listed(viewer, q="needle") == set(found[2:])
    assert "newest 20,000 records" in viewer.get(url("record", "changelist")).content.decode()


def test_search_of_batches(viewer: Client) -> None:
    wanted = rows.batch(BatchState.ACCEPTED, remote_id="ev-1")
    rows.batch()
    for term in (wanted.pk, "ev-1", wanted.key):
        assert listed(viewer, "batch", q=term) == {wanted.pk}
    assert listed(viewer, "batch", q="9" * 5_000) == set()


# --- cost -------------------------------------------------------------------------------------------------


def statements(client: Client, model: str = "record", **query: object) -> list[str]:
    with CaptureQueriesContext(connection) as captured:
        assert client.get(url(model, "changelist"), query).status_code == 200
    return [entry["sql"] for entry in captured]


def fill(count: int) -> None:
    for _ in range(count):
        rows.record(rows.batch(BatchState.COMPLETE))
        rows.rejected()


@pytest.mark.parametrize("model", ["record", "batch", "workspace"])
def test_the_number_of_queries_does_not_grow(viewer: Client, model: str) -> None:
    fill(2)
    before = len(statements(viewer, model))
    fill(20)
    assert len(statements(viewer, model)) == before


@pytest.mark.parametrize("query", [{}, {"state": "rejected"}, {"type": "message"}, {"q": "hello"}, {"p": 1}])
def test_what_the_list_of_records_asks_for(viewer: Client, query: dict[str, object]) -> None:
    fill(3)
    for sql in statements(viewer, "record", **query):
        assert "DISTINCT" not in sql
        if "COUNT(" in sql:
            assert "LIMIT 10001" in sql
        chosen = sql.split(" FROM ")[0].replace(
            'SUBSTR("evermuse_outbox_outboxrecord"."payload", 1, 300)', ""
        )
        assert '"payload"' not in chosen
        assert '"errors"' not in chosen


def test_beyond_the_limit_the_count_says_so(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paginator, "LIMIT", 60)
    for _ in range(70):
        rows.record()
    text = viewer.get(url("record", "changelist")).content.decode()
    assert "60+ records" in text
    assert "Only the first 60 can be paged through" in text
    assert len(listed(viewer, p=2)) == 10
    assert viewer.get(url("record", "changelist"), {"p": 3}).status_code == 302
    with override_settings(USE_THOUSAND_SEPARATOR=True):
        assert "60+ records" not in viewer.get(url("record", "changelist")).content.decode()


def test_an_estimate_is_shown_as_one(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    rows.record()
    monkeypatch.setattr(paginator, "estimate", lambda rows: 7_654_321)
    assert "~7654321 records" in viewer.get(url("record", "changelist")).content.decode()
