"""Erase a person from batches in every state: nothing of her is left, and the other records are delivered."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.apps import apps
from django.db import IntegrityError, connections, transaction

from evermuse_outbox import operations, outbox
from evermuse_outbox.delivery.loop import poll, relay, seal_next, send
from evermuse_outbox.delivery.sending import give_back
from evermuse_outbox.models import (
    BatchState,
    Decision,
    OutboxAction,
    OutboxAttempt,
    OutboxBatch,
    OutboxRecord,
    OutboxTerm,
)
from evermuse_outbox.operations.erasing import (
    ERASED,
    AtEvermuse,
    Selection,
    erase_records,
    find_records,
    forget_texts,
)
from evermuse_outbox.sandbox import Fault
from evermuse_outbox.search import index_records
from tests.delivery.helpers import batches, deliver, posts, serve, state_of
from tests.records import make_invalid, record
from tests.rows import group

ADDRESS, VENDOR_ID, NAME = "ada@example.com", "msg-of-ada", "Ada King"
PERSON = {"id": "user-ada", "role": "external", "email": ADDRESS, "name": NAME}
WHO = Decision("operator", "a request")


def enqueue(alias, invalid=False):
    """Enqueue a record of the person between two others. Return the three rows."""
    records = [
        record(1),
        record(2, _vendor_ids={"message_id": VENDOR_ID}, _participants=[PERSON]),
        record(3),
    ]
    rows = [outbox.enqueue(each, using=alias) for each in records]
    if invalid:
        make_invalid(rows[1])
    return rows


def traces(alias, *texts):
    """Return each place in the tables of the outbox that contains one of the texts."""
    texts = texts or (ADDRESS, VENDOR_ID, NAME, "user-ada")
    return [
        f"{model.__name__}.{field.name} of #{row.pk}"
        for model in apps.get_app_config("evermuse_outbox").get_models()
        for row in model._base_manager.using(alias)
        for field in model._meta.concrete_fields
        if any(text in json.dumps(getattr(row, field.attname), default=str) for text in texts)
    ]


def erase(alias, participant=ADDRESS, **options):
    """Erase a participant. Return the lines of the report."""
    lines = []
    for page in find_records(alias, Selection(participant=participant)):
        erase_records(alias, page.pks, WHO, report=lines.extend, **options)
    forget_texts(alias, [participant])
    return lines


def leave_pending(context, sandbox, clock):
    return AtEvermuse.NEVER_SENT


def leave_sealed(context, sandbox, clock):
    give_back(context, seal_next(context))
    return AtEvermuse.NEVER_SENT


def leave_throttled(context, sandbox, clock):
    sandbox.fail_next(Fault(status=429, body={"retryAfter": 1, "message": f"not now, {ADDRESS}"}))
    relay(context, 1)
    clock.move(60)
    return AtEvermuse.REFUSED


def leave_in_doubt(context, sandbox, clock):
    sandbox.fail_next(Fault.drop_after())
    relay(context, 1)
    clock.move(context.settings.backoff_cap)
    return AtEvermuse.MAY_HAVE


def leave_in_doubt_after_500(context, sandbox, clock):
    sandbox.fail_next(Fault(status=500, body={"error": f"cannot store {NAME} <{ADDRESS}>"}))
    relay(context, 1)
    clock.move(context.settings.backoff_cap)
    return AtEvermuse.MAY_HAVE


def leave_accepted(context, sandbox, clock):
    relay(context, 60)
    return AtEvermuse.HAS


def leave_complete(context, sandbox, clock):
    relay(context, 60)
    clock.move(5)
    poll(context, 60)
    return AtEvermuse.HAS


def leave_isolating(context, sandbox, clock):
    leave_in_doubt(context, sandbox, clock)
    (batch,) = batches(context.using)
    operations.isolate_batch(context, batch.pk)
    return AtEvermuse.MAY_HAVE


def leave_failed(context, sandbox, clock):
    sandbox.fail_next(Fault(batch_fails=True))
    relay(context, 1)
    clock.move(5)
    poll(context, 60)
    return AtEvermuse.MAY_HAVE


STATES = {
    name.removeprefix("leave_"): step for name, step in list(globals().items()) if name.startswith("leave_")
}


@pytest.mark.parametrize("leave", STATES.values(), ids=STATES)
def test_a_person_is_erased_and_the_others_are_delivered(context, alias, sandbox, clock, leave):
    rows = enqueue(alias)
    expected = leave(context, sandbox, clock)
    index_records(alias, clock.monotonic)
    (line,) = erase(alias)
    assert (line.record, line.at_evermuse, line.vendor_ids) == (
        rows[1].pk,
        expected,
        {"message_id": VENDOR_ID},
    )
    assert traces(alias) == []
    assert bool(line.requests) == (leave not in (leave_pending, leave_sealed))
    deliver(context, clock)
    clock.move(400)
    deliver(context, clock)
    assert [state_of(row) for row in (rows[0], rows[2])] == ["delivered"] * 2
    assert traces(alias) == []
    arrived = [stored.record["_vendor_ids"]["message_id"] for stored in sandbox.records()]
    assert {"msg-1", "msg-3"} <= set(arrived)
    if expected in (AtEvermuse.NEVER_SENT, AtEvermuse.REFUSED):
        assert VENDOR_ID not in arrived
    action = OutboxAction.objects.using(alias).exclude(kind="isolate").get()
    assert (action.kind, action.by, action.reason, action.records) == ("erase", "operator", "a request", 1)


def test_a_person_is_erased_while_a_request_is_on_its_way(context, alias, sandbox, clock):
    rows = enqueue(alias)
    sealed = seal_next(context)
    (line,) = erase(alias)
    assert (line.at_evermuse, line.requests[0].key) == (AtEvermuse.MAY_HAVE, sealed.batch.key)
    send(context, sealed)
    deliver(context, clock)
    assert [state_of(row) for row in (rows[0], rows[2])] == ["delivered"] * 2
    assert traces(alias) == []
    assert len(posts(sandbox)) == 1


@pytest.mark.parametrize("strict", [True, False], ids=["400", "202 in part"])
@pytest.mark.parametrize("errors_in", ["body", "nowhere"])
def test_a_rejected_person_is_erased_with_all_messages(context, alias, clock, strict, errors_in):
    rows = enqueue(alias, invalid=True)
    options = {} if errors_in == "body" else {"errors_in": errors_in}
    with serve(context, clock, strict=strict, **options) as (context, _):
        deliver(context, clock)
        assert state_of(rows[1]) == "rejected"
        # A server may quote any part of the record.
        quote = f"_participants[0]: {NAME} is not known at {VENDOR_ID}"
        rows[1].rejections.update(message=quote)
        for batch in batches(alias):
            errors = [
                {"index": 1, "code": "BAD", "message": quote},
                {"index": 0, "code": "X", "message": "other"},
            ]
            OutboxBatch.objects.using(alias).filter(pk=batch.pk).update(errors=errors, message=quote)
        OutboxAttempt.objects.using(alias).filter(batch__isnull=False).update(
            detail=f'{{"errors":"{quote}"}}'
        )
        (line,) = erase(alias)
        assert line.at_evermuse == AtEvermuse.REFUSED
        assert line.requests
        assert traces(alias) == []
        deliver(context, clock)
    assert [state_of(row) for row in (rows[0], rows[2])] == ["delivered"] * 2
    assert traces(alias) == []


def test_the_messages_about_other_records_of_the_batch_stay(context, alias, sandbox, clock):
    rows = enqueue(alias)
    make_invalid(rows[0], rows[1])
    relay(context, 60)
    (batch,) = batches(alias)
    messages = [error["message"] for error in batch.errors]
    erase(alias)
    batch.refresh_from_db()
    assert [error["message"] for error in batch.errors] == [messages[0], ERASED]
    assert rows[0].rejections.get().message == messages[0]


def test_a_transport_error_stays_because_it_says_why_the_others_wait(context, alias, sandbox, clock):
    enqueue(alias)
    leave_in_doubt(context, sandbox, clock)
    (before,) = batches(alias)
    erase(alias)
    (after,) = batches(alias)
    assert after.message == before.message != ""
    assert after.attempts.get().detail not in ("", ERASED)


def test_all_versions_are_erased_together(context, alias, sandbox, clock):
    """Otherwise an older version without the person could follow the newer one that Evermuse has."""
    older = outbox.enqueue(record(2, _vendor_ids={"message_id": VENDOR_ID}), using=alias)
    make_invalid(older)
    relay(context, 60)
    enqueue(alias)
    relay(context, 60)
    lines = erase(alias)
    assert [line.at_evermuse for line in lines] == [AtEvermuse.REFUSED, AtEvermuse.HAS]
    assert traces(alias) == []
    assert operations.retry_records(alias, [older.pk]).reopened == ()


def test_after_a_retry_of_a_named_record_evermuse_does_not_have_it(context, alias, sandbox, clock):
    rows = enqueue(alias, invalid=True)
    deliver(context, clock)
    operations.retry_records(alias, [rows[1].pk])
    (line,) = erase(alias)
    assert (line.state, line.at_evermuse) == ("pending", AtEvermuse.REFUSED)


def test_after_a_batch_in_doubt_was_given_up_evermuse_may_have_it(context, alias, sandbox, clock):
    enqueue(alias)
    leave_in_doubt(context, sandbox, clock)
    operations.give_up_batch(alias, batches(alias)[0].pk, reason=f"asked by {ADDRESS}")
    (line,) = erase(alias)
    assert (line.state, line.at_evermuse) == ("rejected", AtEvermuse.MAY_HAVE)
    assert traces(alias) == []  # the reason, too
    assert OutboxAction.objects.using(alias).get(kind="give_up").reason == f"asked by {ERASED}"


def test_texts_are_forgotten_everywhere(context, alias):
    row = group(
        alias, reason=f"3 batches were refused. {ADDRESS.upper()} is unknown", error_signature=ADDRESS
    )
    OutboxAttempt.objects.using(alias).create(
        workspace="default",
        call="listing",
        started_at=context.clock.now(),
        outcome="read",
        detail=f"<{ADDRESS}>",
    )
    OutboxAction.objects.using(alias).log("pause", Decision("x", f"because of {ADDRESS}"), target=ADDRESS)
    assert forget_texts(alias, [ADDRESS]) == 3
    row.refresh_from_db()
    assert row.reason == f"3 batches were refused. {ERASED} is unknown"
    assert traces(alias, ADDRESS, ADDRESS.upper()) == []
    assert forget_texts(alias, [ADDRESS]) == 0
    assert forget_texts(alias, ["a", "is"]) == 0  # too short: they would be found everywhere


@pytest.mark.parametrize(
    "conditions", [{"vendor_id": f"message_id={VENDOR_ID}*"}, {"label": ("customer", VENDOR_ID)}]
)
def test_conditions_of_a_rule_that_is_over_are_erased_and_an_active_one_needs_them(
    context, alias, conditions
):
    rule = operations.make_rule(alias, operations.RuleDefinition("discard", **conditions), reason="x").row
    enqueue(alias)
    erase(alias)
    assert traces(alias, VENDOR_ID)
    operations.end_rule(alias, rule.pk, reason="y")
    enqueue(alias)
    erase(alias)
    assert traces(alias, VENDOR_ID) == []
    rule.refresh_from_db()
    assert ERASED in rule.vendor_id + rule.label_value
    targets = OutboxAction.objects.using(alias).filter(kind__in=("make_rule", "end_rule"))
    assert [ERASED in row.target for row in targets] == [True, True]


def test_a_text_in_a_full_column_is_replaced(alias):
    long = "*" * 392 + VENDOR_ID[:8]
    rule = operations.make_rule(alias, operations.RuleDefinition("hold", vendor_id=long), reason="x").row
    operations.end_rule(alias, rule.pk)
    assert forget_texts(alias, [VENDOR_ID[1:8]]) == 1
    rule.refresh_from_db()
    assert len(rule.vendor_id) == 400


def test_steps_add_to_one_action(alias):
    rows = enqueue(alias)
    erased = None
    for row in rows:
        erased = erase_records(alias, [row.pk], WHO, target="two steps", erased=erased)
    assert (erased.count, erased.records) == (3, {AtEvermuse.NEVER_SENT: 3})
    action = OutboxAction.objects.using(alias).get()
    assert (action.records, action.target, action.workspace) == (3, "two steps", "default")
    assert erase_records(alias, [rows[0].pk], WHO, erased=erased).count == 3


@pytest.mark.commits
def test_if_the_report_cannot_be_written_nothing_is_erased(alias):
    rows = enqueue(alias)

    def fails(lines):
        raise OSError("disk full")

    with pytest.raises(OSError):
        erase_records(alias, [rows[1].pk], WHO, report=fails)
    assert OutboxRecord.rows.using(alias).count() == 3
    assert not OutboxAction.objects.using(alias).exists()


def test_without_the_action_nothing_is_erased(alias, monkeypatch):
    rows = enqueue(alias)

    def fails(*given, **options):
        raise IntegrityError

    monkeypatch.setattr(type(OutboxAction.objects.all()), "log", fails)
    with pytest.raises(IntegrityError), transaction.atomic(using=alias):
        erase_records(alias, [rows[1].pk], WHO)
    assert OutboxRecord.rows.using(alias).count() == 3


def test_the_search_index_finds_a_person_even_without_payload(context, alias, sandbox, clock, monkeypatch):
    rows = enqueue(alias)
    leave_complete(context, sandbox, clock)
    OutboxRecord.rows.using(alias).update(enqueued_at=context.clock.now() - timedelta(days=900))
    for _ in range(3):
        index_records(alias, clock.monotonic)
    OutboxRecord.rows.using(alias).drop_payloads()
    assert OutboxTerm.objects.using(alias).filter(record_id=rows[1].pk).exists()
    (line,) = erase(alias)
    assert (line.record, line.vendor_ids, line.at_evermuse) == (rows[1].pk, {}, AtEvermuse.HAS)
    assert not OutboxTerm.objects.using(alias).filter(record_id=rows[1].pk).exists()
    assert OutboxRecord.rows.using(alias).count() == 2


@pytest.mark.parametrize("uses_index", [True, False])
def test_records_that_the_index_does_not_have_yet_are_found(context, alias, uses_index):
    first = enqueue(alias)[1]
    OutboxRecord.rows.using(alias).update(enqueued_at=context.clock.now() - timedelta(days=900))
    index_records(alias, context.clock.monotonic)
    second = enqueue(alias)[1]
    pages = find_records(alias, Selection(participant=ADDRESS), uses_index=uses_index)
    assert [pk for page in pages for pk in page.pks] == [first.pk, second.pk]


@pytest.mark.commits
def test_a_record_that_a_worker_takes_meanwhile_is_erased_from_its_batch(context, alias, sandbox, clock):
    if not connections[alias].features.has_select_for_update:
        pytest.skip("SQLite has one writer at a time")
    rows = enqueue(alias)
    sealed = seal_next(context)
    erase_records(alias, [rows[1].pk], WHO)
    give_back(context, sealed)
    deliver(context, clock)
    old, new = batches(alias)
    assert (old.state, new.state, new.record_count) == (BatchState.SPLIT, BatchState.COMPLETE, 2)
