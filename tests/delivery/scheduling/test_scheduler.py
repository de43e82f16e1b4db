"""The order in which groups are sealed. The scheduler is pure, so time is a number here."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evermuse_outbox.delivery.scheduling.run_queue import RunQueue
from evermuse_outbox.delivery.scheduling.scheduler import (
    COUNTED_GROUPS,
    DUE_SHARE,
    LIKELY_FULL,
    Reason,
    Terms,
    WaitingGroup,
    count_due_slots,
    groups_to_count,
    order_groups,
    seconds_to_linger,
)

TERMS = Terms(rate=10, linger=0.2, max_wait=30, max_entries=12)


def group(number):
    return ("message", f"p{number}")


def small(number, age, **known):
    return WaitingGroup(group(number), age, **known)


def full(number, age=1.0, requests=1, last_full_at=0):
    return WaitingGroup(group(number), age, requests, last_full_at)


def numbers(groups):
    return [int(product[1:]) for _, product in groups]


def numbers_of(entries):
    return numbers(entry.group for entry in entries)


def reasons(entries):
    return [entry.reason for entry in entries]


# --- examples -----------------------------------------------------------------------------------------


def test_full_requests_go_before_groups_that_can_wait():
    assert numbers_of(order_groups([small(1, 5), full(2), small(3, 9)], TERMS)) == [2, 3, 1]


def test_a_group_is_in_the_list_as_often_as_it_fills_requests():
    assert numbers_of(order_groups([full(1, requests=3), small(2, 5)], TERMS)) == [1, 1, 1, 2]


def test_full_groups_take_turns_and_the_one_that_was_full_longest_ago_is_first():
    groups = [full(1, 900, 5, last_full_at=8), full(2, 1, 2, last_full_at=7), full(3, 2, 1)]
    assert numbers_of(order_groups(groups, TERMS)) == [3, 2, 1, 2, 1, 1, 1, 1]


def test_groups_near_the_bound_go_first_but_take_half_of_the_slots():
    groups = [full(0, requests=50), *(small(n, 40 - n / 100) for n in range(1, 50))]
    entries = order_groups(groups, TERMS)
    assert numbers_of(entries) == [1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0]
    assert reasons(entries)[:2] == [Reason.DUE, Reason.FULL]


def test_a_full_group_follows_a_due_one_also_in_the_next_list():
    groups = [full(0, requests=50), small(1, 40), small(2, 40)]
    assert numbers_of(order_groups(groups, TERMS, last_was_due=True))[:3] == [0, 1, 0]


def test_only_a_group_with_a_request_a_moment_ago_lingers():
    groups = [small(1, 0.0), small(2, 0.1, sealed_ago=0.1), small(3, 0.1, sealed_ago=0.2)]
    assert numbers_of(order_groups(groups, TERMS)) == [3, 1]


def test_a_record_that_has_waited_for_the_linger_is_ready():
    assert numbers_of(order_groups([small(1, 0.2, sealed_ago=0.0)], TERMS)) == [1]


def test_a_full_group_and_times_in_the_future_do_not_linger():
    groups = [
        small(1, 0.1, sealed_ago=0.1),
        small(2, -0.1, sealed_ago=0.1),
        small(4, 0.1, sealed_ago=-3_600.0),
        full(3, 0.1)._replace(sealed_ago=0.1),
    ]
    assert set(numbers_of(order_groups(groups, TERMS))) == {2, 3, 4}


@pytest.mark.parametrize(
    ("age", "sealed_ago", "seconds"),
    [(0.05, 0.15, 0.05), (0.15, 0.05, 0.05), (0.0, math.inf, -math.inf), (-1.0, 0.0, 0.0), (0.0, -1.0, 0.0)],
)
def test_the_linger_ends_a_fixed_time_after_the_last_request_or_the_oldest_record(age, sealed_ago, seconds):
    assert seconds_to_linger(0.2, age=age, sealed_ago=sealed_ago) == pytest.approx(seconds)


def test_a_record_from_far_in_the_future_is_not_delayed():
    groups = [small(2, 20), small(1, -3_600)]
    assert numbers_of(order_groups([*groups, full(0, requests=50)], TERMS))[0] == 1
    assert numbers_of(order_groups(groups, TERMS)) == [1, 2]


def test_many_groups_with_the_same_deadline_are_started_in_time():
    # A hundred groups need ten seconds of all slots. Full requests take half of the slots, so it is twenty seconds.
    assert count_due_slots([0.0] * 100, TERMS) == 0
    assert count_due_slots([11.0] * 100, TERMS) > 0
    assert count_due_slots([31.0] * 100, TERMS) == 100


def test_the_deadline_leaves_time_for_the_next_list_and_for_the_slot_under_way():
    # One slot per second, half of them certain. The next list takes effect after 2 s, so 8 s are left of the bound.
    terms = Terms(rate=1, linger=0.2, max_wait=10, max_entries=12, lifetime=1)
    assert count_due_slots([6.0], terms) == 0
    assert count_due_slots([6.1], terms) == 1


def test_few_groups_are_all_counted():
    groups = [small(n, n) for n in range(COUNTED_GROUPS)]
    assert set(groups_to_count(groups, start=3)) == {waiting.group for waiting in groups}


def test_groups_that_are_likely_full_are_counted_first():
    groups = [small(n, n, expected_requests=2.0 * (n % 100 == 0)) for n in range(1_000)]
    assert numbers(groups_to_count(groups, start=0))[:10] == list(range(0, 1_000, 100))


def test_a_group_that_is_expected_to_fill_exactly_one_request_is_likely_full():
    groups = [small(n, 1_000 - n) for n in range(500)]
    groups[400] = groups[400]._replace(expected_requests=LIKELY_FULL)
    assert numbers(groups_to_count(groups, start=0))[0] == 400


def test_of_two_likely_groups_the_one_that_was_full_longer_ago_is_counted_first():
    groups = [small(n, 1, expected_requests=2.0, last_full_at=100 - n) for n in range(100)]
    assert numbers(groups_to_count(groups, start=0))[:3] == [99, 98, 97]


def test_the_sample_reaches_every_group():
    groups = [small(n, 1) for n in range(1_000)]
    starts = range(0, 1_000, COUNTED_GROUPS // 4)
    counted = {group for start in starts for group in groups_to_count(groups, start=start)}
    assert counted == {waiting.group for waiting in groups}


# --- properties ---------------------------------------------------------------------------------------

ages = st.floats(-100, 10_000)
agos = st.just(math.inf) | st.floats(-1, 60)
knowledge = st.tuples(ages, st.integers(0, 20), st.integers(0, 9), st.just(0.0), agos)
any_groups = st.lists(knowledge, max_size=60).map(
    lambda rows: [WaitingGroup(group(number), *row) for number, row in enumerate(rows)]
)
any_terms = st.builds(
    Terms,
    rate=st.floats(0.01, 1_000),
    linger=st.floats(0, 60),
    max_wait=st.floats(1, 600),
    max_entries=st.integers(1, 32),
)


@given(any_groups, any_terms, st.booleans())
def test_the_list_holds_ready_groups_and_leaves_no_slot_unused(groups, terms, last_was_due):
    entries = order_groups(groups, terms, last_was_due=last_was_due)
    wanted = {waiting.group: max(1, waiting.full_requests) for waiting in groups if terms.is_ready(waiting)}
    listed = Counter(entry.group for entry in entries)
    assert all(count <= wanted.get(group, 0) for group, count in listed.items())
    assert len(entries) == min(terms.max_entries, sum(wanted.values()))


@pytest.mark.parametrize("lone", [1, 30, 300])
@pytest.mark.parametrize("full_at", [[], [5], [65, 66, 67], [*range(3, 99, 9)]])
def test_lone_records_of_many_groups_use_free_slots_and_delay_no_full_request(lone, full_at):
    """Seal slot by slot: many groups have one record each, and another one fills a request at some of the slots."""
    queue, pending, waiting, waits = RunQueue(), {group(n): 0.0 for n in range(1, lone + 1)}, [], []
    slot, slots = 0, 0
    while pending or waiting or slot < 100:
        now = slot / TERMS.rate
        waiting += [now] * (slot in full_at)
        if not queue.entries or not queue.is_current(now):
            groups = queue.describe_groups({name: now - at for name, at in pending.items()}, 1_000, now)
            groups += [full(0, now - waiting[0], len(waiting))] if waiting else []
            entries = order_groups(groups, TERMS, last_was_due=queue.last_was_due)
            queue.refill(entries, {}, now=now, lifetime=TERMS.lifetime)
        if entry := queue.take():
            queue.note_sealed(entry, 1_000 * (entry.group == group(0)), slot, now)
            slots += 1
            if entry.group == group(0):
                waits.append(now - waiting.pop(0))
            else:
                del pending[entry.group]
        slot += 1
    assert slots == lone + len(full_at)
    # The end of the list that was made before, then one small group whose time has come before each full request.
    assert max(waits, default=0.0) <= TERMS.lifetime + 2 * (1 + len(full_at)) / TERMS.rate
    assert slot <= max(100, slots + 1)


@given(any_groups, any_terms, st.booleans())
def test_every_prefix_leaves_their_share_to_full_requests(groups, terms, last_was_due):
    entries = order_groups(groups, terms, last_was_due=last_was_due)
    full_requests = sum(waiting.full_requests for waiting in groups if terms.is_ready(waiting))
    for end in range(1, len(entries) + 1):
        full_slots = Counter(reasons(entries[:end]))[Reason.FULL]
        assert full_slots == full_requests or end - full_slots <= DUE_SHARE * end + (not last_was_due)


@given(any_groups, any_terms)
def test_all_slots_go_to_full_requests_if_no_group_is_near_the_bound(groups, terms):
    near = terms.max_wait - terms.lifetime - 1 / terms.rate - len(groups) / (DUE_SHARE * terms.rate)
    calm = [waiting for waiting in groups if abs(waiting.age) < near or waiting.full_requests]
    full_requests = sum(waiting.full_requests for waiting in calm)
    assert Counter(reasons(order_groups(calm, terms)))[Reason.FULL] == min(terms.max_entries, full_requests)


@given(
    st.lists(st.floats(0, 25), min_size=1, max_size=120),
    st.integers(0, 40),
    st.sampled_from([2.0, 5.0, 10.0, 40.0]),
)
def test_the_bound_holds_if_it_can(starts, hot, rate):
    """Seal groups of one record each, slot by slot, beside ``hot`` full requests that come again every second."""
    terms = Terms(rate, 0.0, 30.0, max_entries=12)
    pending = {group(n): age for n, age in enumerate(sorted(starts, reverse=True), 1)}
    is_feasible = all(
        terms.max_wait - age >= n / (DUE_SHARE * rate) + 1 + 2 / rate
        for n, age in enumerate(pending.values(), 1)
    )
    queue, now, waited = RunQueue(), 0.0, []
    while pending and now < 600:
        if not queue.entries or not queue.is_current(now):
            groups = [WaitingGroup(waiting, age + now) for waiting, age in pending.items()]
            groups += [full(0, 1.0, hot)] if hot else []
            entries = order_groups(groups, terms, last_was_due=queue.last_was_due)
            queue.refill(entries, {}, now=now, lifetime=terms.lifetime)
        entry = queue.take()
        queue.note_sealed(entry, 1 if entry.group == group(0) else 0, 1, now)
        if entry.group in pending:
            waited.append(pending.pop(entry.group) + now)
        now += 1 / rate
    assert not pending, "a group was forgotten"
    assert not is_feasible or max(waited) <= terms.max_wait
