"""The memory of the history is bounded, and what was forgotten is counted."""

from __future__ import annotations

import pytest

from evermuse_outbox.sandbox.control import History

from ..conftest import BATCHES, Client
from ..published import record
from .conftest import Browser


def test_the_oldest_requests_are_forgotten_and_counted(serve):
    sandbox = serve(control=True, history_requests=3)
    client, browser = Client(sandbox), Browser(sandbox)
    for _ in range(5):
        client.post([record()])
    client.send("GET", BATCHES)
    answer = browser.get("requests")
    assert [row["number"] for row in answer["requests"]] == [6, 5, 4, 3]
    assert (answer["counts"]["total"], answer["counts"]["kept"], answer["counts"]["forgotten"]) == (6, 4, 2)
    assert browser.send("GET", "requests/1").status_code == 404


def test_bodies_above_the_limit_are_forgotten(serve):
    sandbox = serve(control=True, history_bytes=100_000)
    client, browser = Client(sandbox), Browser(sandbox)
    for _ in range(10):
        client.post([record(data={"text": "x" * 30_000})])
    counts = browser.get("requests")["counts"]
    assert counts["bytes"] <= 100_000
    assert (counts["kept"], counts["forgotten"]) == (3, 7)


def test_the_path_of_a_request_counts(serve):
    sandbox = serve(control=True, history_bytes=50_000)
    client, browser = Client(sandbox), Browser(sandbox)
    for _ in range(100):
        client.send("GET", f"{BATCHES}/{'a' * 1_900}")
    counts = browser.get("requests")["counts"]
    assert counts["bytes"] <= 50_000
    assert 10 < counts["kept"] < 18


def test_the_newest_request_is_kept_whatever_its_size(serve):
    sandbox = serve(control=True, history_bytes=1)
    client, browser = Client(sandbox), Browser(sandbox)
    for _ in range(3):
        client.post([record()])
    assert [row["number"] for row in browser.get("requests")["requests"]] == [3]


def test_reads_do_not_remove_writes(serve):
    sandbox = serve(control=True, history_requests=2)
    client, browser = Client(sandbox), Browser(sandbox)
    client.post([record()])
    for _ in range(5):
        client.send("GET", BATCHES)
    assert browser.get("requests?method=POST")["requests"][0]["number"] == 1


def test_a_request_that_was_forgotten_in_progress_takes_no_memory(arrival_of):
    history = History(1, 10**9)
    slow = history.begin(arrival_of())
    fast = history.begin(arrival_of())
    history.finish(slow, b"x" * 1_000_000, b"")
    history.finish(fast, b"y", b"z")
    assert history.counts()["bytes"] < 5_000
    history.clear()
    assert (history.counts()["bytes"], history.counts()["kept"], history.counts()["forgotten"]) == (0, 0, 2)


@pytest.fixture
def arrival_of(sandbox, client):
    client.post([record()])
    return lambda: sandbox.arrivals[0]
