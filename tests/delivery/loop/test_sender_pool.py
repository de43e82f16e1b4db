"""The sender pool: runs that follow each other, senders that outlast a run, and the monitor."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from django.db import OperationalError, ProgrammingError

from evermuse_outbox.delivery.context import QueueKey
from evermuse_outbox.delivery.loop import SenderPool, sender_pool
from evermuse_outbox.delivery.loop.sender_pool import CHECK_INTERVAL, is_another_useful


def sends_one_batch(context, seconds, pool):
    return 1


@pytest.fixture
def pool(monkeypatch):
    """A pool of at most four senders, which need no database and always find an unused permit."""
    monkeypatch.setattr(sender_pool, "open_context", lambda *key: None)
    monkeypatch.setattr(sender_pool, "close_thread_connections", lambda: None)
    monkeypatch.setattr(sender_pool, "has_unused_permits", lambda context, within=0.0: True)
    monkeypatch.setattr(SenderPool, "_pools", {})
    context = SimpleNamespace(queue_key=QueueKey("default", "w"), settings=SimpleNamespace(senders=4))
    return SenderPool.of(context, sends_one_batch)


@pytest.mark.parametrize(
    ("senders", "share", "waits", "is_useful"),
    [
        (0, 0.0, [], True),
        (1, 0.0, [], False),
        (1, 0.01, [], True),
        (4, 0.75, [], False),  # at each moment one of the four seals
        (4, 0.76, [], True),
        (1, 0.0, [CHECK_INTERVAL], False),
        (1, 0.0, [2 * CHECK_INTERVAL], True),
        (3, 0.0, [2 * CHECK_INTERVAL, 0.01, 0.01], True),
        (3, 0.0, [0.09, 0.01, 0.01], False),  # the answers arrive between two checks of the monitor
        (3, 0.0, [9.0, 9.0], False),  # the third one seals, or waits for the sealing lock
    ],
)
def test_another_sender_is_useful_if_none_seals_for_long(senders, share, waits, is_useful):
    assert is_another_useful(senders, share, waits) is is_useful


def test_a_finished_run_does_not_wait_for_senders_that_another_run_uses(pool):
    is_finished = threading.Event()
    pool._run_sender = lambda context, seconds, pool: 0 if is_finished.wait(0.01) else 1
    pool.start_run(60)
    pool.note_sent(waiting_share=1.0)  # so that more senders are useful
    pool.start_senders(3)
    pool.stop_leading()
    finishing = threading.Thread(target=pool.finish_run)
    finishing.start()
    finishing.join(0.3)
    assert finishing.is_alive()  # no other run uses the senders: it waits for them
    try:
        assert pool.start_run(60)
        assert pool.has_senders_at_work()
        finishing.join(10)
        assert not finishing.is_alive()
    finally:
        is_finished.set()
    pool.stop_leading()
    assert pool.finish_run() > 0
    assert (pool._senders, pool._runs, pool._leaders, pool._threads) == (0, 0, 0, [])


def test_a_stuck_leader_lets_another_run_start(pool, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(sender_pool.time, "monotonic", lambda: now[0])
    assert pool.start_run(60)
    now[0] += sender_pool.STUCK_SECONDS
    assert not pool.start_run(60)
    now[0] += 0.1
    assert pool.start_run(60)
    assert not pool.start_run(60), "the second run has just started"
    pool.note_sent(waiting_share=0.0)
    now[0] += sender_pool.STUCK_SECONDS
    assert not pool.start_run(60), "a batch was sent meanwhile"


def test_a_run_continues_alone_if_the_system_has_no_more_threads(pool, monkeypatch):
    class RefusedThread(threading.Thread):
        def start(self):
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(sender_pool.threading, "Thread", RefusedThread)
    pool.start_run(60)
    pool.note_sent(waiting_share=1.0)  # so that more senders are useful
    pool.start_senders(3)
    pool.stop_leading()
    assert pool.finish_run() == 0
    assert pool._senders == 0


def test_a_pool_whose_runs_overlap_forgets_ended_senders(pool):
    pool.start_run(60)
    pool.note_sent(waiting_share=1.0)  # so that more senders are useful
    for _ in range(20):
        results = iter([1, 0])
        pool._run_sender = lambda context, seconds, pool, results=results: next(results)
        pool.start_senders(2)
        for thread in list(pool._threads):
            thread.join(10)
    assert len(pool._threads) == len(pool._useful_threads) == 1
    pool.stop_leading()
    assert pool.finish_run() == 20


# --- the monitor --------------------------------------------------------------------------------------


def waiting_client():
    """Return a client that has waited long for an answer."""
    return SimpleNamespace(asked_at=-1e9)


@pytest.fixture
def checks(pool, monkeypatch):
    """Let the monitor check often. Return a function that waits for a number of further checks."""
    monkeypatch.setattr(sender_pool, "CHECK_INTERVAL", 0.001)
    check, count = pool._is_no_sender_sealing, threading.Semaphore(0)

    def check_and_count():
        result = check()
        count.release()
        return result

    def wait_for(number):
        while count.acquire(blocking=False):
            pass
        return all(count.acquire(timeout=10) for _ in range(number))

    monkeypatch.setattr(pool, "_is_no_sender_sealing", check_and_count)
    return wait_for


def test_the_monitor_starts_senders_up_to_the_limit_while_all_wait(pool, checks):
    answers, requests = threading.Event(), threading.Semaphore(0)

    def wait_for_answer(context, seconds, pool):
        pool.add_client(waiting_client())
        requests.release()
        return 0 if answers.wait(10) else 1

    pool._run_sender = wait_for_answer
    pool.start_run(60)
    pool.add_client(waiting_client())
    with pool.monitor():
        assert all(requests.acquire(timeout=10) for _ in range(3))
        assert checks(5)
        assert pool._senders == 4
        answers.set()
    pool.stop_leading()
    pool.finish_run()
    assert (pool._senders, pool._clients, requests.acquire(blocking=False)) == (0, {}, False)


@pytest.mark.parametrize("reason", ["one sender seals", "the time is up", "no permit is unused"])
def test_the_monitor_starts_no_useless_sender(pool, checks, monkeypatch, reason):
    backend_calls = []

    def has_unused_permits(context, within):
        backend_calls.append(within)
        return False

    monkeypatch.setattr(sender_pool, "has_unused_permits", has_unused_permits)
    pool.start_run(-100 if reason == "the time is up" else 60)
    pool.add_client(SimpleNamespace(asked_at=None) if reason == "one sender seals" else waiting_client())
    with pool.monitor():
        assert checks(5)
    assert pool._threads == []
    # Redis or the database is read only if the decision depends on it.
    assert bool(backend_calls) is (reason == "no permit is unused")


@pytest.mark.parametrize(("pause", "starts"), [(60, 1), (0, 3)])
def test_the_monitor_pauses_after_a_useless_sender(pool, checks, monkeypatch, pause, starts):
    monkeypatch.setattr(sender_pool, "USELESS_PAUSE", pause)
    started = threading.Semaphore(0)
    pool._run_sender = lambda *args: started.release() or 0
    pool.start_run(60)
    pool.add_client(waiting_client())
    with pool.monitor():
        assert all(started.acquire(timeout=10) for _ in range(starts))
        for thread in list(pool._threads):
            thread.join(10)
        assert checks(5)
    assert pause == 0 or not started.acquire(blocking=False)
    pool.stop_leading()
    pool.finish_run()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OperationalError("server closed the connection"), "default/w: skipped until the next run: "),
        (ProgrammingError("no such table: x"), "default/w: skipped until the next run: "),
        (ValueError("a mistake"), "the monitor of default/w ended"),
    ],
)
def test_an_error_of_the_monitor_ends_only_the_monitor(pool, checks, monkeypatch, caplog, error, message):
    has_failed = threading.Event()

    def fail(context, within):
        has_failed.set()
        raise error

    monkeypatch.setattr(sender_pool, "has_unused_permits", fail)
    pool.start_run(60)
    pool.add_client(waiting_client())
    with pool.monitor():
        assert has_failed.wait(10)
    (line,) = caplog.records
    assert line.getMessage().startswith(message)
    assert pool._threads == []


def test_the_monitor_pauses_if_no_thread_can_be_started(pool, checks, monkeypatch):
    monkeypatch.setattr(sender_pool, "USELESS_PAUSE", 60)
    start, refused = pool._start_thread, []

    def start_only_the_monitor(thread):
        return start(thread) if "monitor" in thread.name else bool(refused.append(thread))

    monkeypatch.setattr(pool, "_start_thread", start_only_the_monitor)
    pool.start_run(60)
    pool.add_client(waiting_client())
    with pool.monitor():
        assert checks(5)
    assert (len(refused), pool._senders) == (1, 1)


def test_a_run_that_is_interrupted_at_its_start_leaves_no_monitor(pool, monkeypatch):
    start, started = pool._start_thread, []

    def start_and_interrupt(thread):
        start(thread)
        started.append(thread)
        raise TimeoutError

    monkeypatch.setattr(pool, "_start_thread", start_and_interrupt)
    with pytest.raises(TimeoutError), pool.monitor():
        pass
    assert [thread.is_alive() for thread in started] == [False]
