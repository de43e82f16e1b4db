"""Two real connections at once, brought into the worst order on purpose."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from django.db import connections, transaction

from evermuse_outbox import outbox
from evermuse_outbox.models import OutboxBatch, OutboxRecord
from evermuse_outbox.pipeline import seal
from evermuse_outbox.pipeline.follow import fail
from evermuse_outbox.pipeline.relay import relay
from evermuse_outbox.pipeline.seal import seal_next
from tests.records import record

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
    channel, alias, sandbox, monkeypatch
):
    (older,) = [outbox.enqueue(record(1), using=alias)]
    relay(channel, 60)
    batch = OutboxBatch.objects.using(alias).get()
    inside, go, ended, reached = (threading.Event() for _ in range(4))

    def fail_slowly():
        with transaction.atomic(using=alias):
            fail(channel, batch, {}, "Evermuse says FAILED")
            inside.set()
            assert go.wait(20)
        ended.set()

    look_at_fences = seal._without_fenced

    def look_late(*arguments):
        # The page was read; now let the other transaction commit before the fences are looked at.
        reached.set()
        go.set()
        assert ended.wait(20)
        return look_at_fences(*arguments)

    monkeypatch.setattr(seal, "_without_fenced", look_late)
    with ThreadPoolExecutor(2) as pool:
        failing = pool.submit(closing(fail_slowly))
        assert inside.wait(20)
        if connections[alias].vendor == "sqlite":
            go.set()  # one writer at a time: nothing can come between
            assert ended.wait(20)
        newer = outbox.enqueue(record(1, data={"version": 2}), using=alias)
        sealing = pool.submit(closing(seal_next), channel)
        reached.wait(1.0)  # with the turn taken it never gets here before the other has committed
        go.set()
        assert sealing.result(30) is None
        failing.result(30)
    assert OutboxRecord.objects.using(alias).get(pk=newer.pk).state == "pending"
    assert OutboxRecord.objects.using(alias).get(pk=older.pk).state == "in_flight"


def test_discarding_waits_for_who_seals_and_leaves_what_was_sealed(channel, alias, sandbox):
    row = outbox.enqueue(record(1), using=alias)
    inside, go = threading.Event(), threading.Event()

    @closing
    def seal_slowly():
        with transaction.atomic(using=alias):
            seal_next(channel)
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


def test_senders_side_by_side_send_each_record_once(channel, alias, sandbox, outbox_settings, reopen):
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


def test_versions_written_while_they_are_sent_end_with_the_last(
    channel, alias, sandbox, outbox_settings, reopen, clock
):
    from evermuse_outbox.pipeline.relay import track

    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_RECORDS=5)
    writing = threading.Event()
    writing.set()

    @closing
    def write(writer):
        for version in range(30):
            number = version % 6
            outbox.enqueue(record(number, data={"by": writer, "version": version}), using=alias)

    @closing
    def send():
        mine = reopen()
        while writing.is_set() or OutboxRecord.rows.using(alias).pending().exists():
            relay(mine, 60)
            clock.move(5)
            track(mine, 60)
        mine.client.close()

    with ThreadPoolExecutor(5) as pool:
        senders = [pool.submit(send) for _ in range(2)]
        for job in [pool.submit(write, writer) for writer in range(3)]:
            job.result(60)
        writing.clear()
        for job in senders:
            job.result(60)
    last = {row.identity: row.envelope()["data"] for row in OutboxRecord.objects.using(alias).order_by("pk")}
    assert [stored.record["data"] for stored in sandbox.records()] == [
        last[OutboxRecord.rows.using(alias).filter(payload=stored.line.decode()).get().identity]
        for stored in sandbox.records()
    ]
