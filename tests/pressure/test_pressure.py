"""How long a new record will probably wait, the refusal of records, and the signal."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from evermuse_outbox import outbox
from evermuse_outbox.delivery.loop import seal_next
from evermuse_outbox.delivery.scheduling import RunQueue
from evermuse_outbox.models import OutboxPressure, OutboxRecord, OutboxWorker, OutboxWorkspace
from evermuse_outbox.pressure import current, measure, observe_pressure
from evermuse_outbox.signals import pressure_changed
from tests.records import enqueue, record
from tests.rows import group


@pytest.fixture(autouse=True)
def forget():
    """Begin and end without a measurement."""
    current._known.clear()
    yield
    current._known.clear()


@pytest.fixture
def read(alias):
    """Return a function that measures now."""

    def read_now():
        current._known.clear()
        return outbox.pressure(using=alias)

    return read_now


@pytest.fixture
def heard():
    """Return the list of the signals that were sent: whether the pressure is high."""
    heard = []

    def receive(sender, is_high, pressure, **_arguments):
        heard.append(is_high)

    pressure_changed.connect(receive)
    yield heard
    pressure_changed.disconnect(receive)


def test_an_empty_outbox_has_no_pressure(context, read):
    assert read() == outbox.Pressure(0.0)
    assert str(read()) == "A new record waits about 0 s."


def test_the_wait_is_that_of_the_requests_before(context, alias, read, outbox_settings, sandbox):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_RECORDS=10, RATE_LIMIT=2)
    enqueue(alias, *range(25))
    outbox.enqueue(record(99, _product_id="other"), using=alias)
    pressure = read()
    assert (pressure.requests, pressure.records, pressure.seconds) == (4, 26, 2.0)
    assert "about 4 requests go before" in str(pressure)


def test_batches_that_are_not_sent_yet_count(context, alias, read):
    enqueue(alias, 1)
    seal_next(context)
    assert (read().requests, read().records) == (1, 0)


def test_a_long_backlog_is_extrapolated(context, alias, read, monkeypatch):
    monkeypatch.setattr(measure, "MIN_COUNTED", 10)
    monkeypatch.setattr(measure, "MAX_COUNTED", 10)
    for number in range(100):
        enqueue(alias, number)
        outbox.enqueue(record(number, _product_id="other"), using=alias)
    assert read().records == pytest.approx(200, rel=0.1)


def test_a_burst_before_hours_of_few_records_is_extrapolated_from_ids(context, alias, read, monkeypatch):
    monkeypatch.setattr(measure, "MIN_COUNTED", 10)
    monkeypatch.setattr(measure, "MAX_COUNTED", 10)
    rows, now = enqueue(alias, *range(30)), timezone.now()
    for number, row in enumerate(rows):  # 25 records in a second, then one each hour
        at = now - timedelta(hours=6 - max(number - 24, 0), seconds=-number / 25)
        OutboxRecord.rows.using(alias).filter(pk=row.pk).update(enqueued_at=at)
    assert read().records == pytest.approx(30, rel=0.1)


@pytest.mark.parametrize(
    ("records", "age", "linger", "requests"), [(1, 5, 60, 0), (1, 61, 60, 1), (10, 5, 60, 1)]
)
def test_a_group_that_lingers_goes_not_before(
    context, alias, read, outbox_settings, sandbox, records, age, linger, requests
):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_RECORDS=10, LINGER=linger)
    rows, now = enqueue(alias, *range(records)), timezone.now()
    for row in rows:
        OutboxRecord.rows.using(alias).filter(pk=row.pk).update(enqueued_at=now - timedelta(seconds=age))
    workspace = OutboxWorkspace.objects.using(alias).ensure_row("default")
    workspace.run_queue = RunQueue(sealed_at={("message", rows[0].product_id): now.timestamp()}).to_json()
    workspace.save(using=alias)
    assert (read().requests, read().records) == (requests, records)


def test_a_group_whose_linger_ends_while_others_are_sent_goes_before(
    context, alias, read, outbox_settings, sandbox
):
    outbox_settings(
        API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_RECORDS=2, LINGER=10, RATE_LIMIT=1
    )
    enqueue(alias, *range(30))
    outbox.enqueue(record(99, _product_id="other"), using=alias)
    workspace = OutboxWorkspace.objects.using(alias).ensure_row("default")
    workspace.run_queue = RunQueue(sealed_at={("message", "other"): timezone.now().timestamp()}).to_json()
    workspace.save(using=alias)
    assert read().requests == 16


def test_records_of_a_paused_group_are_not_sent_so_they_do_not_count(context, alias, read):
    enqueue(alias, 1)
    group(alias)
    assert read().records == 0


def test_the_wait_is_not_known_in_a_workspace_that_a_person_holds(context, alias, read):
    OutboxWorkspace.objects.using(alias).hold("default", timezone.now(), "ana", "maintenance")
    pressure = read()
    assert pressure.seconds is None
    assert pressure.is_above(1e9)
    assert "held: maintenance" in str(pressure)


def test_the_end_of_a_block_counts(context, alias, read):
    until = timezone.now() + timedelta(seconds=60)
    OutboxWorkspace.objects.using(alias).throttle("default", until, "429")
    assert read().seconds == pytest.approx(60, abs=5)


def test_a_process_measures_once_in_a_while(context, alias):
    outbox.pressure(using=alias)
    with CaptureQueriesContext(connections[alias]) as captured:
        outbox.pressure(using=alias)
    assert len(captured) == 0


def test_a_record_is_refused_if_it_would_wait_too_long(context, alias, outbox_settings, sandbox):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_RECORDS=1, REJECT_ABOVE=2)
    enqueue(alias, *range(30))
    current._known.clear()
    with pytest.raises(outbox.OutboxFull, match=r"REJECT_ABOVE is 2 s.*30 requests") as caught:
        outbox.enqueue(record(31), using=alias)
    assert caught.value.workspace == "default"
    with pytest.raises(outbox.OutboxFull):
        outbox.enqueue_many([record(32)], using=alias)
    assert OutboxRecord.rows.using(alias).count() == 30


def test_missing_workers_are_expected_to_be_missing_for_as_long_again(context, alias, read):
    now = timezone.now()

    def note(seconds):
        at = now - timedelta(seconds=seconds)
        OutboxWorker.objects.using(alias).create(host="h", pid=1, started_at=at, last_seen_at=at)

    note(600)
    pressure = read()
    assert 600 <= pressure.seconds < 700
    assert "no worker was seen since" in str(pressure)
    assert not pressure.is_above(3600), "REJECT_ABOVE of an hour takes records during a deployment"
    note(5)
    assert read() == outbox.Pressure(0.0)


def test_a_measurement_that_fails_refuses_nothing_and_leaves_the_transaction_usable(
    context, alias, outbox_settings, sandbox, monkeypatch, caplog
):
    def fail(*_arguments):
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT no_such_column FROM evermuse_outbox_outboxrecord")

    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", REJECT_ABOVE=2)
    monkeypatch.setattr(current, "measure_now", fail)
    with transaction.atomic(using=alias):
        outbox.enqueue(record(1), using=alias)
        outbox.enqueue(record(2), using=alias)
    assert OutboxRecord.rows.using(alias).count() == 2
    assert caplog.text.count("REJECT_ABOVE is not applied") == 1


def test_after_a_refusal_the_transaction_of_the_host_is_usable(context, alias, outbox_settings, sandbox):
    OutboxWorkspace.objects.using(alias).hold("default", timezone.now(), "ana", "maintenance")
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", REJECT_ABOVE=2)
    with transaction.atomic(using=alias):
        with pytest.raises(outbox.OutboxFull):
            outbox.enqueue_many([record(1), record(2)], using=alias)
        assert not OutboxRecord.rows.using(alias).exists()


def test_without_a_limit_nothing_is_measured(context, alias):
    with CaptureQueriesContext(connections[alias]) as captured:
        outbox.enqueue(record(1), using=alias)
    assert len(captured) == 1


@pytest.mark.commits
def test_the_signal_is_sent_once_for_each_change(context, alias, outbox_settings, sandbox, heard):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_RECORDS=1, PRESSURE_THRESHOLD=1)

    def observe():
        current._known.clear()
        observe_pressure(alias)

    observe()
    enqueue(alias, *range(11))
    observe()
    observe()
    assert heard == [True]
    first = list(OutboxRecord.rows.using(alias).values_list("pk", flat=True)[:4])
    OutboxRecord.rows.using(alias).filter(pk__in=first).discard()
    observe()
    assert heard == [True]  # 0.7 s is more than half of the threshold
    OutboxRecord.rows.using(alias).pending().discard()
    observe()
    observe()
    assert heard == [True, False]
    assert not OutboxPressure.objects.using(alias).exists()
