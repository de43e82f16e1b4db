"""Busy workspaces share the slots of the workers: a simulation of Celery's queue with a virtual clock."""

from __future__ import annotations

import heapq
from collections import Counter, deque

import pytest

from evermuse_outbox.delivery.loop.shares import MAX_RUN_SECONDS, MIN_RUN_SECONDS, ROUND_SECONDS, run_seconds

START = 0.02
"""Seconds that a run costs beside its requests."""

PACE = 0.1
"""Seconds between two requests of a workspace at the published rate limit."""


def simulate(workspaces, slots, seconds_of, *, cost=0.03, duration=60.0, lone_at=30.0):
    """Return the requests of each busy workspace, and the wait of a record of another workspace.

    Each slot takes the first message of the queue. At the end of its run, a busy workspace joins the end of the queue.

    A request keeps its slot for ``cost`` seconds. ``seconds_of`` returns the length of a run for the number of
    waiting messages.
    """
    waiting = deque(range(workspaces))
    sent, lone_sent_at = Counter(), None
    free = [(0.0, slot, None) for slot in range(slots)]
    is_lone_queued = False
    while free:
        now, slot, ended = heapq.heappop(free)
        if now >= duration and lone_sent_at is not None:
            continue
        if not is_lone_queued and now >= lone_at:
            waiting.append("lone")
            is_lone_queued = True
        if ended is not None:
            waiting.append(ended)
        if not waiting:
            heapq.heappush(free, (now + PACE, slot, None))
            continue
        workspace = waiting.popleft()
        if workspace == "lone":
            lone_sent_at = now + START
            heapq.heappush(free, (now + START + cost, slot, None))
            continue
        end, at = now + seconds_of(len(waiting)), now + START
        while True:
            sent[workspace] += at < duration
            at += max(cost, PACE)
            if at >= end:
                break
        heapq.heappush(free, (at, slot, workspace))
    return [sent[number] for number in range(workspaces)], lone_sent_at - lone_at


def jain(values):
    return sum(values) ** 2 / (len(values) * sum(value * value for value in values))


@pytest.mark.parametrize("cost", [0.03, 0.12, 0.3])
@pytest.mark.parametrize("slots", [3, 6, 12])
def test_a_hundred_busy_workspaces_get_equal_shares_within_a_minute(slots, cost):
    shares, wait = simulate(100, slots, run_seconds, cost=cost)
    assert min(shares) / max(shares) >= 0.7
    assert jain(shares) >= 0.97
    assert wait <= 100 * (MIN_RUN_SECONDS + START + max(cost, PACE)) / slots


def test_with_runs_of_a_fixed_length_most_workspaces_would_starve():
    shares, wait = simulate(100, 3, lambda waiting: MAX_RUN_SECONDS)
    assert min(shares) == 0
    assert wait > 60


@pytest.mark.parametrize("workspaces", [1, 2, 10, 40, 100, 1_000])
@pytest.mark.parametrize("slots", [1, 3])
def test_a_lone_record_waits_for_at_most_a_round(workspaces, slots):
    _, wait = simulate(workspaces, slots, run_seconds)
    turn = max(ROUND_SECONDS / workspaces, MIN_RUN_SECONDS) + START + PACE
    assert wait <= workspaces * turn / slots + MAX_RUN_SECONDS


def test_the_length_of_a_run():
    assert run_seconds(0) == run_seconds(1) == MAX_RUN_SECONDS
    assert run_seconds(3) == ROUND_SECONDS / 4
    assert run_seconds(99) == run_seconds(100_000) == MIN_RUN_SECONDS
