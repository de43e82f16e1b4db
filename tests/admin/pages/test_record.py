"""The list and the page of records."""

from __future__ import annotations

import hashlib

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from evermuse_outbox.models import BatchState, OutboxRecord, OutboxRejection
from tests.admin import rows
from tests.admin.client import page_text, url

pytestmark = pytest.mark.django_db


def record_in_each_state() -> dict[str, OutboxRecord]:
    """Create a record for each state, and for each state of a batch."""
    records = {f"in {state}": rows.record(rows.batch(state)) for state in BatchState if state != "failed"}
    records["pending"] = rows.record()
    records["failed"] = rows.record(rows.batch(BatchState.FAILED))
    records["rejected"] = rows.rejected()
    newer = rows.record(identity=records["pending"].identity)
    records["superseded"] = rows.record(
        closed_as="superseded", superseded_by=newer.pk, identity=newer.identity
    )
    records["discarded"] = rows.record(closed_as="discarded")
    return records


def test_lists_and_pages_in_every_state(viewer: Client) -> None:
    records = record_in_each_state()
    text = page_text(viewer, url("record", "changelist"))
    for state in ("pending", "in flight", "delivered", "rejected", "superseded", "discarded"):
        assert f">{state}</span>" in text
    assert "ticket: T-" in text
    page_text(viewer, url("batch", "changelist"))
    for record in records.values():
        assert 'class="evermuse-explanation"' in page_text(viewer, url("record", "change", record.pk))
        if record.batch:
            assert 'class="evermuse-explanation"' in page_text(
                viewer, url("batch", "change", record.batch_id)
            )


def test_payloads_are_escaped(viewer: Client) -> None:
    evil = "<script>alert(1)</script>"
    errors = [{"index": evil, "code": evil, "message": evil}]
    home = rows.batch(BatchState.FAILED, message=evil, errors=errors, product_id=evil, remote_status=evil)
    row = rows.record(home, payload=rows.line(evil, evil), type=evil[:32], product_id=evil)
    OutboxRejection.objects.create(
        record=row, batch=home, code=evil, message=evil, rejected_at=timezone.now()
    )
    rows.attempt(home, detail=evil, outcome="refused", status=400)
    for address in (
        url("record", "changelist"),
        url("record", "change", row.pk),
        url("batch", "changelist"),
        url("batch", "change", home.pk),
    ):
        text = page_text(viewer, address)
        assert evil not in text
        assert "&lt;script&gt;" in text


def test_a_long_payload_is_cut_and_can_be_downloaded(viewer: Client) -> None:
    row = rows.record(payload=rows.line(text="é" * 150_000))
    text = page_text(viewer, url("record", "change", row.pk))
    assert "Only the start is shown" in text
    assert len(text) < 130_000
    response = viewer.get(url("record", "payload", row.pk))
    assert response.content.decode() == row.payload
    assert response["Content-Disposition"] == f'attachment; filename="record-{row.pk}.json"'
    assert viewer.get(url("record", "payload", 10**6)).status_code == 404


def test_the_page_shows_other_versions_and_rejections(viewer: Client) -> None:
    old = rows.rejected()
    new = rows.record(rows.batch(BatchState.COMPLETE), identity=old.identity)
    text = page_text(viewer, url("record", "change", old.pk))
    assert "No such product." in text
    assert url("record", "change", new.pk) in text
    assert "(newer)" in text
    assert url("batch", "change", old.batch_id) in text


def test_a_record_whose_batch_does_not_exist(viewer: Client) -> None:
    row = rows.record()
    OutboxRecord.rows.filter(pk=row.pk).update(batch=999)
    page_text(viewer, url("record", "changelist"))
    page_text(viewer, url("record", "change", row.pk))


def test_a_dropped_payload_leaves_its_hash(viewer: Client) -> None:
    row = rows.record(rows.batch(BatchState.COMPLETE, remote_id="r"))
    expected = hashlib.sha256(row.payload.encode()).hexdigest()
    OutboxRecord.rows.using("default").filter(pk=row.pk).drop_payloads()
    text = page_text(viewer, url("record", "change", row.pk))
    assert expected in text
    assert "The payload was dropped after the delivery." in text
    assert "Download payload" not in text
    response = viewer.get(url("record", "payload", row.pk))
    assert (response.status_code, expected in response.content.decode()) == (410, True)


def test_the_list_reads_no_dropped_payload_again(viewer: Client) -> None:
    for _ in range(3):
        rows.record(rows.batch(BatchState.COMPLETE, remote_id="r"))
    page_text(viewer, url("record", "changelist"))
    with CaptureQueriesContext(connection) as before:
        page_text(viewer, url("record", "changelist"))
    OutboxRecord.rows.using("default").drop_payloads()
    with CaptureQueriesContext(connection) as after:
        page_text(viewer, url("record", "changelist"))
    assert len(after) == len(before)


def test_each_attempt_has_its_request_and_its_answer(viewer: Client) -> None:
    row = rows.record(rows.batch(BatchState.COMPLETE))
    rows.attempt(row.batch, detail='{"answer": 1}')
    rows.attempt(row.batch, outcome="lost", detail="")
    for address in (url("record", "change", row.pk), url("batch", "change", row.batch_id)):
        text = page_text(viewer, address)
        assert text.count("curl http://127.0.0.1:1/api/v1/ingest") == 1
        assert "$EVERMUSE_API_KEY" in text
        assert f"Idempotency-Key: {row.batch.key}" in text
        assert url("batch", "request", row.batch_id) in text
        assert "&quot;answer&quot;: 1" in text


def test_the_exact_bytes_of_a_request(viewer: Client) -> None:
    payload = rows.line()
    body = f"{payload}\n".encode()
    home = rows.batch(BatchState.COMPLETE, sha256=hashlib.sha256(body).hexdigest(), byte_count=len(body))
    row = rows.record(home, payload=payload)
    response = viewer.get(url("batch", "request", home.pk))
    assert response.content == body
    assert response["Content-Disposition"] == f'attachment; filename="batch-{home.pk}.ndjson"'
    OutboxRecord.rows.filter(pk=row.pk).update(payload=payload.replace("Hello", "HELLO"))
    response = viewer.get(url("batch", "request", home.pk), follow=True)
    assert "The exact bytes cannot be built again" in response.content.decode()
    assert home.sha256 in response.content.decode()
    assert viewer.get(url("batch", "request", 10**6)).status_code == 404


def test_the_list_shows_the_error_of_a_rejected_record(viewer: Client) -> None:
    rows.rejected()
    text = page_text(viewer, url("record", "changelist"))
    assert "BAD" in text
    assert "No such product." in text
