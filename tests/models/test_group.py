"""Changes of state of groups in trouble, on every database."""

from __future__ import annotations

from datetime import timedelta

import pytest

from evermuse_outbox.models import GroupState, OutboxGroup, UnexpectedState, group_key
from evermuse_outbox.models.group import TRANSITIONS
from tests.models.rows import GROUP, NOW, add_group

LATER = NOW + timedelta(minutes=1)


def groups(alias):
    return OutboxGroup.objects.using(alias)


def test_every_transition_is_a_method():
    assert all(hasattr(OutboxGroup.objects, name) for name in TRANSITIONS)


def test_the_key_distinguishes_names_that_databases_compare_as_equal():
    assert len({group_key("w", "t", product) for product in ("prod", "Prod", "prod ")}) == 3
    assert group_key("a", "bc", "d") != group_key("ab", "c", "d")


@pytest.mark.parametrize("state", [None, *GroupState])
def test_suspect_starts_a_count_from_any_state(alias, state):
    if state:
        add_group(alias, state)
    row = OutboxGroup(
        scope=group_key(*GROUP.values()),
        **GROUP,
        since=LATER,
        error_signature="new",
        contract="openapi",
        batches=1,
    )
    is_held = state == GroupState.HELD
    assert groups(alias).suspect(row) is not is_held
    stored = groups(alias).get()
    assert stored.state == (GroupState.HELD if is_held else GroupState.SUSPECTED)
    assert (stored.error_signature == "new") is not is_held


@pytest.mark.parametrize("state", [None, *GroupState])
def test_a_person_holds_a_group_from_any_state_until_it_is_resumed(alias, state):
    existing = add_group(alias, state) if state else None
    row = OutboxGroup(scope=group_key(*GROUP.values()), **GROUP, since=LATER, held_by="anna", reason="audit")
    assert groups(alias).hold(row) is (state != GroupState.HELD)
    stored = groups(alias).held("default").get()
    assert stored.held_by == ("" if state == GroupState.HELD else "anna")
    assert groups(alias).clear(existing or stored, LATER) == 0
    assert groups(alias).get().state == GroupState.HELD
    assert groups(alias).resume() == 1


@pytest.mark.parametrize("state", list(GroupState))
def test_only_suspected_groups_count_and_pause(alias, state):
    row = add_group(alias, state)
    if state == GroupState.SUSPECTED:
        assert groups(alias).count_refusal(row, batches=1, records=2)
        assert (row.batches, row.records) == (3, 11)
        groups(alias).pause(row, LATER, "reason", "advice")
        stored = groups(alias).get()
        assert (stored.state, stored.batches, stored.blocked_until) == (GroupState.PAUSED, 3, LATER)
        return
    assert not groups(alias).count_refusal(row, batches=1, records=2)
    with pytest.raises(UnexpectedState):
        groups(alias).pause(row, LATER, "reason", "advice")
    assert groups(alias).get().batches == 2


@pytest.mark.parametrize(
    ("state", "changed", "states"),
    [
        (GroupState.SUSPECTED, 1, []),
        (GroupState.PAUSED, 1, ["cleared"]),
        (GroupState.CLEARED, 0, ["cleared"]),
    ],
)
def test_clear_forgets_a_suspicion_and_remembers_a_pause(alias, state, changed, states):
    row = add_group(alias, state)
    assert groups(alias).clear(row, LATER) == changed
    assert list(groups(alias).values_list("state", flat=True)) == states


def test_a_suspected_group_that_was_paused_meanwhile_becomes_cleared(alias):
    row = add_group(alias)
    groups(alias).pause(row, LATER, "reason", "advice")
    assert groups(alias).clear(row, LATER) == 1
    assert groups(alias).get().state == GroupState.CLEARED


def test_a_probe_is_claimed_once_and_delayed_only_during_a_pause(alias):
    row = add_group(alias, GroupState.PAUSED)
    assert groups(alias).claim_probe(row, LATER)
    assert not groups(alias).claim_probe(row, LATER)
    assert (groups(alias).get().probes, groups(alias).get().blocked_until) == (1, LATER)
    assert groups(alias).delay_probe(row, NOW)
    groups(alias).clear_paused(row, NOW)
    assert not groups(alias).delay_probe(row, NOW)


def test_resume_deletes_the_row(alias):
    add_group(alias, GroupState.PAUSED)
    assert groups(alias).for_group(*GROUP.values()).resume() == 1
    assert not groups(alias).exists()
