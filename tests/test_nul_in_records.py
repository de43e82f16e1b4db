"""A record with NUL in its texts is stored by every database, arrives as it was given, and can be shown and erased."""

from __future__ import annotations

import json

import pytest
from django.urls import reverse

from evermuse_outbox import outbox
from evermuse_outbox.evermuse import InvalidRecord
from evermuse_outbox.models import Decision, OutboxRecord
from evermuse_outbox.operations import edit_record
from evermuse_outbox.operations.erasing import Selection, erase_records, find_records
from evermuse_outbox.search import index_records
from tests.delivery.helpers import deliver, state_of
from tests.records import make_invalid, record

PERSON = {"id": "user\0ada", "role": "external", "name": "Ada\0King"}
WITH_NUL = {
    "_vendor_ids": {"message\0id": "msg\0of-ada"},
    "_thread_id": "thread\0a",
    "_participants": [PERSON],
    "_tags": ["a\0b"],
    "data": {"text\0": "\0", "escape": "\\u0000"},
}


def test_it_is_stored_and_arrives_as_it_was_given(context, alias, sandbox, clock):
    outbox.enqueue(record(1, **WITH_NUL), using=alias)
    outbox.enqueue_many([record(2), record(3, **WITH_NUL | {"_vendor_ids": {"id": "\0"}})], using=alias)
    rows = OutboxRecord.rows.using(alias).order_by("pk")
    assert ["\0" in row.payload for row in rows] == [False] * 3
    deliver(context, clock)
    arrived = {json.dumps(stored.record["_vendor_ids"]): stored.record for stored in sandbox.records()}
    assert len(arrived) == 3
    first = arrived[json.dumps(WITH_NUL["_vendor_ids"])]
    assert {name: first[name] for name in WITH_NUL} == WITH_NUL
    assert [state_of(row) for row in rows] == ["delivered"] * 3


def test_it_is_found_and_erased(context, alias, sandbox, clock):
    row = outbox.enqueue(record(1, **WITH_NUL), using=alias)
    deliver(context, clock)
    for _ in range(2):
        for selection in (Selection(participant="user\0ada"), Selection(vendor_id="msg\0of-ada")):
            assert [pk for page in find_records(alias, selection) for pk in page.pks] == [row.pk]
        index_records(alias, clock.monotonic)
    lines = []
    erase_records(alias, [row.pk], Decision("operator", "a request"), report=lines.extend)
    assert [line.record for line in lines] == [row.pk]
    assert not OutboxRecord.rows.using(alias).exists()


def test_a_rejected_record_is_edited(context, alias, sandbox, clock):
    row = outbox.enqueue(record(1, **WITH_NUL), using=alias)
    make_invalid(row)
    deliver(context, clock)
    assert state_of(row) == "rejected"
    envelope = OutboxRecord.rows.using(alias).get(pk=row.pk).envelope() | {"_nature": "evidence"}
    newer = edit_record(alias, row.pk, envelope)
    assert json.loads(OutboxRecord.rows.using(alias).get(pk=newer.pk).payload)["data"] == WITH_NUL["data"]


def test_the_name_of_a_product_has_none(alias):
    with pytest.raises(InvalidRecord) as caught:
        outbox.enqueue_many([record(1), record(2, _product_id="a\0")], using=alias)
    assert [error.path for error in caught.value.errors] == ["[1]._product_id"]


def test_the_admin_shows_it(admin_client):
    row = outbox.enqueue(record(1, **WITH_NUL))
    for page, args in (("changelist", ()), ("change", (row.pk,))):
        response = admin_client.get(reverse(f"admin:evermuse_outbox_outboxrecord_{page}", args=args))
        assert response.status_code == 200
    assert "\\u0000" in response.content.decode()
