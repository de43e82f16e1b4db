"""Make, preview and end standing rules: what is refused, withdrawn and recorded."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connections, transaction

from evermuse_outbox.delivery.context import statement_deadlines
from evermuse_outbox.delivery.loop import relay, seal_next
from evermuse_outbox.delivery.rules import is_applied, withdraw_matching
from evermuse_outbox.delivery.sending import give_back
from evermuse_outbox.models import OutboxAction, OutboxBatch, OutboxRule, process_user
from evermuse_outbox.operations import (
    InvalidRule,
    NotPossible,
    RuleDefinition,
    end_rule,
    make_rule,
    preview_rule,
)
from evermuse_outbox.operations.rules import preview
from evermuse_outbox.sandbox import Fault
from tests.delivery.helpers import batches, state_of
from tests.records import enqueue

HOLD = RuleDefinition("hold", vendor_id="msg-1")


def in_thread(function, context):
    """Call a function of the delivery in a thread, which has connections of its own.

    A statement that waits for a lock of the test ends at its deadline, so the test fails and does not hang.
    """

    @statement_deadlines()
    def call():
        try:
            function(context)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(call).result(60)


def seal_and_give_back(context):
    """Leave a sealed batch that no worker holds."""
    give_back(context, seal_next(context))


def states_of(alias):
    return [batch.state for batch in batches(alias)]


def actions(alias):
    rows = OutboxAction.objects.using(alias).order_by("pk")
    return [(row.kind, row.by, row.workspace, row.target, row.reason) for row in rows]


def test_a_rule_is_recorded_with_the_person_and_the_reason(context, alias, clock):
    rule = RuleDefinition("hold", "default", "email", "prod-1", ("customer", "acme"), "msg-*")
    made = make_rule(alias, rule, by="ada", reason="wrong import", clock=context.clock)
    row = OutboxRule.objects.using(alias).get()
    assert made.is_applied
    assert (row.by, row.reason, row.created_at, row.applied_at) == ("ada", "wrong import", clock.at, clock.at)
    assert (row.label_name, row.label_value, row.state) == ("customer", "acme", "active")
    conditions = "workspace default, type email, product id prod-1, label customer=acme, vendor id msg-*"
    target = f"rule #{row.pk}: hold records with {conditions}"
    assert actions(alias) == [("make_rule", "ada", "default", target, "wrong import")]


def test_the_end_of_a_rule_is_recorded_and_happens_once(context, alias, clock):
    row = make_rule(alias, HOLD, reason="x", clock=context.clock).row
    clock.move(5)
    ended = end_rule(alias, row.pk, by="bob", reason="done", clock=context.clock)
    assert (ended.state, ended.ended_by, ended.end_reason, ended.ended_at) == (
        "ending",
        "bob",
        "done",
        clock.at,
    )
    assert actions(alias)[-1][:2] == ("end_rule", "bob")
    with pytest.raises(NotPossible, match="has ended already"):
        end_rule(alias, row.pk)
    with pytest.raises(NotPossible, match="There is no rule"):
        end_rule(alias, 999_999)
    assert len(actions(alias)) == 2


@pytest.mark.parametrize(
    ("rule", "reason", "error"),
    [
        (RuleDefinition("hold"), "x", "The rule has no condition"),
        (RuleDefinition("keep", type="email"), "x", "There is no action keep"),
        (RuleDefinition("hold", type="e-mail"), "x", "There is no type e-mail"),
        (RuleDefinition("hold", "nowhere", type="email"), "x", "There is no workspace nowhere"),
        (RuleDefinition("hold", type="email"), " ", "Give a reason"),
        (RuleDefinition("hold", label=("customer", "")), "x", "needs a name and a value"),
        (RuleDefinition("hold", vendor_id="a\nb"), "x", "without control characters"),
        (RuleDefinition("hold", product_id="p" * 129), "x", "at most 128 characters"),
    ],
)
def test_a_wrong_rule_is_refused_with_its_fault(context, alias, rule, reason, error):
    with pytest.raises(InvalidRule, match=error):
        make_rule(alias, rule, reason=reason, clock=context.clock)
    assert not OutboxRule.objects.using(alias).exists()
    assert actions(alias) == []


def test_an_end_in_the_past_is_refused_and_all_faults_are_named(context, alias, clock):
    with pytest.raises(InvalidRule) as caught:
        make_rule(alias, RuleDefinition("hold", until=clock.at), reason="", clock=context.clock)
    assert len(caught.value.errors) == 3
    rule = RuleDefinition("hold", until=clock.at + timedelta(seconds=1))
    assert (
        make_rule(alias, rule, reason="x", may_match_all=True, clock=context.clock).row.by == process_user()
    )


def test_a_preview_counts_what_matches_and_names_examples(context, alias, monkeypatch):
    rows = enqueue(alias, *range(1, 13))
    shown = preview_rule(alias, RuleDefinition("hold", vendor_id="msg-1?"))
    assert (shown.looked, shown.matched, shown.is_partial) == (12, 3, False)
    assert shown.examples == tuple(row.pk for row in rows[9:12])
    assert preview_rule(alias, RuleDefinition("hold", product_id="prod-abc")).matched == 12
    assert preview_rule(alias, RuleDefinition("hold", type="email")).looked == 0
    monkeypatch.setattr(preview, "MAX_LOOKED", 4)
    shown = preview_rule(alias, RuleDefinition("hold", "default"))
    assert (shown.looked, shown.matched, shown.is_partial, len(shown.examples)) == (4, 4, True, 4)


def test_a_batch_that_was_surely_never_sent_is_withdrawn(context, alias):
    rows = enqueue(alias, 1, 2)
    give_back(context, seal_next(context))
    made = make_rule(alias, HOLD, reason="x", clock=context.clock)
    assert (made.withdrawn, made.is_applied) == (1, True)
    batch = OutboxBatch.objects.using(alias).get()
    assert (batch.state, batch.message) == (
        "withdrawn",
        f"Withdrawn by {made.row}; its records are pending again.",
    )
    assert [state_of(row) for row in rows] == ["pending", "pending"]


def test_a_batch_without_a_matching_record_stays(context, alias):
    enqueue(alias, 2, 3)
    give_back(context, seal_next(context))
    assert make_rule(alias, HOLD, reason="x", clock=context.clock).withdrawn == 0
    assert batches(alias)[0].state == "sealed"


def test_a_batch_in_doubt_stays_because_evermuse_may_have_it(context, alias, sandbox):
    enqueue(alias, 1)
    sandbox.fail_next(Fault(drop=True, after_handling=True))
    relay(context, 60)
    assert batches(alias)[0].state == "in_doubt"
    assert make_rule(alias, HOLD, reason="x", clock=context.clock).withdrawn == 0
    assert batches(alias)[0].state == "in_doubt"


def test_a_rule_is_not_applied_completely_while_a_worker_holds_a_batch(context, alias):
    enqueue(alias, 1)
    sealed = seal_next(context)
    made = make_rule(alias, HOLD, reason="x", clock=context.clock)
    assert (made.withdrawn, made.is_applied, sealed.batch.state) == (0, False, "sending")
    assert OutboxRule.objects.using(alias).get().applied_at is None


def test_a_batch_that_was_given_back_a_moment_ago_can_still_be_withdrawn(context, alias):
    enqueue(alias, 1)
    sealed = seal_next(context)
    row = make_rule(alias, HOLD, reason="x", clock=context.clock).row
    give_back(context, sealed)  # after withdraw_matching has met it in the hands of the worker
    assert not is_applied(alias, row)
    assert withdraw_matching(alias, "default", row, context.clock.now()) == 1
    assert is_applied(alias, row)


@pytest.mark.commits
def test_in_a_transaction_of_the_host_batches_are_withdrawn_after_its_commit(context, alias):
    enqueue(alias, 1)
    with transaction.atomic(using=alias):
        OutboxBatch.objects.using(alias).count()  # fixes the snapshot of MariaDB
        if connections[alias].vendor == "sqlite":  # a second connection would wait for this transaction
            seal_and_give_back(context)
        else:
            in_thread(seal_and_give_back, context)
        made = make_rule(alias, HOLD, reason="x", clock=context.clock)
        assert (made.withdrawn, made.is_applied) == (0, False)
        assert states_of(alias) == ["sealed"]
    assert states_of(alias) == ["withdrawn"]
    made.row.refresh_from_db()
    assert made.row.applied_at == context.clock.now()


@pytest.mark.commits
def test_a_rule_in_a_transaction_of_the_host_does_not_delay_the_workers(context, alias):
    if connections[alias].vendor == "sqlite":
        pytest.skip("one transaction writes at a time")
    enqueue(alias, 1, 2)
    with transaction.atomic(using=alias):
        make_rule(alias, HOLD, reason="x", clock=context.clock)
        in_thread(seal_and_give_back, context)
    assert states_of(alias) == ["withdrawn"]


@pytest.mark.commits
def test_a_rule_of_a_transaction_that_is_rolled_back_withdraws_nothing(context, alias):
    enqueue(alias, 1)
    seal_and_give_back(context)
    with transaction.atomic(using=alias):
        make_rule(alias, HOLD, reason="x", clock=context.clock)
        transaction.set_rollback(True, using=alias)
    assert states_of(alias) == ["sealed"]
