"""Who sends beside whom: runs that follow each other, and helpers that outlast them."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from django.db import OperationalError, ProgrammingError

from evermuse_outbox.delivery.loop import sender_pool as crews
from evermuse_outbox.delivery.loop.sender_pool import LOOK, SenderPool, is_another_of_use


@pytest.fixture
def pool(monkeypatch):
    """A crew of four at the most, whose helpers need no database."""
    monkeypatch.setattr(crews, "open_context", lambda *lane: None)
    monkeypatch.setattr(crews, "close_thread_connections", lambda: None)
    monkeypatch.setattr(SenderPool, "_crews", {})
    return SenderPool.of(SimpleNamespace(using="default", name="w", settings=SimpleNamespace(senders=4)))


@pytest.mark.parametrize(
    ("senders", "share", "waits", "is_of_use"),
    [
        (0, 0.0, [], True),
        (1, 0.0, [], False),
        (1, 0.01, [], True),
        (4, 0.75, [], False),  # at each moment one of the four seals
        (4, 0.76, [], True),
        (1, 0.0, [LOOK], False),
        (1, 0.0, [2 * LOOK], True),
        (3, 0.0, [2 * LOOK, 0.01, 0.01], True),
        (3, 0.0, [0.09, 0.01, 0.01], False),  # as quick as the looks: what answers take will tell
        (3, 0.0, [9.0, 9.0], False),  # one seals, or stands in line
    ],
)
def test_another_is_of_use_where_nobody_seals_for_long(senders, share, waits, is_of_use):
    assert is_another_of_use(senders, share, waits) is is_of_use


def test_a_run_that_is_over_does_not_wait_for_helpers_with_whom_another_goes_on(pool):
    nothing_left = threading.Event()

    def help_out(context, seconds, pool):
        return 0 if nothing_left.wait(0.01) else 1

    pool.begin(60)
    pool.sent(waiting=1.0)  # so that others are of use
    pool.call(help_out, 3)
    pool.stop_leading()
    over = threading.Thread(target=pool.end)
    over.start()
    over.join(0.3)
    assert over.is_alive()  # nobody else goes on: it waits
    try:
        assert pool.begin(60)
        assert pool.is_at_work()
        over.join(10)
        assert not over.is_alive()
    finally:
        nothing_left.set()
    pool.stop_leading()
    assert pool.end() > 0
    assert (pool._senders, pool._runs, pool._leading, pool._helpers) == (0, 0, 0, [])


def test_where_there_are_no_more_threads_the_run_goes_on_alone(pool, monkeypatch):
    class Refused(threading.Thread):
        def start(self):
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(crews.threading, "Thread", Refused)
    pool.begin(60)
    pool.sent(waiting=1.0)  # so that others are of use
    pool.call(lambda *given: 1, 3)
    pool.stop_leading()
    assert pool.end() == 0
    assert pool._senders == 0


def test_a_crew_that_never_parts_forgets_the_helpers_that_went(pool):
    pool.begin(60)
    pool.sent(waiting=1.0)  # so that others are of use
    for _ in range(20):
        seal_count = iter([1, 0])
        pool.call(lambda context, seconds, pool, seal_count=seal_count: next(seal_count), 2)
        for helper in list(pool._helpers):
            helper.join(10)
    assert len(pool._helpers) == len(pool._useful) == 1
    pool.stop_leading()
    assert pool.end() == 20


# --- the look-out -------------------------------------------------------------------------------------


def waiting():
    """A client whose answer has been due for long."""
    return SimpleNamespace(asked_at=-1e9)


@pytest.fixture
def looks(pool, monkeypatch):
    """Counts the looks, of which there are many; waits for so many more when called."""
    monkeypatch.setattr(crews, "LOOK", 0.001)
    look, count = pool._nobody_seals, threading.Semaphore(0)

    def counted():
        found = look()
        count.release()
        return found

    def pass_by(number):
        while count.acquire(blocking=False):
            pass
        return all(count.acquire(timeout=10) for _ in range(number))

    monkeypatch.setattr(pool, "_nobody_seals", counted)
    return pass_by


def test_while_all_are_kept_waiting_more_are_called_and_not_more_than_there_may_be(pool, looks):
    answers, asking = threading.Event(), threading.Semaphore(0)

    def help_out(context, seconds, pool):
        pool.join(waiting())
        asking.release()
        return 0 if answers.wait(10) else 1

    pool.begin(60)
    pool.join(waiting())
    with pool.look_out(help_out, lambda context: True):
        assert all(asking.acquire(timeout=10) for _ in range(3))
        assert looks(5)
        assert pool._senders == 4
        answers.set()
    pool.stop_leading()
    pool.end()
    assert (pool._senders, pool._clients, asking.acquire(blocking=False)) == (0, {}, False)


@pytest.mark.parametrize("reason", ["somebody seals", "the time is up", "no slot goes unused"])
def test_nobody_is_called_who_would_be_of_no_use(pool, looks, reason):
    asked = []
    pool.begin(-100 if reason == "the time is up" else 60)
    pool.join(SimpleNamespace(asked_at=None) if reason == "somebody seals" else waiting())
    with pool.look_out(lambda *given: 1, asked.append):  # which says that no slot goes unused
        assert looks(5)
    assert pool._helpers == []
    # Redis and the database are asked only where it depends on them.
    assert bool(asked) is (reason == "no slot goes unused")


@pytest.mark.parametrize(("rest", "calls"), [(60, 1), (0, 3)])
def test_after_a_helper_that_found_nothing_no_other_is_called_for_a_while(
    pool, looks, monkeypatch, rest, calls
):
    monkeypatch.setattr(crews, "REST", rest)
    called = threading.Semaphore(0)
    pool.begin(60)
    pool.join(waiting())
    with pool.look_out(lambda *given: called.release() or 0, lambda context: True):
        assert all(called.acquire(timeout=10) for _ in range(calls))
        for helper in list(pool._helpers):
            helper.join(10)
        assert looks(5)
    assert rest == 0 or not called.acquire(blocking=False)
    pool.stop_leading()
    pool.end()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OperationalError("server closed the connection"), "default/w: skipped until the next run: "),
        (ProgrammingError("no such table: x"), "default/w: skipped until the next run: "),
        (ValueError("a mistake"), "the look-out of default/w ended"),
    ],
)
def test_trouble_of_the_look_out_ends_nothing_but_the_looking(pool, looks, caplog, error, told):
    looked = threading.Event()

    def fail(context):
        looked.set()
        raise error

    pool.begin(60)
    pool.join(waiting())
    with pool.look_out(lambda *given: 1, fail):
        assert looked.wait(10)
    (line,) = caplog.records
    assert line.getMessage().startswith(told)
    assert pool._helpers == []


def test_where_no_helper_can_be_had_none_is_asked_for_again_for_a_while(pool, looks, monkeypatch):
    monkeypatch.setattr(crews, "REST", 60)
    begin, asked = pool._begin_thread, []

    def begin_nobody_but_the_look_out(thread):
        return begin(thread) if "look-out" in thread.name else bool(asked.append(thread))

    monkeypatch.setattr(pool, "_begin_thread", begin_nobody_but_the_look_out)
    pool.begin(60)
    pool.join(waiting())
    with pool.look_out(lambda *given: 1, lambda context: True):
        assert looks(5)
    assert (len(asked), pool._senders) == (1, 1)


def test_a_run_that_is_cut_short_at_its_beginning_leaves_nobody_looking(pool, monkeypatch):
    begin, begun = pool._begin_thread, []

    def begin_and_be_cut_short(thread):
        begin(thread)
        begun.append(thread)
        raise TimeoutError

    monkeypatch.setattr(pool, "_begin_thread", begin_and_be_cut_short)
    with pytest.raises(TimeoutError), pool.look_out(lambda *given: 1, lambda context: True):
        pass
    assert [looking.is_alive() for looking in begun] == [False]
