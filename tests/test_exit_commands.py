"""``outbox_batch`` and ``outbox_discard``: what they print, change and record, and what they refuse."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from evermuse_outbox import outbox
from evermuse_outbox.models import OutboxAction, OutboxBatch, process_user
from tests.delivery.helpers import state_of
from tests.records import record
from tests.rows import batch_in, record_in


def run(name, *arguments):
    out = StringIO()
    call_command(name, *map(str, arguments), stdout=out)
    return out.getvalue()


def waiting(alias, **changes):
    return batch_in(
        alias, "in_doubt", in_doubt=True, due_at=timezone.now() + timedelta(minutes=30), **changes
    )


def test_without_an_action_a_batch_is_explained(alias):
    batch = waiting(alias, record_count=2)
    text = run("outbox_batch", batch.pk, "--database", alias)
    assert "Evermuse may have it already" in text
    assert f"manage.py outbox_batch {batch.pk} --retry-now | --isolate | --give-up" in text
    assert not OutboxAction.objects.using(alias).exists()


def test_retry_now_is_recorded_with_the_user_of_the_process(alias):
    batch = waiting(alias)
    text = run("outbox_batch", batch.pk, "--retry-now", "--reason", "it is up", "--database", alias)
    assert text == f"Batch #{batch.pk}: It is sent next.\n"
    action = OutboxAction.objects.using(alias).get()
    assert (action.by, action.kind, action.reason) == (process_user(), "retry_now", "it is up")


def test_give_up_says_that_evermuse_may_have_the_records(alias):
    batch = waiting(alias)
    row = record_in(alias, "pending", batch)
    text = run("outbox_batch", batch.pk, "--give-up", "--database", alias)
    assert "1 records are rejected. Evermuse may have them" in text
    assert state_of(row) == "rejected"


def test_what_is_not_possible_is_an_error_and_the_other_batches_are_changed(alias):
    done, batch = batch_in(alias, "split"), waiting(alias)
    with pytest.raises(CommandError, match="1 of 2 batches were not changed"):
        run("outbox_batch", done.pk, batch.pk, "--retry-now", "--database", alias)
    assert OutboxBatch.objects.using(alias).get(pk=batch.pk).due_at < timezone.now() + timedelta(minutes=1)


def test_a_batch_of_a_missing_workspace_cannot_be_isolated_but_given_up(alias):
    batch = waiting(alias, workspace="gone", record_count=2)
    out = StringIO()
    with pytest.raises(CommandError):
        call_command("outbox_batch", str(batch.pk), "--isolate", "--database", alias, stdout=out)
    assert f"outbox_batch {batch.pk} --give-up" in out.getvalue()
    run("outbox_batch", batch.pk, "--give-up", "--database", alias)
    assert state_of(batch) == "withdrawn"


def test_an_unknown_batch_and_options_that_do_not_fit_are_errors(alias):
    with pytest.raises(CommandError, match=r"No batch 99 .* may have been purged"):
        run("outbox_batch", 99, "--database", alias)
    with pytest.raises(CommandError, match="--without-listing needs --retry-now"):
        run("outbox_batch", 99, "--without-listing", "--database", alias)


def test_discard_asks_and_records(alias, monkeypatch):
    row = outbox.enqueue(record(1), using=alias)
    monkeypatch.setattr("builtins.input", lambda question: "no")
    with pytest.raises(CommandError, match="Nothing was changed"):
        run("outbox_discard", "--workspace", "default", "--database", alias)
    assert state_of(row) == "pending"
    monkeypatch.setattr("builtins.input", lambda question: "yes")
    arguments = (
        "--workspace",
        "default",
        "--group",
        "message",
        "prod-abc",
        "--reason",
        "left",
        "--database",
        alias,
    )
    text = run("outbox_discard", *arguments)
    assert "discarded 1 of 1: pending records, workspace default, type message, product id prod-abc" in text
    assert state_of(row) == "discarded"
    assert OutboxAction.objects.using(alias).get().reason == "left"
    assert run("outbox_discard", *arguments).endswith("product id prod-abc.\n")
    assert "Nothing is selected in" in run("outbox_discard", *arguments)
