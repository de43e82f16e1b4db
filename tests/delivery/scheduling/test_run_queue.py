"""What the run queue remembers, and for how long. The run queue is pure, so time is a number here."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest

from evermuse_outbox.delivery.scheduling.run_queue import (
    COUNTED_REQUESTS,
    FULL_SCAN_INTERVAL,
    MAX_FULL_SCAN_INTERVAL,
    MAX_REMEMBERED,
    MAX_RESUME_POINTS,
    REST_SECONDS,
    FullRequest,
    ResumePoint,
    RunQueue,
)
from evermuse_outbox.delivery.scheduling.scheduler import Entry, Reason, Terms, WaitingGroup

POINT = ResumePoint(datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=UTC), 7)
SLOTS = 12


def group(number):
    return ("message", f"p{number}")


def entry(number, reason=Reason.FULL):
    return Entry(group(number), reason)


def numbers_of(entries):
    return [int(entry.group[1][1:]) for entry in entries]


def test_a_queue_is_the_same_after_it_was_stored():
    queue = RunQueue(scan_after=("call", "p9"), sample_start=7, last_was_due=True)
    queue.refill([entry(1, Reason.DUE), entry(2)], {group(2): POINT}, now=5.5, lifetime=1.0)
    queue.note_sealed(entry(3), 250, 12, 1.0)
    queue.note_sealed(entry(5), 0, 13, 2.0)
    queue.note_nothing_sealed(entry(4), 6.0)
    queue.tried.clear()  # is not stored
    assert RunQueue.from_json(queue.to_json()) == queue


@pytest.mark.parametrize(
    "value", [None, {}, [], "x", {"made_at": "soon"}, RunQueue().to_json() | {"entries": [[1]]}]
)
def test_a_value_that_cannot_be_read_gives_an_empty_queue(value):
    assert RunQueue.from_json(value) == RunQueue()


def test_a_queue_of_an_earlier_version_can_be_read():
    stored = RunQueue(entries=[entry(1)]).to_json()
    del stored["sealed_at"]
    assert numbers_of(RunQueue.from_json(stored).entries) == [1]


def test_the_resume_points_of_listed_and_recently_full_groups_are_kept():
    queue = RunQueue(recently_full={group(2): FullRequest(10, 1), group(3): FullRequest(10, 1)})
    oldest = {group(number): POINT for number in (1, 2, 4)}
    queue.refill([entry(1, Reason.DUE)], oldest, now=1.0, lifetime=1.0)
    assert queue.resume_points.keys() == {group(1), group(2)}


def test_resume_points_are_trusted_until_a_full_scan_is_due():
    hot = {group(number): FullRequest(10, number) for number in range(MAX_RESUME_POINTS)}
    queue = RunQueue(
        recently_full={group(99): FullRequest(10, 0)} | hot, full_scan_at=100.0, full_scan_seconds=0.5
    )
    queue.resume_points = dict.fromkeys([group(98), *queue.recently_full], POINT)
    assert queue.trusted_resume_points(100.0 + 0.5 * FULL_SCAN_INTERVAL - 1).keys() == hot.keys()
    assert queue.trusted_resume_points(100.0 + 0.5 * FULL_SCAN_INTERVAL) == {}
    assert queue.trusted_resume_points(99.0) == {}, "a clock that was ahead delays no full scan"
    assert RunQueue(resume_points=queue.resume_points).trusted_resume_points(5.0) == {}, (
        "full scans cost nothing"
    )


def test_a_slow_full_scan_delays_the_next_one_by_minutes_at_most():
    queue = RunQueue(
        recently_full={group(1): FullRequest(10, 1)}, full_scan_at=100.0, full_scan_seconds=600.0
    )
    queue.resume_points = {group(1): POINT}
    assert queue.trusted_resume_points(100.0 + MAX_FULL_SCAN_INTERVAL - 1) == queue.resume_points
    assert queue.trusted_resume_points(100.0 + MAX_FULL_SCAN_INTERVAL) == {}


def test_a_group_with_many_records_is_counted_up_to_a_limit():
    queue = RunQueue()
    limits = queue.count_limits([group(1)], 1_000)
    assert limits == {group(1): COUNTED_REQUESTS * 1_000}
    assert limits[group(1)] < SLOTS * 1_000
    assert queue.learn_counts(limits, {group(1): 1.0}, 1_000, SLOTS) == {group(1): SLOTS}


def test_full_requests_are_counted_below_the_limit():
    counts = {group(1): 2_999, group(2): 999, group(3): 0}
    ages = dict.fromkeys(counts, 1.0)
    assert RunQueue().learn_counts(counts, ages, 1_000, SLOTS) == {group(1): 2}


def test_a_group_that_no_longer_fills_a_request_leaves_the_queue():
    queue = RunQueue(entries=[entry(1), entry(2)])
    queue.note_sealed(entry(1), 0, 3, 1.0)
    assert numbers_of(queue.entries) == [2]
    assert queue.recently_full == {}


def test_a_request_that_was_not_full_is_remembered_until_it_is_old():
    queue = RunQueue()
    queue.note_sealed(entry(1), 0, 3, 10.0)
    queue.note_sealed(entry(2), 1_000, 4, 10.0)
    assert [queue.sealed_ago(group(number), 10.25) for number in (1, 2)] == [0.25, math.inf]
    queue.forget_seals_before(10.0)
    assert queue.sealed_ago(group(1), 10.25) == 0.25
    queue.forget_seals_before(10.1)
    assert queue.sealed_ago(group(1), 10.25) == math.inf


def test_a_full_request_ends_the_linger_of_its_group():
    queue = RunQueue()
    queue.note_sealed(entry(1), 0, 3, 10.0)
    queue.note_sealed(entry(1), 1_000, 4, 10.1)
    assert queue.sealed_at == {}


def test_with_a_full_memory_an_unknown_group_counts_as_the_oldest_one():
    queue = RunQueue()
    for number in range(MAX_REMEMBERED):
        assert queue.sealed_ago(group(999), 100.0) == math.inf
        queue.note_sealed(entry(number), 0, number, float(number))
    assert queue.sealed_ago(group(999), 100.0) == 100.0
    queue.note_sealed(entry(MAX_REMEMBERED), 0, 1, 99.0)
    assert queue.sealed_ago(group(0), 100.0) == 99.0


def test_a_group_of_which_nothing_could_be_sealed_rests():
    queue = RunQueue(recently_full={group(1): FullRequest(1_000, 3)}, entries=[entry(1)])
    queue.note_nothing_sealed(entry(1), 10.0)
    assert queue.is_resting(group(1), 10.0)
    assert not queue.is_resting(group(1), 10.0 + REST_SECONDS)
    assert (queue.recently_full, queue.entries) == ({}, [])


def test_a_group_is_tried_once_in_a_transaction():
    queue = RunQueue(entries=[entry(1), entry(2)])
    queue.note_nothing_sealed(queue.take(), 10.0)
    queue.entries.append(entry(1))
    assert numbers_of(queue.drain()) == [2]


def test_the_number_of_remembered_groups_is_bounded():
    queue = RunQueue()
    for number in range(2 * MAX_REMEMBERED):
        queue.note_sealed(entry(number), 10, number, 1.0)
        queue.note_sealed(entry(2_000 + number), 0, number, 1.0)
        queue.note_nothing_sealed(entry(1_000 + number), 1.0)
    sizes = {len(memory) for memory in (queue.recently_full, queue.resting, queue.sealed_at)}
    assert sizes == {MAX_REMEMBERED}


def test_fewer_records_fill_a_request_if_bytes_limited_the_last_one():
    queue = RunQueue(recently_full={group(1): FullRequest(250, 3)})
    limits = queue.count_limits([group(1), group(2)], 1_000)
    assert limits == {group(1): COUNTED_REQUESTS * 250, group(2): COUNTED_REQUESTS * 1_000}
    counts = {group(1): 600, group(2): 600}
    assert queue.learn_counts(counts, dict.fromkeys(counts, 1.0), 1_000, SLOTS) == {group(1): 2}


def test_a_group_is_expected_to_be_full_by_its_arrival_rate():
    queue = RunQueue()
    queue.learn_counts({group(1): 500}, {group(1): 10.0}, 1_000, SLOTS)
    assert queue.describe_groups({group(1): 30.0}, 1_000, 100.0)[0].expected_requests == 1.5


def test_a_rest_from_a_clock_that_was_ahead_delays_no_group():
    queue = RunQueue()
    queue.note_nothing_sealed(entry(1), 3_600.0)
    assert queue.is_resting(group(1), 3_600.0 + REST_SECONDS / 2)
    assert not queue.is_resting(group(1), 0.0)  # the clock was set back by an hour, or it is another host's
    queue.refill([], {}, now=0.0, lifetime=1.0)
    assert queue.resting == {}


def test_spare_groups_rotate_and_leave_out_those_that_were_tried():
    terms = Terms(rate=10, linger=0.2, max_wait=30, max_entries=SLOTS)
    groups = [WaitingGroup(group(number), 1.0) for number in range(5)]
    queue = RunQueue(sample_start=2, tried={group(3)})
    spare = queue.spare_groups(groups, terms, 3)
    assert numbers_of(spare) == [2, 4, 0]
    for tried in spare:
        queue.note_nothing_sealed(tried, 1.0)
    assert queue.sample_start == 5
