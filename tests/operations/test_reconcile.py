"""A restored database: which records are at risk, and what becomes of them when a person decides."""

from __future__ import annotations

import dataclasses
import json
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from evermuse_outbox import outbox
from evermuse_outbox.delivery.context import context as contexts
from evermuse_outbox.delivery.context import epoch_name, open_context
from evermuse_outbox.delivery.context.epochs import MemoryEpochs
from evermuse_outbox.delivery.loop import Step, relay, seal_next, send_next
from evermuse_outbox.delivery.polling import find_unknown, is_database_known, walk_listings
from evermuse_outbox.models import (
    BatchState,
    OutboxAction,
    OutboxBatch,
    OutboxRecord,
    OutboxWorkspace,
    WorkspaceState,
    process_user,
)
from evermuse_outbox.operations import (
    Counts,
    compare,
    discard_at_risk,
    hold,
    last_sign_of_life,
    release,
)
from evermuse_outbox.ratelimit import key_fingerprint
from evermuse_outbox.sandbox import Fault
from tests.backup import restore_backup, take_backup
from tests.conftest import FreeThrottle
from tests.delivery.helpers import batches, deliver, posts, state_of, workspace
from tests.records import enqueue, record

TEXT = "latest"


@pytest.fixture(autouse=True)
def present_time(clock):
    """Records are enqueued at the real time, so the simulated clock begins there."""
    clock.at = timezone.now()


@pytest.fixture
def context(context, alias, sandbox, outbox_settings, reopen):
    """A context of a project that has only one database, with an epoch store of its own."""
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", DATABASES=[alias])
    return dataclasses.replace(context, settings=reopen().settings, epochs=MemoryEpochs())


@pytest.fixture
def restored(context, alias, clock, sandbox):
    """Restore a backup with a pending record, one in doubt, and one of a type of which nothing was lost."""
    enqueue(alias, "first")
    deliver(context, clock)
    enqueue(alias, "doubtful", data={"text": "old"})
    sandbox.fail_next(Fault.drop_before())
    relay(context, 0.001)
    enqueue(alias, "pending", data={"text": "old"})
    enqueue(alias, "email", _type="email", data={"subject": "s", "body": "b", "from": "a@b.c", "to": "d@e.f"})
    backup = take_backup(alias)
    enqueue(alias, "doubtful", "pending", data={"text": TEXT})
    OutboxRecord.rows.using(alias).filter(type="email")._raw_delete(alias)
    deliver(context, clock)
    restore_backup(alias, backup)


def reconcile(context):
    since = last_sign_of_life(context)
    listed = [status for page in walk_listings(context, since) for status in page.statuses]
    return compare(context, listed, find_unknown(context, listed, since), since)


def texts(sandbox):
    return {
        dict(stored.identity.vendor_ids)["message_id"]: stored.record["data"].get("text")
        for stored in sandbox.records()
        if stored.identity.type == "message"
    }


def test_the_report_names_what_is_at_risk_and_what_is_safe(context, alias, clock, sandbox, restored):
    relay(context, 60)
    result = reconcile(context)
    assert result.is_held
    assert set(result.cutoffs) == {"message"}
    assert len(result.unknown.unexplained) + len(result.unknown.explained) == 3
    assert result.at_risk == Counts(pending=1, in_batches=1)
    assert result.safe == Counts(pending=0, in_batches=1)
    assert (result.leased, result.failed, result.unfinished) == (0, (), 0)


def test_after_discard_and_release_nothing_older_overwrites_anything_newer(
    context, alias, clock, sandbox, restored
):
    relay(context, 60)
    assert workspace(alias).state == WorkspaceState.RESTORED
    before = texts(sandbox)
    assert discard_at_risk(context, reconcile(context)) == 2
    assert release(context)
    enqueue(alias, "after", data={"text": TEXT})
    deliver(context, clock)
    assert texts(sandbox) == before | {"msg-after": TEXT}
    states = list(OutboxRecord.objects.using(alias).order_by("pk").values_list("state", flat=True))
    assert states == ["delivered", "discarded", "discarded", "delivered", "delivered"]
    assert BatchState.WITHDRAWN in [row.state for row in batches(alias)]


def test_release_alone_sends_everything_and_in_doubt_keeps_its_key(context, alias, clock, sandbox, restored):
    relay(context, 60)
    (doubtful,) = [row for row in batches(alias) if row.state == BatchState.IN_DOUBT]
    assert release(context)
    assert not release(context)
    deliver(context, clock)
    states = set(OutboxRecord.objects.using(alias).values_list("state", flat=True))
    assert states == {"delivered"}
    assert posts(sandbox)[-2].headers["Idempotency-Key"] == doubtful.key or doubtful.key in {
        arrival.headers["Idempotency-Key"] for arrival in posts(sandbox)
    }


def test_a_scheduled_record_is_at_risk_too(context, alias, clock, sandbox):
    enqueue(alias, "first")
    deliver(context, clock)
    old = outbox.enqueue(record("later"), using=alias, send_after=timedelta(hours=1))
    backup = take_backup(alias)
    enqueue(alias, "later", data={"text": TEXT})
    deliver(context, clock)
    restore_backup(alias, backup)
    relay(context, 60)
    result = reconcile(context)
    assert result.at_risk == Counts(pending=1, in_batches=0)
    assert discard_at_risk(context, result) == 1
    assert state_of(old) == "discarded"


def test_a_release_ends_the_epoch_of_the_replaced_database(context, alias, clock, sandbox, restored):
    relay(context, 60)
    old = workspace(alias).epoch
    backup = take_backup(alias)
    assert release(context)
    assert context.epochs.latest(epoch_name(old, "default")) > 10**9
    restore_backup(alias, backup)
    OutboxWorkspace.objects.using(alias).update(state="active")
    sent = len(posts(sandbox))
    relay(context, 60)
    assert (workspace(alias).state, len(posts(sandbox))) == (WorkspaceState.RESTORED, sent)


def test_members_of_a_batch_that_are_safe_become_pending_again(context, alias, clock, sandbox, restored):
    """A batch that was sealed after the restore holds old and new records."""
    clock.move(600)
    enqueue(alias, "new")
    OutboxRecord.rows.using(alias).filter(
        pk=OutboxRecord.rows.using(alias).order_by("-pk").first().pk
    ).update(enqueued_at=clock.now())
    relay(context, 60)
    result = reconcile(context)
    assert (result.at_risk.pending + result.at_risk.in_batches) == 2
    assert discard_at_risk(context, result) == 2
    assert release(context)
    deliver(context, clock)
    assert texts(sandbox) == {
        "msg-first": "Hello first",
        "msg-doubtful": TEXT,
        "msg-pending": TEXT,
        "msg-new": "Hello new",
    }


def test_an_accepted_batch_that_failed_is_not_sent_again(context, alias, clock, sandbox):
    sandbox.fail_next(Fault.failed_batch())
    enqueue(alias, 1, data={"text": "old"})
    relay(context, 0.001)
    backup = take_backup(alias)
    deliver(context, clock)
    enqueue(alias, 1, data={"text": TEXT})
    deliver(context, clock)
    restore_backup(alias, backup)
    assert hold(context, reason="by hand")
    result = reconcile(context)
    assert len(result.failed) == 1
    assert discard_at_risk(context, result) == 1
    release(context)
    deliver(context, clock)
    assert texts(sandbox) == {"msg-1": TEXT}


# --- the command --------------------------------------------------------------------------------------


def run(*arguments):
    out = StringIO()
    call_command("outbox_reconcile", *arguments, stdout=out, stderr=StringIO())
    return out.getvalue()


@pytest.fixture
def command(monkeypatch, context):
    """Return a function that runs the command on one database, with the context of the test."""
    module = "evermuse_outbox.management.commands.outbox_reconcile"
    monkeypatch.setattr(f"{module}.open_context", lambda using, name: context)
    return run


def test_the_command_reports_as_text_and_json_and_changes_nothing(context, alias, clock, command, restored):
    assert "No workspace is held." in command()
    relay(context, 60)
    text = command()
    assert "At risk of overwriting something newer: 1 pending records, 1 in unsent batches." in text
    assert "Proven safe: 0 pending records, 1 in unsent batches" in text
    (result,) = json.loads(command("--json"))["workspaces"]
    assert result["held"]
    assert len(result["unknown"]) + len(result["unknown_or_in_doubt"]) == 3
    assert result["at_risk"] == {"pending": 1, "in_batches": 1}
    assert workspace(alias).state == WorkspaceState.RESTORED


def test_the_command_acts_after_a_confirmation(context, alias, clock, command, restored, monkeypatch):
    relay(context, 60)
    monkeypatch.setattr("builtins.input", lambda question: "no")
    with pytest.raises(CommandError, match="Nothing was changed"):
        command("--discard", "--release")
    assert workspace(alias).state == WorkspaceState.RESTORED
    text = command("--discard", "--release", "--no-input", "--reason", "backup of 3 o'clock")
    assert "Discarded 2 records" in text
    actions = OutboxAction.objects.using(alias).order_by("pk").values_list("kind", "records", "reason", "by")
    by = process_user()
    assert list(actions) == [
        ("discard", 2, "backup of 3 o'clock", by),
        ("release", None, "backup of 3 o'clock", by),
    ]
    assert "active again" in text
    assert workspace(alias).state == WorkspaceState.ACTIVE


def test_a_person_can_hold_a_workspace_before_workers_start(context, alias, clock, command, sandbox):
    enqueue(alias, 1)
    assert "is held" in command("--hold")
    assert "held already" in command("--hold")
    relay(context, 60)
    assert posts(sandbox) == []
    with pytest.raises(CommandError, match="--since"):
        command()
    assert "active again" in command("--since", "2026-03-01T12:00:00Z", "--release", "--no-input")
    deliver(context, clock)
    assert len(sandbox.records()) == 1


def test_the_command_refuses_what_cannot_be_done(context, alias, clock, command):
    with pytest.raises(CommandError, match="cannot be combined"):
        command("--hold", "--release")
    with pytest.raises(CommandError, match="No workspace"):
        command("--workspace", "nowhere")
    with pytest.raises(CommandError, match="is no time"):
        command("--workspace", "default", "--since", "yesterday")
    with pytest.raises(CommandError, match="is not held"):
        command("--workspace", "default", "--since", "2026-03-01", "--release", "--no-input")
    enqueue(alias, 1)
    seal_next(context)
    hold(context, reason="by hand")
    with pytest.raises(CommandError, match="are leased"):
        command("--since", "2026-03-01T12:00", "--discard", "--no-input")
    assert OutboxBatch.objects.using(alias).get().state == BatchState.SENDING


# --- several API keys -----------------------------------------------------------------------------------

KEYS = ("em_sk_sandbox_a", "em_sk_sandbox_b")


@pytest.fixture
def pool(context, alias, sandbox, outbox_settings, monkeypatch):
    """A context with two API keys, each of which lists only its own batches."""
    for key in KEYS:
        sandbox.set_key(key, {"api:write", "api:read"})
    sandbox.set_scopes(listing="key")
    outbox_settings(API_URL=sandbox.url, API_KEY=KEYS[0], API_KEYS=[KEYS[1]], DATABASES=[alias])
    monkeypatch.setattr(contexts, "open_throttle", lambda workspace, settings: FreeThrottle())
    return dataclasses.replace(open_context(alias, "default"), clock=context.clock, epochs=MemoryEpochs())


@pytest.fixture
def lost_by_each_key(pool, alias, clock):
    """Send a batch with each key, and restore the backup that was taken after the first batch of the first key."""
    for number, key in enumerate((KEYS[0], *KEYS)):
        enqueue(alias, number)
        assert send_next(pool.with_key(key_fingerprint(pool.workspace.api_url, key))) is Step.SENT
        clock.move(5)
        if not number:
            backup = take_backup(alias)
    restore_backup(alias, backup)


@pytest.mark.parametrize("listing", ["key", "workspace"])
def test_the_command_reads_the_listing_of_each_key(pool, lost_by_each_key, sandbox, listing):
    sandbox.set_scopes(listing=listing)
    (report,) = json.loads(run("--workspace", "default", "--json"))["workspaces"]
    assert len(report["unknown"]) == 2


def test_the_listing_that_shows_the_batches_of_all_keys_is_read_once(pool, lost_by_each_key, sandbox):
    sandbox.set_scopes(listing="workspace")
    pages = list(walk_listings(pool, last_sign_of_life(pool)))
    assert [len(page.statuses) for page in pages] == [3]


def test_the_command_decides_nothing_if_the_listing_of_a_key_cannot_be_read(pool, lost_by_each_key, sandbox):
    sandbox.remove_key(KEYS[1])
    fingerprint = key_fingerprint(sandbox.url, KEYS[1])
    with pytest.raises(CommandError, match=f"with the API key {fingerprint[:8]}.*Nothing was changed"):
        run("--workspace", "default", "--hold")
        run("--workspace", "default", "--release", "--no-input")
    assert workspace(pool.using).state == WorkspaceState.RESTORED


@pytest.mark.parametrize("lost_key", KEYS)
def test_a_new_process_finds_the_lost_batches_of_each_key(pool, alias, clock, lost_key):
    enqueue(alias, 1)
    assert send_next(pool) is Step.SENT
    clock.move(5)
    backup = take_backup(alias)
    enqueue(alias, 2)
    assert send_next(pool.with_key(key_fingerprint(pool.workspace.api_url, lost_key))) is Step.SENT
    restore_backup(alias, backup)
    assert not is_database_known(dataclasses.replace(pool, epochs=MemoryEpochs()))
    assert workspace(alias).state == WorkspaceState.RESTORED
