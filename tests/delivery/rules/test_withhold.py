"""Standing rules at work: what is held or discarded before it is sent, and what is not."""

from __future__ import annotations

import re
from datetime import timedelta
from importlib import import_module

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from evermuse_outbox import outbox
from evermuse_outbox.delivery.deferral import apply_all_due
from evermuse_outbox.delivery.loop import relay, seal_next, send
from evermuse_outbox.delivery.rules import tend, tend_rules
from evermuse_outbox.delivery.sealing import pages, seal
from evermuse_outbox.delivery.sending import give_back
from evermuse_outbox.insight import explain_record
from evermuse_outbox.models import OutboxDeferral, OutboxRecord, OutboxRuleMatch
from evermuse_outbox.operations import RuleDefinition, end_rule, make_rule
from evermuse_outbox.operations.erasing import delete_records
from evermuse_outbox.sandbox import Fault
from tests.delivery.helpers import deliver, state_of
from tests.records import enqueue, record
from tests.rows import group


def hold(context, until=None, **conditions):
    definition = RuleDefinition("hold", until=until, **conditions)
    return make_rule(context.using, definition, by="ada", reason="wrong import", clock=context.clock).row


def discard(context, **conditions):
    definition = RuleDefinition("discard", **conditions)
    return make_rule(context.using, definition, by="ada", reason="wrong import", clock=context.clock).row


def release(context):
    """Do what workers do once a second."""
    for _ in range(2):
        tend_rules(context.using, context.clock)
        apply_all_due(context.using, "default", context.clock)


def states(rows):
    return [state_of(row) for row in rows]


def rule_of(row):
    return OutboxRuleMatch.objects.using(row._state.db).get(pk=row.pk).rule


def test_pending_and_future_records_are_discarded_and_name_their_rule(context, alias, clock, sandbox):
    before = enqueue(alias, 1, 2)
    rule = discard(context, vendor_id="msg-1*")
    later = enqueue(alias, 10, 3)
    deliver(context, clock)
    assert states([*before, *later]) == ["discarded", "delivered", "discarded", "delivered"]
    assert rule_of(before[0]) == rule_of(later[0]) == rule
    rule.refresh_from_db()
    assert (rule.discarded, rule.held) == (2, 0)
    assert OutboxRuleMatch.objects.using(alias).count() == 2


def test_a_rule_that_has_ended_or_is_over_withholds_nothing(context, alias, clock):
    rule = discard(context, vendor_id="msg-1")
    end_rule(alias, rule.pk, clock=context.clock)
    (first,) = enqueue(alias, 1)
    deliver(context, clock)
    assert state_of(first) == "delivered"


def test_a_rule_of_another_workspace_or_group_withholds_nothing(context, alias, clock, outbox_settings):
    discard(context, type="email")
    discard(context, product_id="prod-ABC")
    rows = enqueue(alias, 1)
    deliver(context, clock)
    assert states(rows) == ["delivered"]


def test_a_whole_group_is_withheld_and_other_groups_go_on(
    context, alias, clock, outbox_settings, sandbox, reopen
):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_RECORDS=3)
    context = reopen()
    wrong = enqueue(alias, *range(20))
    right = enqueue(alias, *range(100, 104), _product_id="prod-b")
    discard(context, product_id="prod-abc")
    deliver(context, clock)
    assert set(states(wrong)) == {"discarded"}
    assert set(states(right)) == {"delivered"}


def test_one_transaction_withholds_a_bounded_number(
    context, alias, outbox_settings, sandbox, reopen, monkeypatch
):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_RECORDS=3)
    context = reopen()
    monkeypatch.setattr(seal, "MAX_WITHHELD", 4)
    monkeypatch.setattr(pages, "PAGE_GROWTH", 1)
    monkeypatch.setattr(import_module("evermuse_outbox.delivery.loop.relay"), "MAX_WITHHOLDING_STEPS", 1)
    rows = enqueue(alias, *range(30))
    other = enqueue(alias, 99, _product_id="prod-b")
    discard(context, product_id="prod-abc")
    left = []
    for _ in range(4):
        sealed = seal_next(context)
        left.append(states(rows).count("pending"))
        if sealed:
            assert sealed.members == (other[0].pk,)
    assert left == [30, 24, 18, 12]
    assert state_of(other[0]) == "in_flight"


def test_a_withheld_version_does_not_supersede_an_older_one(
    context, alias, clock, outbox_settings, reopen, sandbox
):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_RECORDS=2)
    context = reopen()
    # The newer version is in another group, so the rule knows it by its product.
    (older,) = enqueue(alias, 1)
    (newer,) = enqueue(alias, 1, _product_id="prod-wrong")
    (newest,) = enqueue(alias, 1, _product_id="prod-wrong", data={"text": "third"})
    discard(context, product_id="prod-wrong")
    deliver(context, clock)
    assert states([older, newer, newest]) == ["delivered", "discarded", "discarded"]


def test_without_rules_sealing_costs_no_statement_more(context, alias):
    enqueue(alias, *range(3))
    with CaptureQueriesContext(connections[alias]) as queries:
        seal_next(context)
    tables = [query["sql"] for query in queries if "outboxrule" in query["sql"]]
    assert len(tables) == 1, "only the page of records looks whether there is a rule"
    assert "FROM" in tables[0].partition("outboxrecord")[2]
    assert not [sql for sql in tables if "outboxrulematch" in sql]


def test_without_rules_and_runs_no_statement_is_only_about_them(context, alias, clock, sandbox):
    """Neither for a record, nor for versions, a batch that is refused, and its parts."""
    sandbox.fail_next(Fault(status=413))
    with CaptureQueriesContext(connections[alias]) as queries:
        rows = enqueue(alias, 1, 2, 3, 1, 4)
        deliver(context, clock)
    assert states(rows) == ["superseded", *["delivered"] * 4]
    assert len(sandbox.batches()) == 2
    of_others = re.compile("evermuse_outbox_outbox(rule|rulematch|run|label|labelset|deferral)\\b")
    found = [query["sql"] for query in queries if of_others.search(query["sql"])]
    assert [sql for sql in found if "evermuse_outbox_outboxrecord" not in sql] == []


@pytest.mark.parametrize("fault", [Fault(status=413), Fault(status=400, body={"error": "Bad Request"})])
def test_a_rule_is_applied_to_what_a_refusal_brings_back(context, alias, clock, sandbox, fault):
    rows = enqueue(alias, 1, 2, 3)
    sealed = seal_next(context)
    made = discard(context, vendor_id="msg-1")
    assert states(rows) == ["in_flight"] * 3
    sandbox.fail_next(fault)
    send(context, sealed)
    deliver(context, clock)
    assert states(rows) == ["discarded", "delivered", "delivered"]
    assert rule_of(rows[0]) == made


def test_records_that_evermuse_may_have_are_sent_to_their_end(context, alias, clock, sandbox):
    rows = enqueue(alias, 1, 2)
    sandbox.fail_next(Fault(batch_fails=True))
    relay(context, 60)
    discard(context, vendor_id="msg-1")
    deliver(context, clock)
    assert states(rows) == ["delivered", "delivered"]


def test_a_batch_in_doubt_is_sent_to_its_end(context, alias, clock, sandbox):
    rows = enqueue(alias, 1)
    sandbox.fail_next(Fault.drop_after())
    relay(context, 60)
    discard(context, vendor_id="msg-1")
    deliver(context, clock)
    assert states(rows) == ["delivered"]


def test_a_probe_of_a_paused_group_is_withheld_too(context, alias, clock):
    group(alias, blocked_until=clock.at)
    rows = enqueue(alias, 1)
    discard(context, vendor_id="msg-1")
    assert seal_next(context) is None
    assert states(rows) == ["discarded"]


def test_a_large_record_is_compared_too(context, alias, clock):
    rows = [outbox.enqueue(record(1, data={"text": "x" * 20_000}), using=alias), *enqueue(alias, 2)]
    discard(context, vendor_id="msg-1")
    deliver(context, clock)
    assert states(rows) == ["discarded", "delivered"]


def test_a_held_record_waits_for_the_end_of_its_rule(context, alias, clock):
    rule = hold(context, vendor_id="msg-1", until=clock.at + timedelta(hours=1))
    first, second = enqueue(alias, 1, 2)
    deliver(context, clock)
    assert states([first, second]) == ["held", "delivered"]
    assert f"Rule #{rule.pk} of ada holds it until" in explain_record(first)
    assert "wrong import" in explain_record(first)
    clock.move(3_600)
    apply_all_due(alias, "default", context.clock)
    assert state_of(first) == "pending"
    tend_rules(alias, context.clock)
    tend_rules(alias, context.clock)
    rule.refresh_from_db()
    assert (rule.state, rule.held, rule.ended_by) == ("ended", 1, "")
    deliver(context, clock)
    assert state_of(first) == "delivered"


def test_a_person_ends_a_rule_and_the_records_are_released_in_steps(context, alias, clock, monkeypatch):
    rows = enqueue(alias, *range(5))
    rule = hold(context, product_id="prod-abc")
    deliver(context, clock)
    assert set(states(rows)) == {"held"}
    end_rule(alias, rule.pk, by="bob", clock=context.clock)
    monkeypatch.setattr(tend, "RELEASED_AT_ONCE", 2)
    monkeypatch.setattr(tend, "RUN_SECONDS", 0)
    assert [tend_rules(alias, context.clock) for _ in range(4)] == [2, 2, 1, 0]
    rule.refresh_from_db()
    assert rule.state == "ending"
    release(context)
    rule.refresh_from_db()
    assert rule.state == "ended"
    deliver(context, clock)
    assert set(states(rows)) == {"delivered"}


def test_a_held_version_lets_the_older_one_go_and_is_superseded_by_a_newer_one(context, alias, clock):
    (older,) = enqueue(alias, 1)
    (held,) = enqueue(alias, 1, _product_id="prod-wrong")
    rule = hold(context, product_id="prod-wrong")
    deliver(context, clock)
    assert states([older, held]) == ["delivered", "held"]
    (newer,) = enqueue(alias, 1, data={"text": "third"})
    deliver(context, clock)
    assert states([held, newer]) == ["held", "delivered"]
    end_rule(alias, rule.pk, clock=context.clock)
    release(context)
    deliver(context, clock)
    assert states([older, held, newer]) == ["delivered", "superseded", "delivered"]


def test_a_hold_comes_before_a_discard_and_the_discard_follows(context, alias, clock):
    (row,) = enqueue(alias, 1)
    discard(context, vendor_id="msg-1")
    rule = hold(context, vendor_id="msg-*")
    deliver(context, clock)
    assert state_of(row) == "held"
    end_rule(alias, rule.pk, clock=context.clock)
    release(context)
    deliver(context, clock)
    assert state_of(row) == "discarded"
    assert "Rule #" in explain_record(row)


def test_a_held_record_can_be_discarded_by_a_person(context, alias, clock):
    (row,) = enqueue(alias, 1)
    rule = hold(context, vendor_id="msg-1")
    deliver(context, clock)
    assert OutboxRecord.rows.using(alias).filter(pk=row.pk).discard(by="bob") == 1
    end_rule(alias, rule.pk, clock=context.clock)
    release(context)
    assert state_of(row) == "discarded"
    assert "Discarded by an operator" in explain_record(row)


def test_a_record_that_a_person_discards_or_erases_is_not_held_any_more(context, alias, clock):
    first, second, third = enqueue(alias, 1, 2, 3)
    rule = hold(context, vendor_id="msg-*")
    deliver(context, clock)
    OutboxRecord.rows.using(alias).filter(pk=first.pk).discard(by="bob")
    delete_records(alias, [second.pk])
    assert list(OutboxDeferral.objects.using(alias).of_rule(rule.pk).values_list("pk", flat=True)) == [
        third.pk
    ]


def test_a_batch_that_a_worker_gives_back_is_withdrawn_later(context, alias, clock):
    (row,) = enqueue(alias, 1)
    sealed = seal_next(context)
    rule = hold(context, vendor_id="msg-1")
    give_back(context, sealed)
    tend_rules(alias, context.clock)
    rule.refresh_from_db()
    assert rule.applied_at == clock.at
    deliver(context, clock)
    assert state_of(row) == "held"


def test_upkeep_without_rules_costs_one_statement(context, alias):
    with CaptureQueriesContext(connections[alias]) as queries:
        tend_rules(alias, context.clock)
    assert len(queries) == 1


def test_rules_are_counted_in_the_order_of_their_ids(context, alias, clock):
    """Two workspaces count the same rules at once, and a deadlock would delay both."""
    first, second = discard(context, vendor_id="msg-1"), hold(context, vendor_id="msg-2")
    third = hold(context, vendor_id="msg-3", until=clock.at + timedelta(hours=1))
    enqueue(alias, 3, 2, 1)
    with CaptureQueriesContext(connections[alias]) as queries:
        seal_next(context)
    updates = [
        query["sql"] for query in queries if query["sql"].startswith("UPDATE") and "discarded" in query["sql"]
    ]
    counted = [int(re.search(r"id[`\"] = (\d+)", sql).group(1)) for sql in updates if "outboxrule" in sql]
    assert counted == [first.pk, second.pk, third.pk]


def test_records_are_withheld_by_a_label(context, alias, clock):
    rows = [
        outbox.enqueue(record(number), using=alias, labels=labels)
        for number, labels in enumerate(
            [{"customer": "acme"}, {"customer": "Acme"}, {"tenant": "acme"}, None]
        )
    ]
    hold(context, label=("customer", "acme"))
    deliver(context, clock)
    assert states(rows) == ["held", "delivered", "delivered", "delivered"]
