"""The order in which groups are sealed: pure, so that time is a number here."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evermuse_outbox.delivery.scheduling.run_queue import (
    DEEP,
    HOTTEST,
    LONGEST_SWEEP_REST,
    REMEMBERED,
    REST,
    SWEEP_REST,
    Filling,
    Head,
    Plan,
)
from evermuse_outbox.delivery.scheduling.scheduler import (
    PROBES,
    SHARE,
    Entry,
    Reason,
    Seen,
    Terms,
    agenda,
    slots_needed,
    to_probe,
)

HEAD = Head(datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=UTC), 7)
TERMS = Terms(rate=10, linger=0.2, max_wait=30, slots=12)


def group(number):
    return ("message", f"p{number}")


def small(number, age, **more):
    return Seen(group(number), age, **more)


def full(number, age=1.0, requests=1, served=0):
    return Seen(group(number), age, requests, served)


def names(entries):
    return [int(entry.group[1][1:]) for entry in entries]


def reasons(entries):
    return [entry.reason for entry in entries]


# --- by example ---------------------------------------------------------------------------------------


def test_full_requests_go_before_those_that_can_wait():
    assert names(agenda([small(1, 5), full(2), small(3, 9)], TERMS)) == [2, 3, 1]


def test_a_group_is_on_it_as_often_as_it_fills_requests():
    assert names(agenda([full(1, requests=3), small(2, 5)], TERMS)) == [1, 1, 1, 2]


def test_several_full_groups_take_turns_and_who_was_served_longest_ago_begins():
    seen = [full(1, 900, 5, served=8), full(2, 1, 2, served=7), full(3, 2, 1)]
    assert names(agenda(seen, TERMS)) == [3, 2, 1, 2, 1, 1, 1, 1]


def test_who_is_near_the_bound_goes_first_but_takes_half_of_the_slots():
    seen = [full(0, requests=50), *(small(n, 40 - n / 100) for n in range(1, 50))]
    found = agenda(seen, TERMS)
    assert names(found) == [1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0]
    assert reasons(found)[:2] == [Reason.DUE, Reason.FULL]


def test_after_a_due_one_a_full_one_follows_across_agendas():
    seen = [full(0, requests=50), small(1, 40), small(2, 40)]
    assert names(agenda(seen, TERMS, due_was_last=True))[:3] == [0, 1, 0]


def test_nobody_lingers_who_fills_a_request_or_comes_from_the_future():
    seen = [small(1, 0.1), small(2, -0.1), full(3, 0.1)]
    assert set(names(agenda(seen, TERMS))) == {2, 3}


def test_a_record_from_far_in_the_future_is_not_put_off():
    assert names(agenda([small(2, 20), small(1, -3_600), full(0, requests=50)], TERMS))[0] == 1
    assert names(agenda([small(2, 20), small(1, -3_600)], TERMS)) == [1, 2]


def test_a_crowd_that_comes_to_its_deadline_together_is_begun_in_time():
    # A hundred need ten seconds of the whole quota, but half of it is full requests': twenty.
    assert slots_needed([0.0] * 100, TERMS) == 0
    assert slots_needed([11.0] * 100, TERMS) > 0
    assert slots_needed([31.0] * 100, TERMS) == 100


def test_where_there_are_few_groups_all_are_looked_into():
    seen = [small(n, n) for n in range(PROBES)]
    assert set(to_probe(seen, start=3)) == {one.group for one in seen}


def test_those_that_are_likely_full_are_looked_into_first():
    seen = [small(n, n, expected=2.0 * (n % 100 == 0)) for n in range(1_000)]
    assert names(Entry(one, Reason.FULL) for one in to_probe(seen, start=0))[:10] == list(
        range(0, 1_000, 100)
    )


def test_the_sample_comes_to_every_group_in_the_end():
    seen = [small(n, 1) for n in range(1_000)]
    step = PROBES // 4
    found = {one for start in range(0, 1_000, step) for one in to_probe(seen, start=start)}
    assert found == {one.group for one in seen}


# --- for all ------------------------------------------------------------------------------------------

ages = st.floats(-100, 10_000)
seen_groups = st.lists(st.tuples(ages, st.integers(0, 20), st.integers(0, 9)), max_size=60).map(
    lambda rows: [Seen(group(n), *row) for n, row in enumerate(rows)]
)
all_terms = st.builds(
    Terms,
    rate=st.floats(0.01, 1_000),
    linger=st.floats(0, 60),
    max_wait=st.floats(1, 600),
    slots=st.integers(1, 32),
)


@given(seen_groups, all_terms, st.booleans())
def test_the_agenda_holds_what_is_ready_and_never_leaves_a_slot_unused(seen, terms, due_was_last):
    found = agenda(seen, terms, due_was_last=due_was_last)
    wanted = {one.group: max(1, one.requests) for one in seen if terms.is_ready(one)}
    held = Counter(entry.group for entry in found)
    assert all(held[one] <= wanted.get(one, 0) for one in held)
    assert len(found) == min(terms.slots, sum(wanted.values()))


@given(seen_groups, all_terms, st.booleans())
def test_of_any_beginning_the_share_is_left_to_full_requests(seen, terms, due_was_last):
    found = agenda(seen, terms, due_was_last=due_was_last)
    waiting = sum(one.requests for one in seen if terms.is_ready(one))
    for end in range(1, len(found) + 1):
        counted = Counter(reasons(found[:end]))
        given_away = end - counted[Reason.FULL]
        assert counted[Reason.FULL] == waiting or given_away <= SHARE * end + (not due_was_last)


@given(seen_groups, all_terms)
def test_the_flow_is_the_greatest_where_nobody_is_near_the_bound(seen, terms):
    near = terms.max_wait - terms.lasts - 1 / terms.rate - len(seen) / (SHARE * terms.rate)
    calm = [one for one in seen if abs(one.age) < near or one.requests]
    found = agenda(calm, terms)
    waiting = sum(one.requests for one in calm)
    assert Counter(reasons(found))[Reason.FULL] == min(terms.slots, waiting)


@given(
    st.lists(st.floats(0, 25), min_size=1, max_size=120),
    st.integers(0, 40),
    st.sampled_from([2.0, 5.0, 10.0, 40.0]),
)
def test_the_bound_holds_where_it_can(starts, hot, rate):
    """Groups of one record each and ``hot`` full requests that come again every second, slot by slot."""
    terms = Terms(rate, 0.0, 30.0, slots=12)
    pending = {group(n): age for n, age in enumerate(sorted(starts, reverse=True), 1)}
    feasible = all(
        terms.max_wait - age >= n / (SHARE * rate) + 1 + 2 / rate for n, age in enumerate(pending.values(), 1)
    )
    plan, now, waited = Plan(), 0.0, []
    while pending and now < 600:
        if not plan.entries or not plan.is_current(now):
            seen = [Seen(one, age + now) for one, age in pending.items()]
            seen += [full(0, 1.0, hot)] if hot else []
            plan.begin(agenda(seen, terms, due_was_last=plan.due_was_last), {}, now=now, lasts=terms.lasts)
        entry = plan.take()
        plan.note_sealed(entry, 1 if entry.group == group(0) else 0, 1)
        if entry.group in pending:
            waited.append(pending.pop(entry.group) + now)
        now += 1 / rate
    assert not pending, "a group was forgotten"
    assert not feasible or max(waited) <= terms.max_wait


# --- what is remembered between two turns ------------------------------------------------------------------


def test_a_plan_is_the_same_after_it_was_stored():
    plan = Plan(after=("call", "p9"), start=7, due_was_last=True)
    plan.begin(
        [Entry(group(1), Reason.DUE), Entry(group(2), Reason.FULL)], {group(2): HEAD}, now=5.5, lasts=1.0
    )
    plan.note_sealed(Entry(group(3), Reason.FULL), 250, 12)
    plan.note_in_vain(group(4), 6.0)
    assert Plan.of_json(plan.as_json()) == plan


@pytest.mark.parametrize("told", [None, {}, [], "x", {"made": "soon"}, Plan().as_json() | {"next": [[1]]}])
def test_what_cannot_be_read_is_no_plan(told):
    assert Plan.of_json(told) == Plan()


def test_where_groups_begin_is_kept_of_those_that_are_listed_or_fill_requests():
    plan = Plan(filling={group(2): Filling(10, 1), group(3): Filling(10, 1)})
    heads = {group(number): HEAD for number in (1, 2, 4)}
    plan.begin([Entry(group(1), Reason.DUE)], heads, now=1.0, lasts=1.0)
    assert plan.heads.keys() == {group(1), group(2)}


def test_heads_are_trusted_until_a_sweep_is_due():
    hottest = {group(number): Filling(10, number) for number in range(HOTTEST)}
    plan = Plan(filling={group(99): Filling(10, 0)} | hottest, swept=100.0, sweep_took=0.5)
    plan.heads = dict.fromkeys([group(98), *plan.filling], HEAD)
    assert plan.trusted_heads(100.0 + 0.5 * SWEEP_REST - 1).keys() == hottest.keys()
    assert plan.trusted_heads(100.0 + 0.5 * SWEEP_REST) == {}
    assert plan.trusted_heads(99.0) == {}, "a clock that was ahead puts no sweep off"
    assert Plan(heads=plan.heads).trusted_heads(5.0) == {}, "as long as a sweep costs nothing"


def test_a_sweep_that_was_held_up_puts_the_next_one_off_for_minutes_at_the_most():
    plan = Plan(filling={group(1): Filling(10, 1)}, swept=100.0, sweep_took=600.0)
    plan.heads = {group(1): HEAD}
    assert plan.trusted_heads(100.0 + LONGEST_SWEEP_REST - 1) == plan.heads
    assert plan.trusted_heads(100.0 + LONGEST_SWEEP_REST) == {}


def test_a_deep_group_is_not_counted_to_its_end():
    plan, counted = Plan(), Counter()

    def count(most):
        counted.update(most)
        return dict(most)

    requests = plan.full_requests(plan.all_seen({group(1): 1.0}, 1_000), TERMS, 1_000, count)
    assert requests == {group(1): TERMS.slots}
    assert counted.total() <= (1 + DEEP) * 1_000 < TERMS.slots * 1_000


def test_a_group_that_is_full_no_longer_leaves_the_agenda():
    plan = Plan(entries=[Entry(group(1), Reason.FULL), Entry(group(2), Reason.FULL)])
    plan.note_sealed(Entry(group(1), Reason.FULL), 0, 3)
    assert names(plan.entries) == [2]
    assert plan.filling == {}


def test_who_was_tried_in_vain_rests_for_a_while():
    plan = Plan(filling={group(1): Filling(1_000, 3)}, entries=[Entry(group(1), Reason.FULL)])
    plan.note_in_vain(group(1), 10.0)
    assert plan.is_resting(group(1), 10.0)
    assert not plan.is_resting(group(1), 10.0 + REST)
    assert (plan.filling, plan.entries) == ({}, [])


def test_the_memory_is_bounded():
    plan = Plan()
    for number in range(2 * REMEMBERED):
        plan.note_sealed(Entry(group(number), Reason.FULL), 10, number)
        plan.note_in_vain(group(1_000 + number), 1.0)
    assert len(plan.filling) == len(plan.resting) == REMEMBERED


def test_fewer_records_fill_a_request_where_bytes_bounded_the_last():
    plan = Plan(filling={group(1): Filling(250, 3)})
    counted = []

    def count(most):
        counted.append(dict(most))
        return {one: min(records, 600) for one, records in most.items()}

    seen = plan.all_seen({group(1): 1.0, group(2): 1.0}, 1_000)
    assert plan.full_requests(seen, TERMS, 1_000, count) == {group(1): 2}
    assert counted[0] == {group(1): 250, group(2): 1_000}


def test_no_more_is_counted_than_fills_the_agenda():
    plan, counted = Plan(), []

    def count(most):
        counted.extend(most)
        return dict(most)

    seen = plan.all_seen({group(n): 1.0 + n for n in range(1_000)}, 10)
    assert len(plan.full_requests(seen, TERMS, 10, count)) >= TERMS.slots
    assert len(counted) < 2 * TERMS.slots


def test_from_its_flow_a_group_is_expected_to_be_full():
    plan = Plan()
    plan.learn(group(1), 10.0, 500)
    assert plan.all_seen({group(1): 30.0}, 1_000)[0].expected == 1.5


def test_a_rest_that_a_clock_ahead_has_given_puts_nobody_off():
    plan = Plan()
    plan.note_in_vain(group(1), 3_600.0)
    assert plan.is_resting(group(1), 3_600.0 + REST / 2)
    assert not plan.is_resting(group(1), 0.0)  # set back by an hour since, or another host's
    plan.begin([], {}, now=0.0, lasts=1.0)
    assert plan.resting == {}
