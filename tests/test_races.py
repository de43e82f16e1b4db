"""Two real connections at once, brought into the worst order on purpose."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from django.db import connections, transaction

from evermuse_outbox import outbox
from evermuse_outbox.delivery.context import open_context
from evermuse_outbox.delivery.loop import poll, relay, seal_next
from evermuse_outbox.delivery.sealing import seal
from evermuse_outbox.delivery.settling import fail_accepted_batch
from evermuse_outbox.models import OutboxBatch, OutboxRecord
from evermuse_outbox.sandbox import Fault, Sandbox
from evermuse_outbox.upkeep import rescue_batches
from tests.records import record
from tests.versions_model import OnTheClock, RolledBack

pytestmark = pytest.mark.commits


def closing(step):
    """Threads give their connections back."""

    def run(*arguments):
        try:
            return step(*arguments)
        finally:
            connections.close_all()

    return run


def test_an_older_version_that_is_sealed_again_and_a_newer_one_are_never_both_under_way(
    context, alias, sandbox, monkeypatch
):
    (older,) = [outbox.enqueue(record(1), using=alias)]
    relay(context, 60)
    batch = OutboxBatch.objects.using(alias).get()
    inside, go, ended, reached = (threading.Event() for _ in range(4))

    def fail_slowly():
        with transaction.atomic(using=alias):
            fail_accepted_batch(context, batch, "Evermuse reports FAILED")
            inside.set()
            assert go.wait(20)
        ended.set()

    look_at_versions = seal.supersede_and_select_sendable

    def look_late(*arguments):
        # The page was read; now let the other transaction commit before the versions are looked at.
        reached.set()
        go.set()
        assert ended.wait(20)
        return look_at_versions(*arguments)

    monkeypatch.setattr(seal, "supersede_and_select_sendable", look_late)
    with ThreadPoolExecutor(2) as pool:
        failing = pool.submit(closing(fail_slowly))
        assert inside.wait(20)
        if connections[alias].vendor == "sqlite":
            go.set()  # one writer at a time: nothing can come between
            assert ended.wait(20)
        newer = outbox.enqueue(record(1, data={"version": 2}), using=alias)
        sealing = pool.submit(closing(seal_next), context)
        reached.wait(1.0)  # with the turn taken it never gets here before the other has committed
        go.set()
        assert sealing.result(30) is None
        failing.result(30)
    assert OutboxRecord.objects.using(alias).get(pk=newer.pk).state == "pending"
    assert OutboxRecord.objects.using(alias).get(pk=older.pk).state == "in_flight"


def test_discarding_waits_for_who_seals_and_leaves_what_was_sealed(context, alias, sandbox):
    row = outbox.enqueue(record(1), using=alias)
    inside, go = threading.Event(), threading.Event()

    @closing
    def seal_slowly():
        with transaction.atomic(using=alias):
            seal_next(context)
            inside.set()
            assert go.wait(20)

    @closing
    def discard():
        inside.wait(20)
        return OutboxRecord.objects.using(alias).all().discard()

    with ThreadPoolExecutor(2) as pool:
        sealing, discarding = pool.submit(seal_slowly), pool.submit(discard)
        wait([discarding], 0.5)  # it waits for the row, or has not found it
        go.set()
        sealing.result(30)
        assert discarding.result(30) == 0
    assert OutboxRecord.objects.using(alias).get(pk=row.pk).state == "in_flight"


def test_a_host_that_does_not_commit_keeps_nobody_from_discarding(alias):
    if connections[alias].vendor == "sqlite":
        pytest.skip("one writer at a time")
    pks = [outbox.enqueue(record(number), using=alias).pk for number in range(4)]
    inside, go = threading.Event(), threading.Event()

    @closing
    def write_slowly():
        with transaction.atomic(using=alias):
            outbox.enqueue(record(5), using=alias)
            inside.set()
            assert go.wait(20)

    @closing
    def discard():
        inside.wait(20)
        return OutboxRecord.objects.using(alias).filter(pk__in=pks).discard()

    with ThreadPoolExecutor(2) as pool:
        writing, discarding = pool.submit(write_slowly), pool.submit(discard)
        try:
            assert discarding.result(10) == 4
        finally:
            go.set()
        writing.result(30)


def test_senders_side_by_side_send_each_record_once(context, alias, sandbox, outbox_settings, reopen):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_RECORDS=7)
    outbox.enqueue_many((record(n, _product_id=f"p{n % 3}") for n in range(200)), using=alias)

    @closing
    def send_all():
        mine = reopen()
        sent = relay(mine, 60)
        mine.client.close()
        return sent

    with ThreadPoolExecutor(4) as pool:
        sent = sum(job.result(60) for job in [pool.submit(send_all) for _ in range(4)])
    assert sent == OutboxBatch.objects.using(alias).count()
    assert [stored.times for stored in sandbox.records()] == [1] * 200
    assert sandbox.violations == []


@pytest.fixture
def troubled(clock):
    """A local Evermuse that has trouble with every sixth request, by chance."""
    with Sandbox(rate_limit=100_000, fail_percent=17, seed=4, clock=lambda: clock.at.timestamp()) as running:
        yield running


def test_versions_written_and_rolled_back_amid_trouble_while_they_are_sent_end_with_the_last(
    alias, troubled, clock, outbox_settings
):
    outbox_settings(
        API_URL=troubled.url,
        API_KEY="em_sk_sandbox",
        MAX_BATCH_RECORDS=3,
        BACKOFF_CAP=20,
        MAX_RESENDS=100,
        RETENTION_DAYS=36_500,
    )
    throttle = OnTheClock(clock)
    written = threading.Event()
    deadline = time.monotonic() + 60
    troubled.fail_next(Fault.failed_batch(), count=2)

    def goes_on():
        return time.monotonic() < deadline and (not written.is_set() or is_under_way(alias))

    def open_mine():
        return dataclasses.replace(open_context(alias, "default"), throttle=throttle, clock=clock.clock())

    @closing
    def write(writer):
        for turn in range(16):
            with contextlib.suppress(RolledBack), transaction.atomic(using=alias):
                for number in {turn % 4, (turn + writer) % 4}:
                    made = record(number, _product_id=f"p{turn % 2}", data={"by": writer, "turn": turn})
                    outbox.enqueue(made, using=alias)
                if writer == 1 and turn % 4 == 3:
                    others_are_sent()  # and so higher ids, committed before these
                if (turn + writer) % 2:
                    raise RolledBack

    def others_are_sent():
        if connections[alias].vendor != "sqlite":
            before = len(troubled.arrivals)
            wait_until(lambda: len(troubled.arrivals) > before + 2)

    @closing
    def send():
        mine = open_mine()
        while goes_on():
            relay(mine, 60)
            poll(mine, 60)
        mine.client.close()

    @closing
    def keep():
        mine = open_mine()
        while goes_on():
            # Time flies: leases run out under senders that are at work.
            clock.move(9)
            rescue_batches(alias, mine.clock)
            poll(mine, 60)
            under_way = list(OutboxRecord.rows.using(alias).in_flight().values_list("identity", flat=True))
            assert len(under_way) == len(set(under_way)), "two versions under way"
        mine.client.close()

    with ThreadPoolExecutor(7) as pool:
        jobs = [pool.submit(send), pool.submit(send), pool.submit(send), pool.submit(keep)]
        try:
            for job in [pool.submit(write, writer) for writer in range(3)]:
                job.result(60)
        finally:
            written.set()
        for job in jobs:
            job.result(60)
    rows = OutboxRecord.objects.using(alias).order_by("pk")
    assert {row.state for row in rows} <= {"delivered", "superseded"}
    last = {row.envelope()["_vendor_ids"]["message_id"]: row.envelope() for row in rows}
    stored = {one.record["_vendor_ids"]["message_id"]: one.record for one in troubled.records()}
    assert stored == last
    assert troubled.violations == []


def is_under_way(alias):
    waiting = OutboxRecord.rows.using(alias).pending() | OutboxRecord.rows.using(alias).in_flight()
    return waiting.exists() or OutboxBatch.objects.using(alias).polled("default").exists()


def wait_until(so, seconds=2.0):
    """Looks for a while whether it is so; what follows must hold either way."""
    deadline = time.monotonic() + seconds
    while not so() and time.monotonic() < deadline:
        time.sleep(0.005)
