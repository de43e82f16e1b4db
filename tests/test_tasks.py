"""The Celery tasks: they request runs only where there is work, and can run twice at once."""

from __future__ import annotations

import json
import threading
from contextlib import nullcontext
from datetime import timedelta
from types import SimpleNamespace

import pytest
from celery import current_app
from django.db import ProgrammingError, connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from evermuse_outbox import jobs, outbox, schedule, tasks
from evermuse_outbox.delivery.context import open_context
from evermuse_outbox.delivery.loop import RelayRun, seal_next
from evermuse_outbox.delivery.scanning import DueWork
from evermuse_outbox.messages import MessageKey, Publication
from evermuse_outbox.models import BatchState, OutboxBatch, OutboxMessage, OutboxRecord, OutboxWorkspace
from evermuse_outbox.sandbox import Sandbox
from evermuse_outbox.schedule import beat_schedule
from tests.records import record
from tests.rows import record_in


@pytest.fixture
def requested(monkeypatch):
    """The requested runs: name of the task, database alias and workspace."""
    calls = []
    monkeypatch.setattr(tasks, "request_run", lambda task, *queue_key: calls.append((task.name, *queue_key)))
    return calls


@pytest.fixture
def published(monkeypatch):
    """The messages that went to the broker."""
    messages = []

    def publish(task, arguments, *, is_host, **options):
        messages.append((task.name, {"args": arguments, **options}))

    monkeypatch.setattr(tasks, "publish", publish)
    return messages


@pytest.fixture
def evermuse(outbox_settings, alias):
    """A local Evermuse, and settings that point the workers to it and to one database."""
    with Sandbox(rate_limit=100_000, batch_seconds=0) as running:
        outbox_settings(
            API_URL=running.url,
            API_KEY="em_sk_sandbox",
            DATABASES=[alias],
            RATE_LIMIT=1_000,
            POLL_INTERVAL=60,
        )
        yield running


@pytest.fixture
def only(outbox_settings, alias):
    """The outbox lives in one database."""
    outbox_settings(DATABASES=[alias], WORKSPACES={"eu": {"API_KEY": "em_sk_eu"}})


def batch(alias, **changes):
    """Create a batch."""
    now = timezone.now()
    fields = {"type": "message", "product_id": "prod-abc", "contract": "reference", "body_format": "ndjson"}
    fields |= {"workspace": "default", "sha256": "", "record_count": 1, "byte_count": 1, "sealed_at": now}
    fields |= {"due_at": now, "key": f"key-{OutboxBatch.objects.using(alias).count()}"}
    return OutboxBatch.objects.using(alias).create(**fields | changes)


# --- tick ---------------------------------------------------------------------------------------------


def test_a_tick_without_work_requests_nothing(only, requested):
    tasks.tick()
    assert requested == []


def test_a_tick_requests_a_relay_where_a_record_is_pending(only, alias, requested):
    outbox.enqueue(record(), using=alias, workspace="eu")
    tasks.tick()
    assert requested == [("evermuse_outbox.relay", alias, "eu")]


def wait_for(alias, task, workspace, seconds):
    """Store that a message has waited in the queue for so many seconds."""
    rows, name = OutboxMessage.objects.using(alias), MessageKey(alias, task.name, workspace).name
    rows.ensure(name, f"{task.name} {workspace}")
    rows.claim(name)
    rows.filter(pk=name).update(waiting_since=rows.read(name).now - seconds)


def test_a_tick_runs_the_relay_that_has_waited_longest_itself(only, alias, monkeypatch):
    runs = []
    monkeypatch.setattr(tasks, "request_run", lambda *_: Publication.LATE)
    monkeypatch.setattr(
        tasks, "relay_run", lambda context, seconds, **_other: runs.append(context) or nullcontext(RelayRun())
    )
    for workspace, seconds in (("default", 3), ("eu", 9)):
        outbox.enqueue(record(), using=alias, workspace=workspace)
        wait_for(alias, tasks.relay, workspace, seconds)
    tasks.tick()
    assert [context.workspace_name for context in runs] == ["eu"]
    tasks.tick()
    assert [context.workspace_name for context in runs] == ["eu", "default"], "eu does not wait any more"


@pytest.mark.parametrize(("waiting", "seconds"), [(0, 5.0), (3, 2.5), (60, 0.25)])
def test_a_run_is_shorter_the_more_messages_wait(only, alias, monkeypatch, waiting, seconds):
    runs = []
    monkeypatch.setattr(
        tasks, "relay_run", lambda context, seconds, **_other: runs.append(seconds) or nullcontext(RelayRun())
    )
    monkeypatch.setattr(tasks, "poll_until", lambda context, seconds, **_other: runs.append(seconds) or 0)
    for number in range(waiting):
        wait_for(alias, tasks.relay, f"w{number}", 1)
    tasks.relay(alias, "eu")
    tasks.poll(alias, "eu")
    assert runs == [seconds, seconds]


def test_a_tick_requests_runs_for_batches_that_are_due_and_not_for_later_ones(only, alias, requested):
    later = timezone.now() + timedelta(hours=1)
    waiting = batch(alias, due_at=later)
    accepted = batch(alias, state=BatchState.ACCEPTED, remote_id="r", next_poll_at=later)
    batch(alias, state=BatchState.COMPLETE, remote_id="s")
    tasks.tick()
    assert requested == []
    OutboxBatch.objects.using(alias).filter(pk=waiting.pk).update(
        due_at=timezone.now() - timedelta(seconds=1)
    )
    OutboxBatch.objects.using(alias).filter(pk=accepted.pk).update(
        next_poll_at=timezone.now() - timedelta(seconds=1)
    )
    tasks.tick()
    assert requested == [
        ("evermuse_outbox.relay", alias, "default"),
        ("evermuse_outbox.poll", alias, "default"),
    ]


def test_a_tick_requests_the_execution_of_confirmed_jobs(only, alias, requested):
    pk = record_in(alias, "rejected").pk
    job = jobs.create(alias, "retry")
    assert jobs.collect(job, OutboxRecord.rows.using(alias).filter(pk=pk))
    tasks.tick()
    assert requested == []
    jobs.confirm(job)
    tasks.tick()
    assert ("evermuse_outbox.operate", alias) in requested
    assert tasks.operate(alias) == 1
    requested.clear()
    tasks.tick()
    assert [name for name, *_ in requested] == ["evermuse_outbox.relay"]


def test_a_tick_requests_runs_of_every_database_and_workspace(only, alias, requested, monkeypatch):
    looked = []
    monkeypatch.setattr(
        tasks,
        "find_work",
        lambda using, names, _: looked.append(using) or DueWork(frozenset(names), frozenset(names)),
    )
    tasks.tick()
    assert looked == [alias]
    assert requested == [
        (f"evermuse_outbox.{task}", alias, workspace)
        for workspace in ("default", "eu")
        for task in ("relay", "poll")
    ]


@pytest.mark.parametrize("count", [1, 100, 1_000])
def test_a_tick_without_work_has_as_many_statements_for_a_thousand_workspaces(
    alias, outbox_settings, requested, count
):
    workspaces = {f"customer-{number}": {"API_KEY": f"em_sk_{number}"} for number in range(count)}
    outbox_settings(DATABASES=[alias], WORKSPACES=workspaces)
    OutboxWorkspace.objects.using(alias).bulk_create(OutboxWorkspace(pk=name) for name in workspaces)
    tasks.tick()  # stores the heartbeat and reads the clock
    with CaptureQueriesContext(connections[alias]) as statements:
        tasks.tick()
    assert len(statements) == 2  # confirmed jobs, and the workspaces with work
    assert requested == []


# --- relay and poll -----------------------------------------------------------------------------------


@pytest.mark.commits
def test_relay_sends_and_requests_no_other_run_when_nothing_is_left(evermuse, alias, requested):
    outbox.enqueue_many((record(number) for number in range(3)), using=alias)
    assert tasks.relay(alias, "default") == 1
    assert len(evermuse.records()) == 3
    assert requested == []


@pytest.mark.commits
def test_relay_requests_another_run_when_records_are_left(evermuse, alias, requested, monkeypatch):
    monkeypatch.setattr(tasks, "relay_run", lambda *_, **__: nullcontext(SimpleNamespace(sent=1)))
    outbox.enqueue(record(), using=alias)
    assert tasks.relay(alias, "default") == 1
    assert requested == [("evermuse_outbox.relay", alias, "default")]


@pytest.mark.commits
def test_relay_that_sent_nothing_requests_no_other_run(evermuse, alias, requested, outbox_settings):
    outbox_settings(DATABASES=[alias], API_KEY="")
    outbox.enqueue(record(), using=alias)
    assert tasks.relay(alias, "default") == 0
    assert requested == []


@pytest.mark.commits
def test_poll_polls_batches_that_are_due(evermuse, alias):
    outbox.enqueue(record(), using=alias)
    tasks.relay(alias, "default")
    OutboxBatch.objects.using(alias).update(next_poll_at=timezone.now() + timedelta(hours=1))
    assert tasks.poll(alias, "default") == 0
    OutboxBatch.objects.using(alias).update(next_poll_at=timezone.now() - timedelta(seconds=1))
    assert tasks.poll(alias, "default") == 1
    assert OutboxBatch.objects.using(alias).get().state == BatchState.COMPLETE


@pytest.mark.django_db
@pytest.mark.parametrize("task", [tasks.relay, tasks.poll])
def test_an_error_in_our_own_sql_is_logged_with_a_traceback(monkeypatch, caplog, task):
    def fail(*_, **__):
        raise ProgrammingError("no such table: x")

    monkeypatch.setattr(tasks, "relay_run", fail)
    monkeypatch.setattr(tasks, "poll_until", fail)
    assert task("default", "default") == 0
    (line,) = caplog.records
    assert line.getMessage() == "default/default: skipped until the next run: ProgrammingError"
    assert "in fail" in line.exc_text


# --- linger -------------------------------------------------------------------------------------------


class Timers:
    """Timers that fire on demand, the monotonic clock that they use, and the runs of the relay.

    ``runs`` are the workspaces for which a relay has run, and ``is_work_left`` says whether records are left.
    """

    def __init__(self, monkeypatch):
        self.now, self.started, self.runs, self.is_work_left = 100.0, [], [], True
        monkeypatch.setattr(tasks, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(tasks, "_start_timer", lambda key, seconds: self.started.append((key, seconds)))
        monkeypatch.setattr(tasks, "_lingering", {})
        monkeypatch.setattr(tasks, "open_context", lambda _, workspace: workspace)
        monkeypatch.setattr(tasks, "has_work", lambda _: self.is_work_left)
        monkeypatch.setattr(tasks, "relay_run", self._run)
        monkeypatch.setattr(tasks, "_run_seconds", lambda _: tasks.RUN_SECONDS)
        for name in ("beat", "poll_due_batch"):
            monkeypatch.setattr(tasks, name, lambda *_: None)

    def fire(self):
        """Let the time of the oldest timer pass, and fire it."""
        key, seconds = self.started.pop(0)
        self.now += seconds
        tasks._end_linger(key)

    def _run(self, workspace, _, **__):
        self.runs.append(workspace)
        return nullcontext(SimpleNamespace(sent=0))


@pytest.fixture
def timers(monkeypatch):
    return Timers(monkeypatch)


def wake(workspace, linger=0.25):
    """Run the relay as a worker does for a wake-up."""
    tasks.relay.push_request(called_directly=False, is_eager=False)
    try:
        return tasks.relay.run("default", workspace, linger)
    finally:
        tasks.relay.pop_request()


def test_a_wake_up_runs_at_once_and_a_timer_requests_another_relay_for_what_is_left(timers, requested):
    wake("eu")
    assert timers.runs == ["eu"]
    assert requested == []
    timers.fire()
    assert requested == [("evermuse_outbox.relay", "default", "eu")]
    assert timers.started == []
    assert tasks._lingering == {}


def test_a_timer_requests_nothing_if_no_record_is_left(timers, requested):
    wake("eu")
    timers.is_work_left = False
    timers.fire()
    assert requested == []
    wake("eu")
    assert timers.runs == ["eu"] * 2


def test_many_wake_ups_share_one_run_and_one_timer_of_their_workspace(timers, requested):
    for _ in range(50):
        wake("eu")
    wake("us")
    assert timers.runs == ["eu", "us"]
    assert [key for key, _ in timers.started] == [("default", "eu"), ("default", "us")]


def test_constant_wake_ups_delay_no_relay(timers, requested):
    wake("eu")
    for count in range(1, 4):
        timers.now += 0.125
        wake("eu")
        timers.now -= 0.125
        timers.fire()
        assert len(requested) == count
        assert 0 < timers.started[0][1] <= 0.25
    timers.fire()
    assert len(requested) == 4
    assert timers.started == []
    assert timers.runs == ["eu"]


def test_a_long_linger_is_limited(timers):
    wake("eu", linger=60)
    assert timers.started == [(("default", "eu"), tasks.MAX_LINGER)]


def test_a_broker_that_fails_during_a_linger_is_logged(timers, monkeypatch, caplog):
    def fail(*_):
        raise ConnectionError

    monkeypatch.setattr(tasks, "request_run", fail)
    wake("eu")
    timers.fire()
    assert "no run of evermuse_outbox.relay could be requested" in caplog.text
    assert tasks._lingering == {}


# --- messages -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("queue", [None, "outbox"])
def test_messages_contain_only_names_and_no_time(published, outbox_settings, queue):
    outbox_settings(CELERY_QUEUE=queue)
    tasks.request_run(tasks.relay, "default", "eu")
    tasks.request_run(tasks.relay, "default", "eu", linger=0.2)
    (first, at_once), (second, later) = published
    assert first == second == "evermuse_outbox.relay"
    assert json.loads(json.dumps(at_once["args"])) == ["default", "eu"]
    assert later["args"] == ("default", "eu", 0.2)
    # Each of these is a time on the clock of the sender, which the worker would compare with its own.
    assert not {"countdown", "eta", "expires"} & (set(at_once) | set(later))
    assert at_once["queue"] == later["queue"] == queue


# --- concurrency --------------------------------------------------------------------------------------


def run_together(alias, *functions):
    """Run all functions at the same time, each with its own connection; return the exceptions."""
    start, errors = threading.Barrier(len(functions)), []

    def run(function):
        start.wait(10)
        try:
            function()
        except Exception as error:
            errors.append(error)
        finally:
            connections[alias].close()

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return errors


@pytest.fixture
def many_threads(alias):
    if connections[alias].vendor == "sqlite" and connections[alias].is_in_memory_db():
        pytest.skip("a database in memory has one connection")


@pytest.mark.commits
def test_two_ticks_at_once_do_no_harm(many_threads, evermuse, alias, requested):
    outbox.enqueue_many((record(number) for number in range(5)), using=alias)
    assert run_together(alias, tasks.tick, tasks.tick) == []
    assert requested == [("evermuse_outbox.relay", alias, "default")] * 2
    assert run_together(alias, *[lambda call=call: tasks.relay(*call[1:]) for call in requested]) == []
    assert run_together(alias, tasks.maintain, tasks.maintain) == []
    assert {stored.times for stored in evermuse.records()} == {1}
    assert len([arrival for arrival in evermuse.arrivals if arrival.method == "POST"]) == 1
    assert OutboxBatch.objects.using(alias).get().state == BatchState.ACCEPTED


# --- maintain -----------------------------------------------------------------------------------------


@pytest.mark.commits
def test_maintain_rescues_a_batch_whose_lease_has_expired(only, alias):
    outbox.enqueue(record(), using=alias)
    sealed = seal_next(open_context(alias, "default"))
    tasks.maintain()
    assert OutboxBatch.objects.using(alias).get().state == BatchState.SENDING
    OutboxBatch.objects.using(alias).filter(pk=sealed.batch.pk).update(
        leased_until=timezone.now() - timedelta(seconds=1)
    )
    tasks.maintain()
    assert OutboxBatch.objects.using(alias).get().state == BatchState.IN_DOUBT


@pytest.mark.commits
def test_maintain_purges_records_older_than_the_retention(alias, outbox_settings):
    outbox_settings(DATABASES=[alias], RETENTION_DAYS=7)
    for days in (6, 8):
        row = outbox.enqueue(record(days), using=alias)
        long_ago = timezone.now() - timedelta(days=days)
        done = batch(alias, state=BatchState.COMPLETE, remote_id="r", finished_at=long_ago)
        OutboxRecord.rows.using(alias).filter(pk=row.pk).update(batch=done)
    tasks.maintain()
    (kept,) = OutboxRecord.rows.using(alias)
    assert kept.envelope()["_vendor_ids"] == {"message_id": "msg-6"}
    assert OutboxBatch.objects.using(alias).count() == 1


# --- schedule -----------------------------------------------------------------------------------------


@pytest.mark.django_db  # importing the tasks can run checks, which query the database
def test_the_schedule_names_registered_tasks():
    current_app.loader.import_default_modules()
    entries = beat_schedule()
    assert {entry["task"] for entry in entries.values()} == {
        "evermuse_outbox.tick",
        "evermuse_outbox.maintain",
    }
    assert all(entry["task"] in current_app.tasks for entry in entries.values())
    assert all(name.startswith("evermuse-outbox-") for name in entries)


def test_the_broker_drops_stale_ticks_on_its_clock():
    entries = beat_schedule()
    tick, maintain = entries["evermuse-outbox-tick"], entries["evermuse-outbox-maintain"]
    assert (tick["schedule"], maintain["schedule"]) == (schedule.TICK, schedule.MAINTAIN)
    assert tick["options"] == {"expiration": 10.0}
    assert maintain["options"] == {"expiration": 10.0}


def test_the_schedule_can_name_a_queue():
    assert {entry["options"]["queue"] for entry in beat_schedule("outbox").values()} == {"outbox"}
    assert not any("queue" in entry["options"] for entry in beat_schedule().values())


def test_every_task_has_a_stable_name_and_stores_no_result():
    for name in ("tick", "relay", "poll", "operate", "maintain"):
        task = getattr(tasks, name)
        assert task.name == f"evermuse_outbox.{name}"
        assert task.ignore_result is True


def test_a_workspace_row_is_not_needed_to_look_for_work(only, alias, requested):
    tasks.tick()
    assert not OutboxWorkspace.objects.using(alias).exists()


# --- backlogs of messages -----------------------------------------------------------------------------


def test_a_backlog_of_ticks_costs_one_run(monkeypatch, published):
    looked = []
    monkeypatch.setattr(tasks, "beat", lambda *_: None)
    monkeypatch.setattr(tasks, "has_running_job", lambda _: False)
    monkeypatch.setattr(tasks, "_last_run", {})
    monkeypatch.setattr(tasks, "find_work", lambda *_: looked.append(1) or DueWork(frozenset(), frozenset()))
    monkeypatch.setattr(
        tasks, "IDLE_SECONDS", 3_600.0
    )  # longer than a slow machine needs for a hundred ticks
    for _ in range(100):
        tasks.tick.apply(throw=True)  # as a worker runs it
    assert len(looked) == len(connections.settings)
    tasks._last_run["evermuse_outbox.tick"] -= tasks.IDLE_SECONDS
    tasks.tick.apply(throw=True)
    assert len(looked) == 2 * len(connections.settings)


def test_a_backlog_of_wake_ups_costs_one_relay_and_no_statement(timers, requested):
    for _ in range(100):
        assert wake("default", 3_600.0) == 0
    timers.fire()
    assert len(requested) == 1
