"""The dispatcher: which runs it starts, in which order, and that an error of one workspace stops no other."""

from __future__ import annotations

import threading

import pytest
from django.db import OperationalError

from evermuse_outbox import outbox
from evermuse_outbox.delivery.loop import Dispatcher, dispatcher, pace
from evermuse_outbox.delivery.scanning import DueWork, WaitingWork
from evermuse_outbox.models import BatchState, OutboxBatch
from evermuse_outbox.sandbox import Sandbox
from tests.records import record

NOTHING = frozenset()


class FakeClock:
    """A monotonic clock that a test sets."""

    now = 0.0

    def __call__(self):
        return self.now


class Runs:
    """Runs that begin in the threads of a dispatcher, and end when the test says so."""

    def __init__(self):
        self.started = []
        self.seconds = []
        self.results = {}
        self.release = threading.Event()
        self.release.set()
        self._changed = threading.Condition()

    def relay(self, key, seconds, end):
        with self._changed:
            self.started.append(key.workspace)
            self.seconds.append(seconds)
            self._changed.notify_all()
        assert self.release.wait(30)
        result = self.results.get(key.workspace, 1)
        if isinstance(result, Exception):
            raise result
        end(result == "more")
        return bool(result)

    def wait_for(self, count):
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.started) >= count, 30)


@pytest.fixture
def runs(monkeypatch):
    made = Runs()
    monkeypatch.setattr(dispatcher, "_relay", made.relay)
    monkeypatch.setattr(dispatcher, "_poll", lambda key, seconds: made.relay(key, seconds, lambda _: None))
    return made


@pytest.fixture
def work(monkeypatch, outbox_settings):
    """The workspaces that wait and those that are due; a test changes both."""
    outbox_settings(
        DATABASES=["default"], WORKSPACES={name: {"API_KEY": f"em_sk_{name}"} for name in "abcdef"}
    )
    found = {"waiting": WaitingWork(NOTHING, NOTHING, NOTHING), "due": None, "asked": []}

    def find_due(using, waiting, now):
        found["asked"].append(waiting)
        return found["due"] or DueWork(waiting.pending | waiting.unsent, waiting.polled)

    monkeypatch.setattr(dispatcher, "find_waiting_work", lambda using: found["waiting"])
    monkeypatch.setattr(dispatcher, "find_due_work", find_due)
    monkeypatch.setattr(dispatcher, "is_any_pending", lambda using: bool(found["waiting"].pending))
    return found


@pytest.fixture
def make():
    """Return a function that makes a dispatcher, which is stopped after the test."""
    made = []

    def make_one(threads=1, monotonic=None):
        made.append(Dispatcher(threads, monotonic=monotonic or FakeClock()))
        return made[-1]

    yield make_one
    for each in made:
        each.stop()


def waiting(pending="", unsent="", polled=""):
    """Return waiting work; each letter is the name of a workspace."""
    return WaitingWork(frozenset(pending), frozenset(unsent), frozenset(polled))


pytestmark = pytest.mark.django_db


def test_each_workspace_gets_one_run_of_a_kind_and_all_share_the_threads_in_order(runs, work, make):
    made = make(threads=1)
    runs.release.clear()
    work["waiting"] = waiting(pending="ca", unsent="b", polled="a")
    made.look("default")
    made.look("default")
    runs.release.set()
    runs.wait_for(4)
    made.stop()
    assert runs.started == ["a", "b", "c", "a"]


def test_runs_are_short_while_others_wait_for_a_thread(runs, work, make):
    made = make(threads=1)
    runs.release.clear()
    work["waiting"] = waiting(pending="a")
    made.look("default")
    runs.wait_for(1)
    work["waiting"] = waiting(pending="abc")
    made.look("default")
    runs.release.set()
    runs.wait_for(3)
    assert runs.started == ["a", "b", "c"]
    assert runs.seconds == [dispatcher.RUN_SECONDS, dispatcher.SHARED_RUN_SECONDS, dispatcher.RUN_SECONDS]


def test_a_run_with_records_left_is_followed_by_another_behind_the_others(runs, work, make):
    made = make(threads=1)
    runs.release.clear()
    runs.results["a"] = "more"
    work["waiting"] = waiting(pending="ab")
    made.look("default")
    runs.wait_for(1)
    runs.release.set()
    runs.wait_for(3)
    assert runs.started[:3] == ["a", "b", "a"]
    runs.results["a"] = 1


def test_a_workspace_rests_after_a_run_that_found_nothing(runs, work, make):
    clock = FakeClock()
    made = make(monotonic=clock)
    runs.results["a"] = 0
    work["waiting"] = waiting(pending="a")
    made.look("default")
    runs.wait_for(1)
    made.stop()  # waits for the end of the run

    again = make(monotonic=clock)
    again._resting = made._resting
    again.look("default")
    assert again._active == set()
    clock.now += dispatcher.REST_SECONDS
    again.look("default")
    runs.wait_for(2)


def test_a_lone_record_does_not_wait_for_the_statement_that_says_what_is_due(runs, work, make):
    made = make()
    work["waiting"] = waiting(pending="a", unsent="a")
    made.look("default")
    runs.wait_for(1)
    assert work["asked"] == []
    made.stop()

    made = make(threads=2)
    work["waiting"], work["due"] = waiting(pending="b", unsent="bc", polled="d"), DueWork({"c"}, NOTHING)
    made.look("default")
    runs.wait_for(3)
    assert work["asked"] == [waiting(unsent="c", polled="d")]
    assert sorted(runs.started) == ["a", "b", "c"]


def test_only_some_looks_search_for_batches_that_are_due_but_each_for_new_records(runs, work, make):
    clock = FakeClock()
    made = make(monotonic=clock)
    made.look("default")
    work["waiting"] = waiting(unsent="a")
    clock.now += pace.FULL_LOOK_INTERVAL / 2
    made.look("default")
    assert work["asked"] == []
    work["waiting"] = waiting(pending="b", unsent="a")
    made.look("default")
    runs.wait_for(2)
    work["waiting"] = waiting(unsent="c")
    clock.now += pace.FULL_LOOK_INTERVAL
    made.look("default")
    runs.wait_for(3)


def test_work_that_is_not_due_is_looked_at_again_after_a_rest(runs, work, make):
    clock = FakeClock()
    made = make(monotonic=clock)
    work["waiting"], work["due"] = waiting(pending="ab", polled="c"), DueWork(NOTHING, NOTHING)
    made.look("default")
    made.look("default")
    assert len(work["asked"]) == 1
    clock.now += dispatcher.REST_SECONDS
    made.look("default")
    clock.now += dispatcher.POLL_REST_SECONDS - dispatcher.REST_SECONDS
    made.look("default")
    assert work["asked"][1:] == [waiting(pending="ab"), waiting(pending="ab", polled="c")]
    assert runs.started == []


@pytest.mark.parametrize("error", [OperationalError("gone away"), RuntimeError("unforeseen")])
def test_a_workspace_is_tried_again_after_an_error_and_stops_no_other(runs, work, make, caplog, error):
    clock = FakeClock()
    made = make(monotonic=clock)
    runs.results["a"] = error
    work["waiting"] = waiting(pending="ab")
    made.look("default")
    runs.wait_for(2)
    made.stop()
    assert runs.started == ["a", "b"]
    assert type(error).__name__ in caplog.text
    assert str(error) not in caplog.text  # it could quote payload

    again = make(monotonic=clock)
    again._resting = made._resting
    work["waiting"] = waiting(pending="a")
    again.look("default")
    clock.now += dispatcher.ERROR_PAUSE
    again.look("default")
    runs.wait_for(3)


def test_workspaces_that_the_settings_do_not_name_are_left_alone(runs, work, make):
    work["waiting"] = waiting(pending="ax", polled="y")
    made = make()
    made.look("default")
    runs.wait_for(1)
    made.stop()
    assert runs.started == ["a"]


def test_looks_take_a_small_share_of_the_time(work, make, monkeypatch):
    clock = FakeClock()
    made = make(monotonic=clock)
    assert made.look("default") == pace.LOOK_INTERVAL

    def look_slowly(using):
        clock.now += 0.01
        return False

    monkeypatch.setattr(dispatcher, "is_any_pending", look_slowly)
    assert made.look("default") == pytest.approx(0.01 * pace.LOOK_SHARE)


def test_a_stop_starts_nothing_that_waits_for_a_thread(runs, work, make):
    made = make(threads=1)
    runs.release.clear()
    runs.results["a"] = "more"
    work["waiting"] = waiting(pending="ab")
    made.look("default")
    runs.wait_for(1)
    stopping = threading.Thread(target=made.stop)
    stopping.start()
    while not made._is_stopped:
        stopping.join(0.01)
    runs.release.set()
    stopping.join(30)
    assert runs.started == ["a"]


@pytest.mark.commits
def test_records_of_many_workspaces_are_delivered_by_few_threads(alias, outbox_settings):
    names = [f"customer-{number}" for number in range(12)]
    keys = {f"em_sk_sandbox-{name}": ("api:read", "api:write") for name in names}
    with Sandbox(rate_limit=100_000, batch_seconds=0, keys=keys) as evermuse:
        outbox_settings(
            API_URL=evermuse.url,
            DATABASES=[alias],
            RATE_LIMIT=1_000,
            POLL_INTERVAL=0.05,
            WORKSPACES={name: {"API_KEY": f"em_sk_sandbox-{name}"} for name in names},
        )
        for name in names:
            outbox.enqueue(record(name), using=alias, workspace=name)
        made = Dispatcher(1 if alias == "default" else 3)
        complete = OutboxBatch.objects.using(alias).filter(state=BatchState.COMPLETE)
        pause, threads = threading.Event(), set()
        try:
            for _ in range(400):
                pause.wait(made.look(alias))
                threads |= {thread.name for thread in threading.enumerate() if "outbox run" in thread.name}
                if complete.count() == len(names):
                    break
        finally:
            made.stop()
        assert sorted(complete.values_list("workspace", flat=True)) == sorted(names)
        assert len(threads) <= 3
