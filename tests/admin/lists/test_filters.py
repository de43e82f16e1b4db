"""The filters of the lists: what each finds, and what it may read."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.test import Client
from django.test.utils import override_settings
from django.utils import timezone

from evermuse_outbox.admin.lists import bounds, inputs
from evermuse_outbox.admin.lists.bounds import CLOSED_ORDER, first_id_since, with_closed_state
from evermuse_outbox.models import BatchState, OutboxRecord, OutboxRejection, RecordState
from tests.admin import rows
from tests.admin.client import listed_ids, url

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("state", RecordState.values)
def test_records_by_state(viewer: Client, state: str) -> None:
    rows.rejected()
    rows.record()
    rows.record(closed_as="superseded", superseded_by=1)
    for closed_as in ("discarded", "expired", "held", "scheduled"):
        rows.record(closed_as=closed_as)
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
    monkeypatch.setattr(bounds, "MAX_SCANNED", 2)
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


# --- filters with a field ---------------------------------------------------------------------------------


def reject(record: OutboxRecord, code: str, message: str) -> OutboxRecord:
    """Add a rejection to a record."""
    OutboxRejection.objects.create(record=record, code=code, message=message, rejected_at=timezone.now())
    return record


def test_records_by_product(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = rows.rejected(product_id="mine")
    rows.rejected()
    assert listed_ids(viewer, product="mine") == {mine.pk}
    assert listed_ids(viewer, product=" mine ", state="rejected") == {mine.pk}
    monkeypatch.setattr(bounds, "MAX_SCANNED", 1)
    assert listed_ids(viewer, product="mine") == set()
    page = viewer.get(url("record", "changelist"), {"product": "mine"}).content.decode()
    assert "product, among the newest 1" in page
    assert listed_ids(viewer, product="mine", state="rejected") == {mine.pk}


def test_records_by_error(viewer: Client) -> None:
    first, second = rows.record(closed_as="rejected"), rows.record(closed_as="rejected")
    reject(first, "UNKNOWN", 'Product "a-1" is unknown.')
    reject(second, "UNKNOWN", 'Product "b-2" is unknown.')
    third = reject(rows.record(closed_as="rejected"), "TOO_LONG", "The title is too long.")
    assert listed_ids(viewer, code="UNKNOWN") == {first.pk, second.pk}
    assert listed_ids(viewer, error="TITLE is") == {third.pk}
    assert listed_ids(viewer, error='"b-2"', state="rejected") == {second.pk}
    assert listed_ids(viewer, signature=first.rejections.get().signature) == {first.pk, second.pk}
    assert listed_ids(viewer, code="UNKNOWN", error="too long") == set()


def test_the_text_of_errors_is_searched_in_the_newest_rejections(
    viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    reject(rows.record(closed_as="rejected"), "BAD", "needle")
    new = reject(rows.record(closed_as="rejected"), "BAD", "needle")
    monkeypatch.setattr(inputs, "MAX_REJECTIONS", 1)
    response = viewer.get(url("record", "changelist"), {"error": "needle"})
    assert {row.pk for row in response.context["cl"].result_list} == {new.pk}
    assert "among the newest 1 rejections" in response.content.decode()


def test_records_in_a_batch_with_failed_attachments(viewer: Client) -> None:
    failed = rows.batch(BatchState.COMPLETE, attachment_total=40, attachment_complete=36, attachment_failed=4)
    whole = rows.batch(BatchState.COMPLETE, attachment_total=40, attachment_complete=40, attachment_failed=0)
    affected = rows.record(failed, attachments=2)
    rows.record(failed)
    rows.record(whole, attachments=2)
    assert listed_ids(viewer, attachments="failed") == {affected.pk}
    assert (
        "4 of 40 attachments failed in its batch" in viewer.get(url("record", "changelist")).content.decode()
    )


def test_records_of_a_period(viewer: Client) -> None:
    now = timezone.now()
    pks = {day: rows.record(enqueued_at=now - timedelta(days=day)).pk for day in (9, 7, 5, 3, 1)}

    def at(days: float) -> str:
        return f"{timezone.localtime(now - timedelta(days=days)):%Y-%m-%dT%H:%M}"

    assert listed_ids(viewer, since=at(8), until=at(4)) == {pks[7], pks[5]}
    assert listed_ids(viewer, since=at(4)) == {pks[3], pks[1]}
    assert listed_ids(viewer, until=at(6)) == {pks[9], pks[7]}
    assert listed_ids(viewer, since=at(4)[:10] + "T00:00", until="x") == {pks[3], pks[1]}
    for odd in ("x", "2026-13-45T00:00", "T", "2026"):
        assert listed_ids(viewer, since=odd) == {*pks.values()}


def test_records_that_were_rejected_again(viewer: Client) -> None:
    rows.rejected()
    again = reject(rows.rejected(), "BAD", "still bad")
    reject(reject(rows.record(), "BAD", "bad"), "BAD", "bad")  # pending again
    assert listed_ids(viewer, again="1") == {again.pk}
    page = viewer.get(url("record", "changelist")).content.decode()
    assert "rejected again" in page
    assert "still bad" in page


def test_a_form_keeps_the_other_filters_and_the_search(viewer: Client) -> None:
    rows.rejected(product_id="a")
    page = viewer.get(
        url("record", "changelist"), {"state": "rejected", "q": "#1", "product": "a"}
    ).content.decode()
    form = page[page.index('name="code"') - 900 : page.index('name="code"')]
    for name, value in {"state": "rejected", "q": "#1", "product": "a"}.items():
        assert f'<input type="hidden" name="{name}" value="{value}">' in form


@pytest.mark.commits  # because ANALYZE commits in MariaDB
@pytest.mark.parametrize("state", ["rejected", "superseded", "discarded"])
def test_a_list_of_a_closed_state_is_read_in_the_order_of_its_index(
    alias: str, state: str, analyze: Callable[[str], None]
) -> None:
    """No sort: it would read all records of the state to show 50 of them."""
    rows = with_closed_state(OutboxRecord.rows.using(alias), state).order_by(*CLOSED_ORDER)[:50]
    add_closed(alias)
    analyze(OutboxRecord._meta.db_table)
    plan = explain(rows)
    assert "sort" not in plan, plan
    assert "evermuse_record_closed" in plan, plan


def add_closed(alias: str) -> None:
    """Add so many records that the planner uses an index."""
    now = timezone.now()
    states = [None] * 9 + ["rejected"]
    OutboxRecord.rows.using(alias).bulk_create(
        OutboxRecord(
            workspace="default", type="message", product_id="prod", identity=uuid.uuid4(), contract="reference",
            payload="{}" * 50, size=100, enqueued_at=now, closed_as=states[number % 10],
        )
        for number in range(2_000)
    )  # fmt: skip


def explain(rows: object) -> str:
    """Return the plan of a query in lower case."""
    plan = str(rows.explain()).lower()
    return plan.replace("filesort", "sort").replace("temp b-tree", "sort")
