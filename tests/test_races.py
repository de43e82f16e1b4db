"""Races: several real connections at once, in the most dangerous order on purpose."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from django.db import OperationalError, connections, transaction

from evermuse_outbox import outbox
from evermuse_outbox.delivery.context import open_context
from evermuse_outbox.delivery.loop import poll, relay, seal_next
from evermuse_outbox.delivery.sealing import reseal, seal
from evermuse_outbox.delivery.sending import give_back, lease_due
from evermuse_outbox.delivery.settling import fail_accepted_batch
from evermuse_outbox.models import OutboxBatch, OutboxRecord
from evermuse_outbox.sandbox import Fault, Sandbox
from evermuse_outbox.upkeep import rescue_batches
from tests.database_faults import SHORT_LOCK_TIMEOUT
from tests.delivery.helpers import deliver
from tests.records import enqueue, record
from tests.versions_model import RolledBack, UnlimitedThrottle

pytestmark = pytest.mark.commits


def closing(step):
    """Return ``step`` for a thread: its connections are closed at the end."""

    def run(*arguments):
        try:
            return step(*arguments)
        finally:
            connections.close_all()

    return run


def test_an_older_version_that_is_sealed_again_and_a_newer_version_are_never_both_in_flight(
    context, alias, sandbox, monkeypatch
):
    (older,) = enqueue(alias, 1)
    relay(context, 60)
    batch = OutboxBatch.objects.using(alias).get()
    has_failed, may_commit, has_committed, has_read_page = (threading.Event() for _ in range(4))

    def fail_slowly():
        with transaction.atomic(using=alias):
            fail_accepted_batch(context, batch, "Evermuse reports FAILED")
            has_failed.set()
            assert may_commit.wait(20)
        has_committed.set()

    select_sendable = seal.supersede_and_select_sendable

    def select_late(*arguments):
        # The page was read. Let the other transaction commit before the versions are read.
        has_read_page.set()
        may_commit.set()
        assert has_committed.wait(20)
        return select_sendable(*arguments)

    monkeypatch.setattr(seal, "supersede_and_select_sendable", select_late)
    with ThreadPoolExecutor(2) as pool:
        failing = pool.submit(closing(fail_slowly))
        assert has_failed.wait(20)
        if connections[alias].vendor == "sqlite":
            may_commit.set()  # SQLite has one writer at a time
            assert has_committed.wait(20)
        (newer,) = enqueue(alias, 1, data={"version": 2})
        sealing = pool.submit(closing(seal_next), context)
        has_read_page.wait(
            1.0
        )  # with the sealing lock, this times out until the other transaction has committed
        may_commit.set()
        assert sealing.result(30) is None
        failing.result(30)
    assert OutboxRecord.objects.using(alias).get(pk=newer.pk).state == "pending"
    assert OutboxRecord.objects.using(alias).get(pk=older.pk).state == "in_flight"


def test_discarding_waits_for_sealing_and_leaves_sealed_records(context, alias, sandbox):
    (row,) = enqueue(alias, 1)
    is_in_transaction, may_commit = threading.Event(), threading.Event()

    @closing
    def seal_slowly():
        with transaction.atomic(using=alias):
            seal_next(context)
            is_in_transaction.set()
            assert may_commit.wait(20)

    @closing
    def discard():
        is_in_transaction.wait(20)
        return OutboxRecord.objects.using(alias).all().discard()

    with ThreadPoolExecutor(2) as pool:
        sealing, discarding = pool.submit(seal_slowly), pool.submit(discard)
        wait([discarding], 0.5)  # it waits for the row lock, or sees no pending record
        may_commit.set()
        sealing.result(30)
        assert discarding.result(30) == 0
    assert OutboxRecord.objects.using(alias).get(pk=row.pk).state == "in_flight"


def test_a_member_cannot_be_deleted_while_its_batch_is_sealed_again(context, alias, sandbox, monkeypatch):
    first, second = enqueue(alias, 1, 2)
    give_back(context, seal_next(context))
    first.delete()
    errors = []

    @closing
    def delete_at_once():
        with connections[alias].cursor() as cursor:
            cursor.execute(SHORT_LOCK_TIMEOUT[connections[alias].vendor])
        try:
            OutboxRecord.rows.using(alias).filter(pk=second.pk).delete()
        except OperationalError as error:
            errors.append(error)

    write_batch = reseal.write_batch

    def write_late(*arguments, **options):
        with ThreadPoolExecutor(1) as pool:
            pool.submit(delete_at_once).result(30)
        return write_batch(*arguments, **options)

    monkeypatch.setattr(reseal, "write_batch", write_late)
    assert lease_due(context) is None
    assert len(errors) == 1
    assert OutboxBatch.objects.using(alias).filter(state="sealed", record_count=1).exists()


def test_records_are_deleted_while_their_batches_are_sent(context, alias, sandbox, clock):
    rows = enqueue(alias, *range(60), invalid={5, 20, 41})
    context = dataclasses.replace(
        context, settings=dataclasses.replace(context.settings, max_batch_records=10)
    )
    deleted = [row.pk for number, row in enumerate(rows) if number % 3 == 1]
    for fault in [Fault.drop_after(), Fault.server_error(), Fault(batch_fails=True)] * 3:
        sandbox.fail_next(fault)

    @closing
    def delete():
        for pk in deleted:
            with transaction.atomic(using=alias):
                OutboxRecord.rows.using(alias).filter(pk=pk).delete()

    with ThreadPoolExecutor(1) as pool:
        deleting = pool.submit(delete)
        while not deleting.done():
            relay(context, 60)
            poll(context, 60)
            clock.move(5)
        deleting.result()
    deliver(context, clock)
    expected = {row.pk: "delivered" for row in rows if row.pk not in deleted} | {rows[5].pk: "rejected"}
    expected |= {rows[20].pk: "rejected", rows[41].pk: "rejected"}
    assert dict(OutboxRecord.objects.using(alias).values_list("pk", "state")) == expected
    assert not OutboxBatch.objects.using(alias).open().exists()


def test_an_open_transaction_of_a_host_does_not_block_discarding(alias):
    if connections[alias].vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    pks = [row.pk for row in enqueue(alias, *range(4))]
    is_in_transaction, may_commit = threading.Event(), threading.Event()

    @closing
    def write_slowly():
        with transaction.atomic(using=alias):
            enqueue(alias, 5)
            is_in_transaction.set()
            assert may_commit.wait(20)

    @closing
    def discard():
        is_in_transaction.wait(20)
        return OutboxRecord.objects.using(alias).filter(pk__in=pks).discard()

    with ThreadPoolExecutor(2) as pool:
        writing, discarding = pool.submit(write_slowly), pool.submit(discard)
        try:
            assert discarding.result(10) == 4
        finally:
            may_commit.set()
        writing.result(30)


def test_concurrent_senders_send_each_record_once(context, alias, sandbox, outbox_settings, reopen):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_RECORDS=7)
    outbox.enqueue_many((record(n, _product_id=f"p{n % 3}") for n in range(200)), using=alias)

    @closing
    def send_all():
        thread_context = reopen()
        sent = relay(thread_context, 60)
        thread_context.client.close()
        return sent

    with ThreadPoolExecutor(4) as pool:
        sent = sum(job.result(60) for job in [pool.submit(send_all) for _ in range(4)])
    assert sent == OutboxBatch.objects.using(alias).count()
    assert [stored.times for stored in sandbox.records()] == [1] * 200
    assert sandbox.violations == []


@pytest.fixture
def faulty_sandbox(clock):
    """A sandbox in which a sixth of the requests fail at random."""
    with Sandbox(rate_limit=100_000, fail_percent=17, seed=4, clock=lambda: clock.at.timestamp()) as running:
        yield running


def test_the_last_version_arrives_while_hosts_write_and_roll_back_and_requests_fail(
    alias, faulty_sandbox, clock, outbox_settings
):
    outbox_settings(
        API_URL=faulty_sandbox.url,
        API_KEY="em_sk_sandbox",
        MAX_BATCH_RECORDS=3,
        BACKOFF_CAP=20,
        MAX_RESENDS=100,
        RETENTION_DAYS=36_500,
    )
    throttle = UnlimitedThrottle(clock)
    all_written = threading.Event()
    deadline = time.monotonic() + 60
    faulty_sandbox.fail_next(Fault.failed_batch(), count=2)

    def must_go_on():
        return time.monotonic() < deadline and (not all_written.is_set() or has_unfinished_work(alias))

    def open_thread_context():
        return dataclasses.replace(open_context(alias, "default"), throttle=throttle, clock=clock.clock())

    @closing
    def write(writer):
        for index in range(16):
            with contextlib.suppress(RolledBack), transaction.atomic(using=alias):
                for number in {index % 4, (index + writer) % 4}:
                    fields = record(number, _product_id=f"p{index % 2}", data={"by": writer, "index": index})
                    outbox.enqueue(fields, using=alias)
                if writer == 1 and index % 4 == 3:
                    wait_for_other_sends()  # so higher ids are committed before these
                if (index + writer) % 2:
                    raise RolledBack

    def wait_for_other_sends():
        if connections[alias].vendor != "sqlite":
            before = len(faulty_sandbox.arrivals)
            wait_until(lambda: len(faulty_sandbox.arrivals) > before + 2)

    @closing
    def send():
        thread_context = open_thread_context()
        while must_go_on():
            relay(thread_context, 60)
            poll(thread_context, 60)
        thread_context.client.close()

    @closing
    def rescue_and_poll():
        thread_context = open_thread_context()
        while must_go_on():
            # Leases expire while senders are at work.
            clock.move(9)
            rescue_batches(alias, thread_context.clock)
            poll(thread_context, 60)
            in_flight = list(OutboxRecord.rows.using(alias).in_flight().values_list("identity", flat=True))
            assert len(in_flight) == len(set(in_flight)), "two versions in flight"
        thread_context.client.close()

    with ThreadPoolExecutor(7) as pool:
        jobs = [pool.submit(send), pool.submit(send), pool.submit(send), pool.submit(rescue_and_poll)]
        try:
            for job in [pool.submit(write, writer) for writer in range(3)]:
                job.result(60)
        finally:
            all_written.set()
        for job in jobs:
            job.result(60)
    rows = OutboxRecord.objects.using(alias).order_by("pk")
    assert {row.state for row in rows} <= {"delivered", "superseded"}
    last_versions = {row.envelope()["_vendor_ids"]["message_id"]: row.envelope() for row in rows}
    stored = {
        received.record["_vendor_ids"]["message_id"]: received.record for received in faulty_sandbox.records()
    }
    assert stored == last_versions
    assert faulty_sandbox.violations == []


def has_unfinished_work(alias):
    waiting = OutboxRecord.rows.using(alias).pending() | OutboxRecord.rows.using(alias).in_flight()
    return waiting.exists() or OutboxBatch.objects.using(alias).polled("default").exists()


def wait_until(condition, seconds=2.0):
    """Wait a short time for a condition. What follows must hold whether it came true or not."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
