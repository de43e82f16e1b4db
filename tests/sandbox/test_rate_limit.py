"""The sliding window alone, then over HTTP with a controlled clock."""

from __future__ import annotations

import pytest

from evermuse_outbox.sandbox.rate_limit import SlidingWindow, max_count_in_window

from .conftest import BATCHES, Client
from .published import record


def test_the_window_admits_the_limit_and_returns_the_wait():
    window = SlidingWindow(2, 1.0)
    assert [window.acquire(now) for now in (0.0, 0.4, 0.5)] == [0, 0, 0.5]
    assert 0.001 <= window.acquire(0.999) <= 0.002  # rounded up
    assert window.acquire(1.0) == 0
    assert window.acquire(1.0) == 0.4


def test_refused_requests_do_not_count():
    window = SlidingWindow(1, 1.0)
    window.acquire(0.0)
    assert all(window.acquire(now / 10) for now in range(1, 10))
    assert window.acquire(1.0) == 0


def test_after_the_wait_a_request_is_admitted():
    window = SlidingWindow(3, 1.0)
    now = 1_800_000_000.123
    for _ in range(100):
        wait = window.acquire(now)
        if wait:
            now += wait
            assert window.acquire(now) == 0


def test_a_limit_of_zero_admits_nothing():
    assert SlidingWindow(0, 1.0).acquire(5.0) == 1.0


@pytest.mark.parametrize(
    ("times", "highest"),
    [
        ([], 0),
        ([1], 1),
        ([0, 0.999], 2),
        ([0, 1.0], 1),
        ([3, 0.5, 0, 0.9, 1.4], 3),
        ([0, 0.6, 1.2, 1.5, 2.6], 3),
    ],
)
def test_the_highest_count_in_any_window(times, highest):
    assert max_count_in_window(times, 1.0) == highest


def test_the_eleventh_request_of_a_second_gets_429(serve, clock):
    sandbox = serve(rate_limit=10)
    client = Client(sandbox)
    for number in range(10):
        clock.advance(0.01)
        response = client.post([record()]) if number % 2 else client.send("GET", BATCHES)
        assert response.status_code in (200, 202)
    clock.advance(0.5)
    for response in (client.post([record()]), client.send("GET", BATCHES)):
        assert (response.status_code, response.json()["error"]) == (429, "RATE_LIMITED")
        assert response.json()["retryAfter"] == pytest.approx(0.41, abs=0.002)
        assert "Retry-After" not in response.headers
    clock.advance(response.json()["retryAfter"])
    assert client.post([record()]).status_code == 202
    assert (sandbox.worst_second(), len(sandbox.arrivals)) == (12, 13)
    assert [arrival.status for arrival in sandbox.violations] == [429, 429]


def test_each_key_has_its_limit(serve):
    sandbox = serve(rate_limit=1, keys={"em_sk_a": {"api:write"}, "em_sk_b": {"api:write"}})
    first, second = Client(sandbox, "em_sk_a"), Client(sandbox, "em_sk_b")
    assert [client.post([record()]).status_code for client in (first, second, first)] == [202, 202, 429]
    assert (sandbox.worst_second("em_sk_a"), sandbox.worst_second("em_sk_b"), sandbox.worst_second()) == (
        2,
        1,
        2,
    )


def test_invalid_requests_count_and_unknown_keys_do_not(serve):
    sandbox = serve(rate_limit=2)
    client = Client(sandbox)
    Client(sandbox, "em_sk_other").post([record()])
    assert [client.post(content).status_code for content in (b"{", [record()], [record()])] == [400, 202, 429]


def test_an_arrival_before_the_end_of_retry_after_is_marked(serve, clock):
    sandbox = serve(rate_limit=1)
    client = Client(sandbox)
    client.post([record()])
    client.post([record()])
    clock.advance(0.999)
    client.post([record()])
    clock.advance(0.001)
    client.post([record()])
    assert [arrival.ignores_retry_after for arrival in sandbox.arrivals] == [False, False, True, False]
