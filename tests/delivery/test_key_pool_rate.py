"""The rate of several keys: N × 10 requests a second, and never more than 10 in any second with one of them.

The requests are real ones, and the clock of the sandbox and of the throttles is that of the test. So they are counted
exactly.
"""

from __future__ import annotations

import dataclasses

import pytest

from evermuse_outbox.delivery.context import context as contexts
from evermuse_outbox.delivery.context import open_context
from evermuse_outbox.delivery.loop import relay
from evermuse_outbox.ratelimit import Limit, RateLimitState
from evermuse_outbox.sandbox import Sandbox
from tests.delivery.helpers import batches
from tests.records import enqueue

KEYS = ("em_sk_sandbox_a", "em_sk_sandbox_b", "em_sk_sandbox_c")
POSTS = 60


class SimulatedThrottle:
    """The algorithm of the rate limit for one key, on the clock of the test."""

    def __init__(self, clock):
        self._clock, self._limit, self._state, self._permits = clock, Limit.from_rate(10), RateLimitState(), 0

    def wait(self):
        return self._state.wait(self._now())

    def reserve(self, patience):
        reservation, self._state = self._state.reserve(self._now(), self._limit, patience)
        return reservation

    def acquire(self):
        self._permits += 1
        admission, self._state = self._state.acquire(self._now(), self._limit, str(self._permits))
        return admission

    def release(self, permit, *, is_comparable):
        self._state = self._state.release(self._now(), permit, is_comparable=is_comparable)

    def _now(self):
        return self._clock.at.timestamp()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_n_keys_send_n_times_as_fast_and_each_within_its_limit(
    context, alias, clock, outbox_settings, monkeypatch, count
):
    keys = KEYS[:count]
    permissions = dict.fromkeys(keys, ("api:write", "api:read"))
    throttles = {key: SimulatedThrottle(clock) for key in keys}
    monkeypatch.setattr(contexts, "open_throttle", lambda workspace, _: throttles[workspace.api_key.reveal()])
    with Sandbox(keys=permissions, clock=lambda: clock.at.timestamp()) as sandbox:
        outbox_settings(
            API_URL=sandbox.url,
            API_KEY=keys[0],
            API_KEYS=list(keys[1:]),
            MAX_BATCH_RECORDS=1,
            DATABASES=[alias],
        )
        enqueue(alias, *range(POSTS))
        opened = open_context(alias, "default")
        started = clock.at
        assert relay(dataclasses.replace(opened, clock=context.clock), 600) == POSTS
        seconds = (clock.at - started).total_seconds()
        opened.client.close()
    assert {batch.state for batch in batches(alias)} == {"accepted"}
    assert {arrival.status for arrival in sandbox.arrivals} == {202}
    assert max(sandbox.worst_second(key) for key in keys) <= 10
    used = [sum(arrival.key == key for arrival in sandbox.arrivals) for key in keys]
    assert min(used) >= POSTS / count * 0.8
    assert seconds == pytest.approx(POSTS / (10 * count), rel=0.2)
