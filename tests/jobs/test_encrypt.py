"""Jobs that encrypt, decrypt and rotate: what is sent stays the same, and a job can stop anywhere."""

from __future__ import annotations

import io
import json

import pytest
from django.core.management import CommandError, call_command
from django.db.models import F

from evermuse_outbox import jobs, outbox
from evermuse_outbox.database_clock import database_now
from evermuse_outbox.encryption import present_fingerprints
from evermuse_outbox.jobs import encrypt
from evermuse_outbox.management import REFUSED
from evermuse_outbox.management.commands import outbox_rotate_keys
from evermuse_outbox.models import OperationState, OutboxAction, OutboxDataKey, OutboxRecord, OutboxWorker
from evermuse_outbox.models.payloads import KEY_AGE, forget_keys, keyring
from evermuse_outbox.operations import NotPossible
from tests.keys import KEY, OTHER_KEY, THIRD_KEY, store_line, stored_line
from tests.records import enqueue, record


def start(alias, kind, options=None):
    job = jobs.create(alias, kind, by="anna", reason="policy", options=options)
    while not jobs.collect(job, jobs.get_kind(kind).model._base_manager.using(alias).all()):
        pass
    jobs.confirm(job)
    return job


def run(alias, kind):
    job = start(alias, kind)
    jobs.run_operations(alias, 100)
    job.refresh_from_db(using=alias)
    return job


def prefixes(rows):
    return [stored_line(row)[:3] for row in rows]


def test_stored_plain_text_is_encrypted_and_decrypted_again(alias, outbox_settings):
    rows = enqueue(alias, 1, 2, 3)
    outbox_settings(ENCRYPTION_KEYS=[KEY])
    job = run(alias, "encrypt")
    assert (job.state, job.changed, job.refused) == (OperationState.FINISHED, 3, 0)
    assert prefixes(rows) == ["e1:"] * 3
    action = OutboxAction.objects.using(alias).get()
    assert (action.kind, action.by, action.reason, action.records) == ("encrypt", "anna", "policy", 3)
    for row in rows:
        fresh = OutboxRecord.objects.using(alias).get(pk=row.pk)
        assert (fresh.payload, fresh.size, fresh.checksum) == (row.payload, row.size, row.checksum)
    run(alias, "decrypt")
    assert [stored_line(row) for row in rows] == [row.payload for row in rows]


def test_a_second_run_writes_nothing(alias, outbox_settings):
    outbox_settings(ENCRYPTION_KEYS=[KEY])
    rows = enqueue(alias, 1, 2)
    before = [stored_line(row) for row in rows]
    run(alias, "encrypt")
    assert [stored_line(row) for row in rows] == before


def test_an_older_data_key_is_replaced(alias, outbox_settings):
    outbox_settings(ENCRYPTION_KEYS=[KEY])
    (row,) = enqueue(alias, 1)
    OutboxDataKey.objects.using(alias).update(created_at=F("created_at") - KEY_AGE)
    forget_keys(alias)
    before = stored_line(row)
    run(alias, "encrypt")
    assert stored_line(row).split(":")[1] != before.split(":")[1]
    assert OutboxRecord.objects.using(alias).get(pk=row.pk).payload == row.payload


def test_large_lines_are_written_in_parts(alias, outbox_settings, monkeypatch):
    monkeypatch.setattr(encrypt, "BYTES_PER_STATEMENT", 1_000)
    rows = enqueue(alias, *range(5), data={"text": "ä" * 400})
    outbox_settings(ENCRYPTION_KEYS=[KEY])
    assert run(alias, "encrypt").changed == 5
    assert prefixes(rows) == ["e1:"] * 5


def test_dropped_and_unreadable_payloads_are_refused(alias, outbox_settings):
    outbox_settings(ENCRYPTION_KEYS=[KEY])
    rows = enqueue(alias, 1, 2, 3)
    OutboxRecord.rows.using(alias).filter(pk=rows[0].pk).drop_payloads()
    store_line(rows[1], stored_line(rows[2]))
    job = run(alias, "decrypt")
    assert (job.changed, job.refused, job.failed) == (1, 2, 0)
    notes = job.members.using(alias).not_changed(job).values_list("note", flat=True)
    assert [note.partition(":")[0] for note in notes] == [encrypt.DROPPED, encrypt.UNREADABLE]
    assert stored_line(rows[1]).startswith("e1:")


def test_keys_are_rotated_without_a_change_of_payloads(alias, outbox_settings):
    outbox_settings(ENCRYPTION_KEYS=[KEY])
    (row,) = enqueue(alias, 1)
    before = stored_line(row)
    outbox_settings(ENCRYPTION_KEYS=[OTHER_KEY, KEY])
    assert run(alias, "rotate_keys").changed == 1
    outbox_settings(ENCRYPTION_KEYS=[OTHER_KEY])
    forget_keys(alias)
    assert stored_line(row) == before
    assert OutboxRecord.objects.using(alias).get(pk=row.pk).payload == row.payload


def test_a_rotation_refuses_what_it_cannot_read(alias, outbox_settings, clock):
    outbox_settings(ENCRYPTION_KEYS=[KEY])
    outbox.enqueue(record(1), using=alias)
    OutboxDataKey.objects.using(alias).all().destroy(clock.clock().now())
    forget_keys(alias)
    outbox.enqueue(record(2), using=alias)
    outbox_settings(ENCRYPTION_KEYS=[OTHER_KEY])
    job = run(alias, "rotate_keys")
    assert (job.changed, job.refused) == (0, 2)
    assert list(job.expected) == [encrypt.DESTROYED]


@pytest.mark.parametrize("keys", [[KEY, OTHER_KEY], [THIRD_KEY, KEY, OTHER_KEY]])
def test_a_worker_with_another_list_of_keys_wraps_by_the_key_of_the_job(alias, outbox_settings, keys):
    outbox_settings(ENCRYPTION_KEYS=[KEY])
    outbox.enqueue(record(1), using=alias)
    outbox_settings(ENCRYPTION_KEYS=[OTHER_KEY, KEY])
    options = jobs.rotation_options()
    job = start(alias, "rotate_keys", options)
    outbox_settings(ENCRYPTION_KEYS=keys)
    jobs.run_operations(alias, 100)
    job.refresh_from_db(using=alias)
    assert (job.state, job.changed) == (OperationState.FINISHED, 1)
    assert OutboxDataKey.objects.using(alias).get().master == options["master"]


def test_a_worker_without_the_key_of_a_rotation_ends_it_with_the_reason(alias, outbox_settings):
    outbox_settings(ENCRYPTION_KEYS=[KEY])
    outbox.enqueue(record(1), using=alias)
    outbox_settings(ENCRYPTION_KEYS=[OTHER_KEY, KEY])
    job = start(alias, "rotate_keys", jobs.rotation_options())
    outbox_settings(ENCRYPTION_KEYS=[KEY])
    jobs.run_operations(alias, 100)
    job.refresh_from_db(using=alias)
    assert (job.state, job.changed) == (OperationState.FAILED, 0)
    assert "ENCRYPTION_KEYS" in job.message
    assert job.options["master"] in job.message


@pytest.mark.commits
def test_the_command_waits_for_a_worker_that_executes_its_job(alias, outbox_settings, monkeypatch):
    outbox_settings(DATABASES=[alias], ENCRYPTION_KEYS=[KEY])
    outbox.enqueue(record(1), using=alias)
    outbox_settings(DATABASES=[alias], ENCRYPTION_KEYS=[OTHER_KEY, KEY])
    real, calls = jobs.run_chunk, []

    def locked_at_first(using, pk):
        calls.append(pk)
        return real(using, pk) if len(calls) > 1 else 0

    monkeypatch.setattr(jobs, "run_chunk", locked_at_first)
    monkeypatch.setattr(outbox_rotate_keys, "LOCKED_PAUSE", 0)
    out = io.StringIO()
    call_command("outbox_rotate_keys", database=alias, stdout=out)
    assert "1 data keys wrapped" in out.getvalue()
    assert f"All data keys need only the master key {present_fingerprints()[0]}." in out.getvalue()


@pytest.mark.commits
def test_the_command_says_which_master_keys_are_still_needed(alias, outbox_settings):
    outbox_settings(DATABASES=[alias], ENCRYPTION_KEYS=[KEY])
    old = present_fingerprints()[0]
    outbox.enqueue(record(1), using=alias)
    outbox_settings(DATABASES=[alias], ENCRYPTION_KEYS=[OTHER_KEY])
    out = io.StringIO()
    with pytest.raises(SystemExit) as caught:
        call_command("outbox_rotate_keys", database=alias, stdout=out)
    assert caught.value.code == REFUSED
    assert f"1 data keys still need the master key {old}." in out.getvalue()
    with pytest.raises(SystemExit):
        call_command("outbox_rotate_keys", "--json", database=alias, stdout=(out := io.StringIO()))
    assert json.loads(out.getvalue())["jobs"][0]["still_needed"] == {old: 1}


@pytest.mark.parametrize("step", ["retire", "destroy"])
@pytest.mark.parametrize("kind", ["encrypt", "decrypt"])
def test_no_payload_escapes_the_destruction_of_its_key(alias, outbox_settings, clock, kind, step):
    outbox_settings(ENCRYPTION_KEYS=[KEY])
    rows = enqueue(alias, 1, 2)
    before = [stored_line(row) for row in rows]
    assert OutboxRecord.objects.using(alias).get(pk=rows[0].pk).payload  # so this process knows the key
    getattr(OutboxDataKey.objects.using(alias).all(), step)(clock.clock().now())
    keyring._current.clear()
    job = run(alias, kind)
    assert (job.changed, job.refused) == (0, 2)
    assert set(job.members.using(alias).not_changed(job).values_list("note", flat=True)) == {encrypt.DOOMED}
    assert [stored_line(row) for row in rows] == before


@pytest.mark.parametrize("kind", ["encrypt", "decrypt", "rotate_keys"])
def test_without_master_keys_no_job_begins(alias, kind):
    with pytest.raises(NotPossible, match="ENCRYPTION_KEYS"):
        jobs.create(alias, kind)


def test_nothing_is_encrypted_while_an_old_worker_is_at_work(alias, outbox_settings, clock):
    outbox_settings(ENCRYPTION_KEYS=[KEY])
    (row,) = enqueue(alias, 1)
    now = database_now(alias)
    OutboxWorker.objects.using(alias).create(
        host="a", pid=1, version="0.1.0", command="x", started_at=now, last_seen_at=now
    )
    with pytest.raises(NotPossible, match=r"0\.1\.0"):
        jobs.create(alias, "encrypt")
    assert run(alias, "decrypt").changed == 1
    assert stored_line(row) == row.payload


def test_a_job_that_was_paused_goes_on(alias, outbox_settings, monkeypatch):
    monkeypatch.setattr(encrypt.Encrypt, "chunk", 2)
    rows = enqueue(alias, 1, 2, 3)
    outbox_settings(ENCRYPTION_KEYS=[KEY])
    job = jobs.create(alias, "encrypt")
    while not jobs.collect(job, OutboxRecord.rows.using(alias).all()):
        pass
    jobs.confirm(job)
    jobs.run_chunk(alias, job.pk)
    jobs.pause(job)
    assert jobs.run_chunk(alias, job.pk) == 0
    assert sorted(prefixes(rows)) == ["e1:", "e1:", '{"_']
    jobs.proceed(job)
    jobs.run_operations(alias, 100)
    assert prefixes(rows) == ["e1:"] * 3


@pytest.mark.commits
def test_the_commands(alias, outbox_settings):
    outbox_settings(DATABASES=[alias])
    rows = enqueue(alias, 1, 2)
    with pytest.raises(CommandError, match="ENCRYPTION_KEYS"):
        call_command("outbox_encrypt", "--all", "--no-input", database=alias)
    outbox_settings(DATABASES=[alias], ENCRYPTION_KEYS=[KEY])
    call_command("outbox_encrypt", "--all", "--no-input", database=alias, stdout=io.StringIO())
    assert prefixes(rows) == ["e1:"] * 2
    outbox_settings(DATABASES=[alias], ENCRYPTION_KEYS=[OTHER_KEY, KEY])
    out = io.StringIO()
    call_command("outbox_rotate_keys", "--json", database=alias, stdout=out)
    assert json.loads(out.getvalue())["jobs"][0]["changed"] == 1
    outbox_settings(DATABASES=[alias], ENCRYPTION_KEYS=[OTHER_KEY])
    forget_keys(alias)
    call_command("outbox_encrypt", "--decrypt", "--all", "--no-input", database=alias, stdout=io.StringIO())
    assert [stored_line(row) for row in rows] == [row.payload for row in rows]
