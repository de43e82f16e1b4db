"""What a person holds stays held: no seal, no send and no probe, whatever Evermuse answers."""

from __future__ import annotations

import pytest

from evermuse_outbox import outbox
from evermuse_outbox.delivery.loop import poll, relay, seal_next, send
from evermuse_outbox.insight import explain_batch, explain_record
from evermuse_outbox.models import (
    BatchState,
    GroupState,
    OutboxAction,
    OutboxBatch,
    OutboxGroup,
    OutboxRecord,
    OutboxWorkspace,
)
from evermuse_outbox.operations import (
    NotPossible,
    pause_group,
    pause_workspace,
    resume_group,
    resume_workspace,
    retry_records,
)
from evermuse_outbox.sandbox import Fault
from evermuse_outbox.upkeep import forget_groups
from tests.delivery.helpers import state_of
from tests.records import make_invalid, record

GROUP = ("message", "prod-abc")


def test_a_held_workspace_sends_nothing_but_polls_until_a_person_resumes_it(context, alias, sandbox, clock):
    first = outbox.enqueue(record(1), using=alias)
    relay(context, 60)
    second = outbox.enqueue(record(2), using=alias)
    pause_workspace(alias, "default", by="anna", reason="audit", clock=context.clock)
    for _ in range(5):
        clock.move(400)
        assert relay(context, 60) == 0
        poll(context, 60)
    assert (state_of(first), state_of(second)) == ("delivered", "pending")
    row = OutboxWorkspace.objects.using(alias).get()
    assert (row.state, row.held_by, row.reason) == ("held", "anna", "audit")
    assert "Held by anna since" in explain_record(second)
    assert "audit" in explain_record(second)
    with pytest.raises(NotPossible, match="is held already"):
        pause_workspace(alias, "default", clock=context.clock)
    assert resume_workspace(alias, "default", by="ben", reason="done", clock=context.clock).was == "held"
    relay(context, 60)
    assert state_of(second) == "in_flight"
    actions = OutboxAction.objects.using(alias).order_by("pk").values_list("kind", "by", "reason", "target")
    assert list(actions) == [
        ("pause", "anna", "audit", "workspace default"),
        ("resume", "ben", "done", "workspace default"),
    ]


def test_no_answer_of_the_api_ends_a_hold(context, alias, sandbox, clock):
    outbox.enqueue(record(1), using=alias)
    relay(context, 60)
    pause_workspace(alias, "default", clock=context.clock)
    for status in (401, 402, 503):
        sandbox.fail_next(Fault(status=status))
        clock.move(400)
        poll(context, 60)
        assert OutboxWorkspace.objects.using(alias).get().state == "held"


def test_a_held_group_is_not_sealed_while_others_are_sent(context, alias, sandbox, clock):
    held = outbox.enqueue(record(1), using=alias)
    free = outbox.enqueue(record(2, _product_id="prod-xyz"), using=alias)
    pause_group(alias, "default", GROUP, by="anna", reason="wrong data", clock=context.clock)
    for _ in range(5):
        relay(context, 60)
        clock.move(400)
        poll(context, 60)
        forget_groups(alias, context.clock)
    clock.move(30 * 86_400)
    forget_groups(alias, context.clock)
    relay(context, 60)
    assert (state_of(held), state_of(free)) == ("pending", "delivered")
    row = OutboxGroup.objects.using(alias).get()
    assert (row.state, row.held_by, row.probes) == (GroupState.HELD, "anna", 0)
    assert "Held by anna since" in explain_record(held)
    with pytest.raises(NotPossible, match="is held already"):
        pause_group(alias, "default", GROUP, clock=context.clock)
    assert resume_group(alias, row).because == "wrong data"
    relay(context, 60)
    assert state_of(held) == "in_flight"


def test_sealed_batches_of_a_held_group_are_withdrawn_and_those_in_doubt_wait(context, alias, sandbox, clock):
    doubtful = outbox.enqueue(record(1), using=alias)
    sandbox.fail_next(Fault(status=503))
    relay(context, 60)
    sealed = outbox.enqueue(record(2), using=alias)
    batch = seal_next(context).batch
    OutboxBatch.objects.using(alias).requeue(batch, due_at=context.clock.now())
    pause_group(alias, "default", GROUP, clock=context.clock)
    assert state_of(sealed) == "pending"
    in_doubt = OutboxBatch.objects.using(alias).get(state=BatchState.IN_DOUBT)
    clock.move(400)
    resume_workspace(alias, "default", clock=context.clock)  # it backs off after the 503
    sent = len(sandbox.arrivals)
    assert relay(context, 60) == 0
    assert len(sandbox.arrivals) == sent
    assert "Held by" in explain_batch(in_doubt)
    resume_group(alias, OutboxGroup.objects.using(alias).get())
    relay(context, 60)
    clock.move(400)
    poll(context, 60)
    assert (state_of(doubtful), state_of(sealed)) == ("delivered", "delivered")


def test_records_of_a_batch_that_failed_are_not_withdrawn_because_evermuse_may_have_them(
    context, alias, sandbox, clock
):
    older = outbox.enqueue(record(1), using=alias)
    make_invalid(older)
    relay(context, 60)
    assert state_of(older) == "rejected"
    newer = outbox.enqueue(record(1, data={"text": "newer"}), using=alias)
    sandbox.fail_next(Fault.failed_batch())
    relay(context, 60)
    clock.move(60)
    poll(context, 60)
    again, failed, _ = OutboxBatch.objects.using(alias).order_by("-pk")
    assert (failed.state, again.state, again.parent_id) == ("failed", "sealed", failed.pk)
    pause_group(alias, "default", GROUP, clock=context.clock)
    assert state_of(newer) == "in_flight"
    assert OutboxRecord.rows.using(alias).filter(pk=newer.pk).discard() == 0
    assert retry_records(alias, [older.pk]).refused == {older.pk: newer.pk}
    resume_group(alias, OutboxGroup.objects.using(alias).get())
    clock.move(400)
    relay(context, 60)
    clock.move(60)
    poll(context, 60)
    assert state_of(newer) == "delivered"


def test_a_refusal_of_a_batch_that_was_under_way_makes_its_records_pending(context, alias, sandbox, clock):
    row = outbox.enqueue(record(1, _product_id="prod-unknown"), using=alias)
    batch = seal_next(context)
    pause_group(alias, "default", ("message", "prod-unknown"), clock=context.clock)
    sandbox.fail_next(Fault(status=400))
    send(context, batch)
    assert state_of(row) in ("pending", "rejected", "in_flight")
    assert OutboxGroup.objects.using(alias).get().state == GroupState.HELD
