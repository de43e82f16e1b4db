"""Records with encrypted lines through the delivery: Evermuse gets the same bytes, and no missing key rejects one."""

from __future__ import annotations

import hashlib
import json

import pytest

from evermuse_outbox.delivery.loop import relay, seal_next
from evermuse_outbox.insight import explain_record, rebuild_body
from evermuse_outbox.models import OutboxBatch, OutboxDataKey, OutboxRecord, OutboxRejection
from evermuse_outbox.models.payloads import forget_keys
from evermuse_outbox.search import find_records, index_records
from tests.delivery.helpers import batches, deliver, posts, state_of, workspace
from tests.keys import KEY, OTHER_KEY, store_line, stored_line
from tests.records import enqueue

LARGE = "ä" * 10_000


@pytest.fixture
def encrypted(context, outbox_settings):
    outbox_settings(ENCRYPTION_KEYS=[KEY])


@pytest.mark.parametrize("text", ["Hello", LARGE], ids=["small", "large"])
def test_evermuse_gets_the_bytes_that_were_enqueued(context, alias, encrypted, sandbox, clock, text):
    rows = enqueue(alias, 1, 2, 3, data={"text": text})
    lines = [row.payload.encode() for row in rows]
    deliver(context, clock)
    assert [state_of(row) for row in rows] == ["delivered"] * 3
    (post,) = posts(sandbox)
    (batch,) = batches(alias)
    body = rebuild_body(batch)
    assert body.rstrip(b"\n").split(b"\n") == lines
    assert (len(body), hashlib.sha256(body).hexdigest()) == (post.size, batch.sha256)
    assert all(stored_line(row).startswith("e1:") for row in rows)


def test_a_changed_ciphertext_is_an_altered_record(context, alias, encrypted, sandbox, clock):
    rows = enqueue(alias, 1, 2, 3)
    store_line(rows[0], stored_line(rows[0])[:-8] + "AAAAAAA=")
    store_line(rows[1], stored_line(rows[2]))
    deliver(context, clock)
    assert [state_of(row) for row in rows] == ["rejected", "rejected", "delivered"]
    codes = OutboxRejection.objects.using(alias).values_list("code", flat=True)
    assert list(codes) == ["ALTERED", "ALTERED"]


@pytest.mark.parametrize("keys", [[OTHER_KEY], None], ids=["another key", "no setting"])
@pytest.mark.parametrize("is_sealed", [False, True], ids=["pending", "sealed"])
def test_a_missing_master_key_pauses_the_workspace_until_it_is_there(
    context, alias, encrypted, sandbox, clock, outbox_settings, keys, is_sealed
):
    rows = enqueue(alias, 1, 2)
    if is_sealed:
        sealed = seal_next(context)
        OutboxBatch.objects.using(alias).give_back(sealed.batch)
    outbox_settings(ENCRYPTION_KEYS=keys)
    forget_keys(alias)
    deliver(context, clock)
    state = workspace(alias)
    assert state.state == "paused"
    assert "ENCRYPTION_KEYS" in state.reason
    assert "ENCRYPTION_KEYS" in explain_record(OutboxRecord.objects.using(alias).get(pk=rows[0].pk))
    assert {state_of(row) for row in rows} == {"in_flight" if is_sealed else "pending"}
    assert posts(sandbox) == []
    outbox_settings(ENCRYPTION_KEYS=[OTHER_KEY, KEY])
    forget_keys(alias)
    clock.move(11)
    deliver(context, clock)
    assert {state_of(row) for row in rows} == {"delivered"}
    assert len(posts(sandbox)) == 1


def test_pending_records_of_a_destroyed_key_are_discarded_with_a_reason(
    context, alias, encrypted, sandbox, clock
):
    (row,) = enqueue(alias, 1)
    OutboxDataKey.objects.using(alias).all().destroy(clock.clock().now())
    forget_keys(alias)
    (later,) = enqueue(alias, 3)
    deliver(context, clock)
    assert (state_of(row), state_of(later)) == ("discarded", "delivered")
    rejection = row.rejections.get()
    assert rejection.code == "KEY_DESTROYED"
    assert "destroyed" in rejection.message
    assert "destroyed" in explain_record(OutboxRecord.objects.using(alias).get(pk=row.pk))


def test_a_sealed_batch_loses_only_the_records_of_a_destroyed_key(context, alias, encrypted, sandbox, clock):
    (first,) = enqueue(alias, 1)
    OutboxDataKey.objects.using(alias).update(retired_at=clock.clock().now())
    forget_keys(alias)
    (second,) = enqueue(alias, 2)
    sealed = seal_next(context)
    OutboxBatch.objects.using(alias).give_back(sealed.batch)
    OutboxDataKey.objects.using(alias).order_by("pk")[:1].get()
    first_key = OutboxDataKey.objects.using(alias).order_by("pk").first()
    OutboxDataKey.objects.using(alias).filter(pk=first_key.pk).destroy(clock.clock().now())
    forget_keys(alias)
    deliver(context, clock)
    assert (state_of(first), state_of(second)) == ("discarded", "delivered")


def test_a_line_of_another_contract_is_encrypted_again(
    context, alias, encrypted, reopen, clock, outbox_settings
):
    (row,) = enqueue(alias, 1)
    before = stored_line(row)
    outbox_settings(CONTRACT="openapi")
    context = reopen()
    assert seal_next(context)
    assert stored_line(row).startswith("e1:")
    assert stored_line(row) != before
    fresh = OutboxRecord.objects.using(alias).get(pk=row.pk)
    assert fresh.contract == "openapi"
    assert fresh.size == len(fresh.payload.encode())
    assert "projectId" in fresh.payload or json.loads(fresh.payload) != json.loads(row.payload)


def test_a_line_that_changes_while_its_key_is_being_destroyed_keeps_that_key(
    context, alias, encrypted, reopen, clock, outbox_settings
):
    first, second = enqueue(alias, 1, 2)
    before = stored_line(first)
    OutboxDataKey.objects.using(alias).all().retire(clock.clock().now())
    forget_keys(alias)
    (third,) = enqueue(alias, 3)
    outbox_settings(CONTRACT="openapi")
    assert seal_next(reopen())
    keys = [stored_line(row).split(":")[1] for row in (first, second, third)]
    assert stored_line(first) != before
    assert keys[0] == keys[1] == before.split(":")[1] != keys[2]
    payload = OutboxRecord.objects.using(alias).get(pk=first.pk).payload
    assert "projectId" in payload or json.loads(payload) != json.loads(first.payload)


def renew(attachment, envelope):
    return f"{attachment['vendor_url']}?{envelope['_type']}"


def test_renewed_urls_are_encrypted(context, alias, encrypted, reopen, sandbox, clock, outbox_settings):
    attachment = {"type": "file", "filename": "a", "vendor_url": "https://files.example/a"}
    (row,) = enqueue(alias, 1, _attachments=[attachment])
    before = stored_line(row)
    outbox_settings(RENEW_URL=f"{__name__}.renew")
    context = reopen()
    relay(context, 60)
    assert stored_line(row).startswith("e1:")
    assert stored_line(row) != before
    (stored,) = sandbox.records()
    assert stored.record["_attachments"][0]["vendor_url"] == "https://files.example/a?message"


def test_the_search_index_has_the_terms_of_encrypted_lines(context, alias, encrypted, clock):
    rows = enqueue(alias, 1, 2)
    large = enqueue(alias, 3, data={"text": "ä" * 100_000})
    OutboxRecord.rows.using(alias).update(enqueued_at=clock.clock().now())
    from django.utils import timezone

    OutboxRecord.rows.using(alias).update(enqueued_at=timezone.now() - timezone.timedelta(minutes=1))
    index_records(alias, iter(range(1000)).__next__, seconds=100)
    table = OutboxRecord.rows.using(alias)
    assert list(find_records(table, "msg-1", may_search_text=False).rows) == rows[:1]
    assert list(find_records(table, "msg-3", may_search_text=False).rows) == large
