"""Queues stay short for an hour without workers, with each scheduler, on Redis and on RabbitMQ."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import uuid

import pytest
from celery import Celery

from evermuse_outbox import tasks
from evermuse_outbox.messages import claims
from evermuse_outbox.messages.task import HEADER
from evermuse_outbox.models import OutboxMessage
from evermuse_outbox.schedule import beat_schedule
from tests.services import HOW_TO_START, RABBITMQ_URL, REDIS_URL

HOUR = 3_600
TICKS = 150
"""Rounds of a scheduler in a test. With Redis the claims are made older, so that they last three."""
SCHEDULERS = {
    "celery": ("celery.beat", "Scheduler"),
    "redbeat": ("redbeat.schedulers", "RedBeatScheduler"),
}
BROKERS = {"redis": REDIS_URL, "rabbitmq": RABBITMQ_URL}


@pytest.fixture(params=sorted(BROKERS))
def app(request, alias, outbox_settings):
    """A Celery app with a queue of its own on a real broker."""
    url = BROKERS[request.param]
    if not url:
        pytest.skip(f"no {request.param}: {HOW_TO_START[request.param]}")
    outbox_settings(DATABASES=[alias], WAKE_ON_COMMIT=True)
    app = Celery("messages", broker=url, set_as_current=False)
    app.conf.task_default_queue = f"test-{uuid.uuid4().hex[:8]}"
    app.conf.redbeat_redis_url, app.conf.redbeat_key_prefix = REDIS_URL, app.conf.task_default_queue
    app.finalize()
    yield app
    with app.connection_for_write() as connection, connection.channel() as channel:
        channel.queue_delete(app.conf.task_default_queue)
    app.close()


def count_messages(app):
    with app.connection_for_write() as connection, connection.channel() as channel:
        return channel.queue_declare(app.conf.task_default_queue, passive=True).message_count


def make_older(alias, seconds):
    """Let time pass for all claims."""
    for message in OutboxMessage.objects.using(alias).filter(waiting_since__isnull=False):
        OutboxMessage.objects.using(alias).filter(pk=message.pk).update(
            waiting_since=message.waiting_since - seconds, checked_at=message.checked_at - seconds
        )


def clear(app):
    """Lose all messages, as FLUSHALL does."""
    with app.connection_for_write() as connection, connection.channel() as channel:
        channel.queue_purge(app.conf.task_default_queue)


def read_messages(app):
    """Take all messages from the queue, as a worker does: names of the tasks and headers."""
    taken = []
    with app.connection_for_write() as connection, connection.channel() as channel:
        while message := channel.basic_get(app.conf.task_default_queue, no_ack=True):
            headers = message.headers
            taken.append((headers["task"], headers))
    return taken


@pytest.mark.commits
@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_an_hour_of_ticks_leaves_one_message_of_each_task(app, alias, name):
    module, cls = SCHEDULERS[name]
    if importlib.util.find_spec(module.split(".")[0]) is None:
        pytest.skip(f"{module} is not installed")
    app.conf.beat_schedule = beat_schedule()
    scheduler = getattr(importlib.import_module(module), cls)(app=app)
    entries = [scheduler._maybe_entry(*item) for item in app.conf.beat_schedule.items()]
    assert len(entries) == 2
    logging.getLogger("celery.beat").setLevel(logging.WARNING)
    for second in range(TICKS):
        for entry in entries:
            scheduler.apply_entry(entry, producer=scheduler.producer)
        if second % 8 == 7 and app.connection().transport.driver_type == "redis":
            make_older(alias, HOUR / 6)  # RabbitMQ would have dropped the message by then
    assert count_messages(app) == 2


@pytest.mark.commits
def test_wake_ups_of_many_processes_and_ticks_leave_one_message(app, alias):
    relay = app.tasks["evermuse_outbox.relay"]
    for _ in range(100):
        tasks.request_run(relay, alias, "default", linger=0.2, is_host=True)
        tasks.request_run(relay, alias, "default")
    tasks.request_run(relay, alias, "eu")
    assert count_messages(app) == 2
    assert [task for task, _ in read_messages(app)] == ["evermuse_outbox.relay"] * 2


@pytest.mark.commits
def test_a_message_that_is_lost_is_published_again_within_seconds(app, alias):
    tick = app.tasks["evermuse_outbox.tick"]
    assert tick.apply_async() is not None
    assert tick.apply_async() is None
    clear(app)
    assert tick.apply_async() is None
    make_older(alias, claims.EXAMINE_AFTER)
    assert tick.apply_async() is not None
    assert tick.apply_async() is None
    assert count_messages(app) == 1


@pytest.mark.commits
def test_a_message_that_is_lost_in_a_queue_of_other_messages_is_published_again(app, alias):
    tick = app.tasks["evermuse_outbox.tick"]
    tick.apply_async()
    clear(app)
    app.send_task("host.task")
    make_older(alias, 36)
    assert tick.apply_async() is not None
    assert count_messages(app) == 2


@pytest.mark.commits
def test_a_message_behind_many_others_still_waits(app, alias):
    if app.connection().transport.driver_type != "redis":
        pytest.skip("RabbitMQ drops the message after its time to live")
    for _ in range(3):
        app.send_task("host.task")
    tick = app.tasks["evermuse_outbox.tick"]
    tick.apply_async()
    for _ in range(600):
        app.send_task("host.task")
    for _ in range(10):
        make_older(alias, HOUR)
        assert tick.apply_async() is None


@pytest.mark.commits
def test_a_task_takes_its_message_and_drops_a_copy(app, alias):
    tick = app.tasks["evermuse_outbox.tick"]
    tick.apply_async()
    ((_, headers),) = read_messages(app)
    tick.push_request(called_directly=False, headers=None, args=[], **{HEADER: headers[HEADER]})
    try:
        assert tick.is_copy() is False
        assert tick.is_copy() is True
    finally:
        tick.pop_request()
    assert tick.apply_async() is not None


@pytest.mark.commits
def test_without_the_database_a_tick_is_published_without_a_claim(app, alias, monkeypatch):
    from django.db import OperationalError

    def fail(*_):
        raise OperationalError("the database is down")

    monkeypatch.setattr("evermuse_outbox.models.messages.message.MessageQuerySet.read", fail)
    tick = app.tasks["evermuse_outbox.tick"]
    assert tick.apply_async() is not None
    ((task, headers),) = read_messages(app)
    assert task == "evermuse_outbox.tick"
    assert HEADER not in headers


@pytest.mark.commits
def test_a_broker_that_refuses_a_message_leaves_no_claim(alias, outbox_settings):
    outbox_settings(DATABASES=[alias])
    app = Celery("dead", broker="redis://127.0.0.1:1/0", set_as_current=False)
    app.finalize()
    with pytest.raises(Exception, match=r"111|refused"):
        tasks.request_run(app.tasks["evermuse_outbox.relay"], alias, "default")
    assert not OutboxMessage.objects.using(alias).filter(waiting_since__isnull=False).exists()


@pytest.mark.commits
def test_within_an_open_transaction_nothing_is_claimed(app, alias):
    from django.db import transaction

    with transaction.atomic(using=alias):
        tasks.request_run(app.tasks["evermuse_outbox.relay"], alias, "default", is_host=True)
    assert not OutboxMessage.objects.using(alias).exists()
    assert count_messages(app) == 1
