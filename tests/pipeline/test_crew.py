"""Who sends beside whom: runs that follow each other, and helpers that outlast them."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from evermuse_outbox.pipeline import crew as crews
from evermuse_outbox.pipeline.crew import Crew


@pytest.fixture
def crew(monkeypatch):
    """A crew of four at the most, whose helpers need no database."""
    monkeypatch.setattr(crews, "open_channel", lambda *lane: None)
    monkeypatch.setattr(crews, "close_connections", lambda: None)
    monkeypatch.setattr(Crew, "_crews", {})
    return Crew.of(SimpleNamespace(using="default", name="w", settings=SimpleNamespace(senders=4)))


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

    monkeypatch.setattr(crews, "threading", SimpleNamespace(Thread=Refused, Lock=threading.Lock))
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
