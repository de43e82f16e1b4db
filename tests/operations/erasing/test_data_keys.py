"""The destruction of data keys: what was enqueued before is unreadable for good, and what comes later is not."""

from __future__ import annotations

import dataclasses
import io
import json

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.urls import reverse

from evermuse_outbox import outbox
from evermuse_outbox.delivery.loop import seal_next
from evermuse_outbox.insight import explain_record, rebuild_body
from evermuse_outbox.jobs.records import refusals_to_send_again
from evermuse_outbox.models import (
    Cause,
    Decision,
    OutboxAction,
    OutboxBatch,
    OutboxDataKey,
    OutboxRecord,
    OutboxRejection,
    PayloadDropped,
    cause_of,
)
from evermuse_outbox.models.payloads import keyring
from evermuse_outbox.operations import edit_record, retry_records
from evermuse_outbox.operations.erasing import Selection, destroy_keys, erase_records, find_records
from tests.delivery.helpers import deliver, state_of
from tests.keys import KEY, stored_line
from tests.records import enqueue, record


@pytest.fixture
def encrypted(context, outbox_settings, clock):
    outbox_settings(ENCRYPTION_KEYS=[KEY])


@pytest.fixture
def destroy(alias, clock, monkeypatch):
    """Return a function that destroys the keys of a scope; the wait moves the clock of the test."""
    monkeypatch.setattr(keyring.time, "monotonic", clock.monotonic)

    def run(label=""):
        return destroy_keys(
            alias, "default", label, decision=Decision("anna", "request 12"), clock=clock.clock()
        )

    return run


def read(row):
    return OutboxRecord.objects.using(row._state.db).get(pk=row.pk)


def reject(alias, row, clock):
    rows = OutboxRecord.rows.using(alias)
    rows.reject([OutboxRejection.local(row.pk, "BAD", "bad", clock.clock().now())])


@pytest.mark.commits
def test_records_of_every_state_are_unreadable_and_those_that_wait_are_discarded(
    context, alias, encrypted, destroy, sandbox, clock
):
    (delivered,) = enqueue(alias, 1)
    deliver(context, clock)
    rejected, pending = enqueue(alias, 2, 3)
    reject(alias, rejected, clock)
    result = destroy()
    (key,) = OutboxDataKey.objects.using(alias).all()
    assert (result.keys, result.discarded) == ((key.pk,), 2)
    assert (key.wrapped, key.destroyed_at is not None) == ("", True)
    assert [state_of(row) for row in (delivered, rejected, pending)] == [
        "delivered",
        "discarded",
        "discarded",
    ]
    assert [cause_of(read(row).payload) for row in (delivered, rejected, pending)] == [Cause.DESTROYED] * 3
    action = OutboxAction.objects.using(alias).get()
    assert (action.kind, action.by, action.reason, action.records) == ("destroy_key", "anna", "request 12", 2)
    assert f"data key #{key.pk} was destroyed" in explain_record(read(pending))
    (later,) = enqueue(alias, 4)
    deliver(context, clock)
    assert state_of(later) == "delivered"


@pytest.mark.commits
def test_what_this_process_enqueues_after_the_destruction_is_readable(context, alias, encrypted, destroy):
    enqueue(alias, 1)
    outbox.enqueue(record(2), using=alias)  # with the key that is in the memory of this process
    destroy()
    row = outbox.enqueue(record(3), using=alias)
    assert read(row).payload == row.payload


@pytest.mark.commits
def test_what_is_enqueued_between_the_two_steps_gets_a_new_key(context, alias, encrypted, clock, monkeypatch):
    monkeypatch.setattr(keyring.time, "monotonic", clock.monotonic)
    enqueue(alias, 1)
    between = []

    def wait(seconds):
        clock.move(seconds)
        between.append(outbox.enqueue(record(2), using=alias))

    waiting = dataclasses.replace(clock.clock(), sleep=wait)
    destroy_keys(alias, "default", decision=Decision(), clock=waiting)
    assert read(between[0]).payload == between[0].payload
    assert state_of(between[0]) == "pending"


@pytest.mark.commits
def test_a_batch_that_was_sealed_before_is_not_sent(context, alias, encrypted, destroy, sandbox, clock):
    rows = enqueue(alias, 1, 2)
    sealed = seal_next(context)
    OutboxBatch.objects.using(alias).give_back(sealed.batch)
    destroy()
    deliver(context, clock)
    assert [state_of(row) for row in rows] == ["discarded"] * 2
    assert rebuild_body(OutboxBatch.objects.using(alias).get(pk=sealed.batch.pk)) is None


def test_nothing_can_be_done_with_such_a_record_but_to_edit_it(context, alias, encrypted, destroy, clock):
    (row,) = enqueue(alias, 1)
    OutboxDataKey.objects.using(alias).all().destroy(clock.clock().now())
    reject(alias, row, clock)
    clock.move(20)
    assert "destroyed" in str(refusals_to_send_again(alias, [row.pk])[row.pk])
    assert retry_records(alias, [row.pk]).unreadable == (row.pk,)
    assert state_of(row) == "rejected"
    with pytest.raises(PayloadDropped, match="destroyed"):
        read(row).envelope()
    assert next(iter(find_records(alias, Selection(text="Hello")))).pks == []
    newer = edit_record(alias, row.pk, record(1))
    assert state_of(newer) == "pending"
    assert erase_records(alias, [row.pk], Decision()).count == 2


@pytest.mark.commits
def test_one_value_of_a_label_is_destroyed_alone(
    context, alias, encrypted, destroy, outbox_settings, sandbox, clock
):
    outbox_settings(ENCRYPTION_LABEL="customer")
    acme = outbox.enqueue(record(1), using=alias, labels={"customer": "acme"})
    other = outbox.enqueue(record(2), using=alias, labels={"customer": "Acme"})
    none = outbox.enqueue(record(3), using=alias)
    outbox.enqueue_many([record(4), record(5)], using=alias, labels={"customer": "acme", "x": "y"})
    assert len({stored_line(row).split(":")[1] for row in (acme, other, none)}) == 3
    assert destroy("acme").discarded == 3
    assert cause_of(read(acme).payload) is Cause.DESTROYED
    assert [read(row).payload for row in (other, none)] == [other.payload, none.payload]
    deliver(context, clock)
    assert [state_of(row) for row in (acme, other, none)] == ["discarded", "delivered", "delivered"]


@pytest.mark.django_db
def test_pages_show_that_the_key_was_destroyed(outbox_settings, clock, client, monkeypatch):
    outbox_settings(ENCRYPTION_KEYS=[KEY])
    (row,) = enqueue("default", 1)
    monkeypatch.setattr(keyring, "CACHE_SECONDS", 0.0)
    OutboxDataKey.objects.using("default").all().destroy(clock.clock().now())
    reject("default", row, clock)
    client.force_login(get_user_model().objects.create_superuser("anna", "a@example.com", "x"))
    name = "admin:evermuse_outbox_outboxrecord"
    page = client.get(reverse(f"{name}_change", args=[row.pk]))
    assert page.status_code == 200
    assert "was destroyed" in page.content.decode()
    assert client.get(reverse(f"{name}_changelist"), {"q": '"Hello"'}).status_code == 200
    download = client.get(reverse(f"{name}_payload", args=[row.pk]))
    assert (download.status_code, b"destroyed" in download.content) == (410, True)
    assert client.get(reverse(f"{name}_edit", args=[row.pk])).status_code == 302


@pytest.mark.commits
def test_the_command(context, alias, encrypted, monkeypatch):
    def run(*arguments):
        out = io.StringIO()
        options = ("--no-input", "--json", "--database", alias)
        call_command("outbox_erase", "--destroy-key", *options, *arguments, stdout=out)
        return json.loads(out.getvalue())

    enqueue(alias, 1)
    monkeypatch.setattr("evermuse_outbox.operations.erasing.data_keys.WAIT_SECONDS", 0.0)
    for wrong in (["--workspace", "emea"], ["--workspace", "default", "--type", "call"], ["--text", "x"]):
        with pytest.raises(CommandError):
            run(*wrong)
    assert run("--workspace", "default", "--reason", "request 12")["discarded"] == 1
    assert OutboxAction.objects.using(alias).get().reason == "request 12"
