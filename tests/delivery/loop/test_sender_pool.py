"""Who sends beside whom: runs that follow each other, and helpers that outlast them."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from django.db import OperationalError, ProgrammingError

from evermuse_outbox.delivery.loop import sender_pool as crews
from evermuse_outbox.delivery.loop.sender_pool import LOOK, Crew, is_another_of_use


@pytest.fixture
def crew(monkeypatch):
    """A crew of four at the most, whose helpers need no database."""
    monkeypatch.setattr(crews, "open_channel", lambda *lane: None)
    monkeypatch.setattr(crews, "close_connections", lambda: None)
    monkeypatch.setattr(Crew, "_crews", {})
    return Crew.of(SimpleNamespace(using="default", name="w", settings=SimpleNamespace(senders=4)))


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


def test_a_run_that_is_over_does_not_wait_for_helpers_with_whom_another_goes_on(crew):
    nothing_left = threading.Event()

    def help_out(channel, seconds, crew):
        return 0 if nothing_left.wait(0.01) else 1

    crew.begin(60)
    crew.sent(waiting=1.0)  # so that others are of use
    crew.call(help_out, 3)
    crew.stop_leading()
    over = threading.Thread(target=crew.end)
    over.start()
    over.join(0.3)
    assert over.is_alive()  # nobody else goes on: it waits
    try:
        assert crew.begin(60)
        assert crew.is_at_work()
        over.join(10)
        assert not over.is_alive()
    finally:
        nothing_left.set()
    crew.stop_leading()
    assert crew.end() > 0
    assert (crew._senders, crew._runs, crew._leading, crew._helpers) == (0, 0, 0, [])


def test_where_there_are_no_more_threads_the_run_goes_on_alone(crew, monkeypatch):
    class Refused(threading.Thread):
        def start(self):
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(crews.threading, "Thread", Refused)
    crew.begin(60)
    crew.sent(waiting=1.0)  # so that others are of use
    crew.call(lambda *given: 1, 3)
    crew.stop_leading()
    assert crew.end() == 0
    assert crew._senders == 0


def test_a_crew_that_never_parts_forgets_the_helpers_that_went(crew):
    crew.begin(60)
    crew.sent(waiting=1.0)  # so that others are of use
    for _ in range(20):
        turns = iter([1, 0])
        crew.call(lambda channel, seconds, crew, turns=turns: next(turns), 2)
        for helper in list(crew._helpers):
            helper.join(10)
    assert len(crew._helpers) == len(crew._useful) == 1
    crew.stop_leading()
    assert crew.end() == 20


# --- the look-out -------------------------------------------------------------------------------------


def waiting():
    """A client whose answer has been due for long."""
    return SimpleNamespace(asked_at=-1e9)


@pytest.fixture
def looks(crew, monkeypatch):
    """Counts the looks, of which there are many; waits for so many more when called."""
    monkeypatch.setattr(crews, "LOOK", 0.001)
    look, count = crew._nobody_seals, threading.Semaphore(0)

    def counted():
        found = look()
        count.release()
        return found

    def pass_by(number):
        while count.acquire(blocking=False):
            pass
        return all(count.acquire(timeout=10) for _ in range(number))

    monkeypatch.setattr(crew, "_nobody_seals", counted)
    return pass_by


def test_while_all_are_kept_waiting_more_are_called_and_not_more_than_there_may_be(crew, looks):
    answers, asking = threading.Event(), threading.Semaphore(0)

    def help_out(channel, seconds, crew):
        crew.join(waiting())
        asking.release()
        return 0 if answers.wait(10) else 1

    crew.begin(60)
    crew.join(waiting())
    with crew.look_out(help_out, lambda channel: True):
        assert all(asking.acquire(timeout=10) for _ in range(3))
        assert looks(5)
        assert crew._senders == 4
        answers.set()
    crew.stop_leading()
    crew.end()
    assert (crew._senders, crew._clients, asking.acquire(blocking=False)) == (0, {}, False)


@pytest.mark.parametrize("reason", ["somebody seals", "the time is up", "no slot goes unused"])
def test_nobody_is_called_who_would_be_of_no_use(crew, looks, reason):
    asked = []
    crew.begin(-100 if reason == "the time is up" else 60)
    crew.join(SimpleNamespace(asked_at=None) if reason == "somebody seals" else waiting())
    with crew.look_out(lambda *given: 1, asked.append):  # which says that no slot goes unused
        assert looks(5)
    assert crew._helpers == []
    # Redis and the database are asked only where it depends on them.
    assert bool(asked) is (reason == "no slot goes unused")


@pytest.mark.parametrize(("rest", "calls"), [(60, 1), (0, 3)])
def test_after_a_helper_that_found_nothing_no_other_is_called_for_a_while(
    crew, looks, monkeypatch, rest, calls
):
    monkeypatch.setattr(crews, "REST", rest)
    called = threading.Semaphore(0)
    crew.begin(60)
    crew.join(waiting())
    with crew.look_out(lambda *given: called.release() or 0, lambda channel: True):
        assert all(called.acquire(timeout=10) for _ in range(calls))
        for helper in list(crew._helpers):
            helper.join(10)
        assert looks(5)
    assert rest == 0 or not called.acquire(blocking=False)
    crew.stop_leading()
    crew.end()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OperationalError("server closed the connection"), "default/w is left for later: "),
        (ProgrammingError("no such table: x"), "default/w is left for later: "),
        (ValueError("a mistake"), "the look-out of default/w ended"),
    ],
)
def test_trouble_of_the_look_out_ends_nothing_but_the_looking(crew, looks, caplog, error, told):
    looked = threading.Event()

    def fail(channel):
        looked.set()
        raise error

    crew.begin(60)
    crew.join(waiting())
    with crew.look_out(lambda *given: 1, fail):
        assert looked.wait(10)
    (line,) = caplog.records
    assert line.getMessage().startswith(told)
    assert crew._helpers == []


def test_where_no_helper_can_be_had_none_is_asked_for_again_for_a_while(crew, looks, monkeypatch):
    monkeypatch.setattr(crews, "REST", 60)
    begin, asked = crew._begin_thread, []

    def begin_nobody_but_the_look_out(thread):
        return begin(thread) if "look-out" in thread.name else bool(asked.append(thread))

    monkeypatch.setattr(crew, "_begin_thread", begin_nobody_but_the_look_out)
    crew.begin(60)
    crew.join(waiting())
    with crew.look_out(lambda *given: 1, lambda channel: True):
        assert looks(5)
    assert (len(asked), crew._senders) == (1, 1)


def test_a_run_that_is_cut_short_at_its_beginning_leaves_nobody_looking(crew, monkeypatch):
    begin, begun = crew._begin_thread, []

    def begin_and_be_cut_short(thread):
        begin(thread)
        begun.append(thread)
        raise TimeoutError

    monkeypatch.setattr(crew, "_begin_thread", begin_and_be_cut_short)
    with pytest.raises(TimeoutError), crew.look_out(lambda *given: 1, lambda channel: True):
        pass
    assert [looking.is_alive() for looking in begun] == [False]
