"""The request of an attempt: a command that repeats it, and the exact bytes of its body."""

from __future__ import annotations

import shlex
import subprocess

import pytest
from django.utils import timezone

from evermuse_outbox import outbox
from evermuse_outbox.delivery.loop import poll, relay
from evermuse_outbox.insight import as_curl, file_name, rebuild_body
from evermuse_outbox.models import OutboxAttempt, OutboxBatch, OutboxRecord
from tests.records import enqueue, record
from tests.rows import batch_in


def attempt(batch, call=OutboxAttempt.Call.INGEST):
    return OutboxAttempt(batch=batch, call=call, started_at=timezone.now(), outcome="accepted")


def first_batch(alias):
    return OutboxBatch.objects.using(alias).order_by("pk").first()


# --- the command --------------------------------------------------------------------------------------


def test_a_command_has_everything_but_the_key(alias, context):
    batch = batch_in(alias, "sealed", key="it's a key", format_hint="text", body_format="array")
    command = as_curl(attempt(batch), batch)
    assert "em_sk" not in command
    words = shlex.split(command.replace("\\\n", " "))
    assert words == [
        "curl", f"{context.workspace.api_url}/api/v1/ingest?format=text",
        "--header", "x-api-key: $EVERMUSE_API_KEY",
        "--header", "Accept: application/json",
        "--header", "Content-Type: application/json",
        "--header", "Idempotency-Key: it's a key",
        "--data-binary", f"@batch-{batch.pk}.json",
    ]  # fmt: skip


def test_a_command_for_a_read(alias, context):
    batch = batch_in(alias, "accepted", remote_id="a b'c")
    assert "/api/v1/ingest/batches/a%20b%27c \\" in as_curl(attempt(batch, "status"), batch)
    assert "/api/v1/ingest/batches?limit=100" in as_curl(attempt(batch, "listing"), batch)
    assert "--data-binary" not in as_curl(attempt(batch, "status"), batch)


def test_a_workspace_that_the_settings_do_not_have(alias):
    batch = batch_in(alias, "sealed", workspace="gone")
    assert as_curl(attempt(batch), batch).startswith('curl "$EVERMUSE_API_URL/api/v1/ingest" \\\n')


@pytest.mark.commits
def test_the_command_works_in_a_shell(context, alias, sandbox, tmp_path):
    """Evermuse recognises the key of the batch, so the repeated request changes nothing."""
    enqueue(alias, 1, 2)
    relay(context, 60)
    batch = first_batch(alias)
    (tmp_path / file_name(batch)).write_bytes(rebuild_body(batch))
    answer = subprocess.run(
        ["sh", "-c", as_curl(attempt(batch), batch)],
        cwd=tmp_path,
        env={"EVERMUSE_API_KEY": "em_sk_sandbox", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode == 127:
        pytest.skip("no curl")
    assert batch.remote_id in answer.stdout, answer


# --- the bytes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("body_format", ["ndjson", "array", "wrapper"])
def test_the_bytes_are_those_that_were_sent(alias, context, reopen, outbox_settings, sandbox, body_format):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", BODY_FORMAT=body_format)
    enqueue(alias, *range(3))
    relay(reopen(), 60)
    body = rebuild_body(first_batch(alias))
    assert body.count(b'"_type"') == 3


def test_the_bytes_of_a_batch_with_rejected_records(alias, context, clock):
    enqueue(alias, *range(4), invalid=(2,))
    relay(context, 60)
    clock.move(5)
    poll(context, 60)
    batch = first_batch(alias)
    assert OutboxRecord.rows.using(alias).rejected().count() == 1
    assert rebuild_body(batch).count(b'"_type"') == 4


def test_changed_or_deleted_lines_give_no_bytes(alias, context):
    rows = enqueue(alias, *range(3))
    relay(context, 60)
    records = OutboxRecord.rows.using(alias)
    original = records.get(pk=rows[0].pk).payload
    records.filter(pk=rows[0].pk).update(payload=original.replace("Hello", "HELLO"))
    assert rebuild_body(first_batch(alias)) is None
    records.filter(pk=rows[0].pk).update(payload=original)
    assert rebuild_body(first_batch(alias)) is not None
    records.filter(pk=rows[1].pk)._raw_delete(alias)
    assert rebuild_body(first_batch(alias)) is None


def test_the_parts_of_a_split_batch(alias, context):
    """A batch whose records were moved by hand to a later batch."""
    enqueue(alias, 1, 2, 3)
    relay(context, 60)
    batch = first_batch(alias)
    part = batch_in(alias, "sealed", parent=batch)
    last = batch_in(alias, "sealed", parent=part, key="other")
    pks = list(OutboxRecord.rows.using(alias).order_by("pk").values_list("pk", flat=True))
    OutboxRecord.rows.using(alias).filter(pk=pks[0]).update(batch=part)
    OutboxRecord.rows.using(alias).filter(pk=pks[1]).update(batch=last)
    assert rebuild_body(batch).count(b'"_type"') == 3
    outbox.enqueue(record(9), using=alias)
    assert rebuild_body(batch).count(b'"_type"') == 3
