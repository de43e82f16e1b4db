"""Bad records among good ones: found exactly, with their own message, in few requests, whatever the answer tells."""

from __future__ import annotations

import dataclasses
import math
import random
from contextlib import contextmanager

import pytest

from evermuse_outbox import outbox
from evermuse_outbox.delivery.context import open_context
from evermuse_outbox.delivery.loop import poll, relay, send_next
from evermuse_outbox.evermuse.api import Client
from evermuse_outbox.models import BatchState, OutboxBatch, OutboxRecord, OutboxRejection
from evermuse_outbox.sandbox import Sandbox
from tests.conftest import FreeThrottle
from tests.records import enqueue, record

WAYS = {
    "taken in part, named": {},
    "refused whole, in details": {"strict": True},
    "refused whole, in errors": {"strict": True, "errors_in": "errors"},
    "taken in part, nobody named": {"errors_in": "nowhere"},
    "refused whole, nobody named": {"strict": True, "errors_in": "nowhere"},
}


@pytest.fixture
def channel_here(clock):
    """On SQLite alone: what is counted here are requests."""
    return dataclasses.replace(
        open_context("default", "default"), throttle=FreeThrottle(), clock=clock.clock()
    )


@contextmanager
def served(context, clock, **options):
    """The channel, talking to a sandbox of that kind, and the sandbox."""
    with Sandbox(rate_limit=100_000, clock=lambda: clock.at.timestamp(), **options) as sandbox:
        client = Client(sandbox.url, lambda: "em_sk_sandbox", 10)
        yield dataclasses.replace(context, client=client), sandbox
        client.close()


def deliver(context, clock):
    for _ in range(100):
        sent = relay(context, 60)
        clock.move(5)
        if not sent and not poll(context, 60):
            return
    raise AssertionError("it never ends")


def states(alias):
    return list(OutboxRecord.objects.using(alias).order_by("pk").values_list("state", flat=True))


def expected(count, bad):
    return ["rejected" if position in bad else "delivered" for position in range(count)]


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
@pytest.mark.parametrize("bad", [{3}, {0, 19}, {4, 5, 6, 11}, set(range(8))], ids=len)
def test_every_bad_record_is_found_and_every_good_one_arrives(context, alias, clock, way, bad):
    rows = enqueue(alias, *range(20), invalid=bad)
    with served(context, clock, **way) as (context, sandbox):
        deliver(context, clock)
        assert states(alias) == expected(20, bad)
        assert len(sandbox.records()) == 20 - len(bad)
        assert sandbox.violations == []
    for position in bad:
        rejection = OutboxRejection.objects.using(alias).get(record=rows[position].pk)
        own = (
            "_nature" in rejection.message
            if way.get("errors_in") != "nowhere"
            else "1 of 1" in rejection.message
        )
        assert own or "REJECTED" in rejection.code, rejection.message
    assert {b.state for b in OutboxBatch.objects.using(alias)} <= {
        BatchState.COMPLETE, BatchState.SPLIT, BatchState.REFUSED,
    }  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("bad", [1, 20, 200, 1_000])
@pytest.mark.parametrize("strict", [False, True], ids=["in part", "whole"])
@pytest.mark.django_db
def test_named_ones_among_a_thousand_take_a_request_for_each_twenty(channel_here, clock, bad, strict):
    context, alias = channel_here, channel_here.using
    spoiled = set(random.Random(bad).sample(range(1_000), bad))
    enqueue(alias, *range(1_000), invalid=spoiled)
    with served(context, clock, strict=strict) as (context, sandbox):
        deliver(context, clock)
        posts = sum(arrival.method == "POST" for arrival in sandbox.arrivals)
    assert states(alias) == expected(1_000, spoiled)
    # One to see that there is trouble and twenty names an answer; a strict Evermuse wants a last one of good ones.
    assert posts <= math.ceil(bad / 20) + (strict and bad < 1_000)


@pytest.mark.long
@pytest.mark.parametrize("bad", [1, 20, 200])
@pytest.mark.django_db
def test_unnamed_ones_among_a_thousand_stay_within_the_bound(channel_here, clock, bad):
    context, alias = channel_here, channel_here.using
    spoiled = set(random.Random(bad).sample(range(1_000), bad))
    enqueue(alias, *range(1_000), invalid=spoiled)
    with served(context, clock, strict=True, errors_in="nowhere") as (context, sandbox):
        deliver(context, clock)
        posts = sum(arrival.method == "POST" for arrival in sandbox.arrivals)
    assert states(alias) == expected(1_000, spoiled)
    assert posts <= 1.1 * math.log2(math.comb(1_000, bad)) + bad + 10


def test_a_suspect_that_was_superseded_casts_no_doubt_on_the_others(context, alias, clock):
    enqueue(alias, *range(16), invalid={8})
    with served(context, clock, strict=True, errors_in="nowhere") as (context, sandbox):
        send_next(context)
        outbox.enqueue(record(8, data={"version": 2}), using=alias)
        deliver(context, clock)
        sizes = [arrival.records for arrival in sandbox.arrivals if arrival.method == "POST"]
    assert sorted(sizes) == [1, 3, 4, 8, 16]  # the newer version alone, and what is left in one
    assert states(alias) == ["delivered"] * 8 + ["superseded"] + ["delivered"] * 8


def test_a_part_that_cannot_be_sent_leaves_the_others_their_way(context, alias, clock):
    rows = enqueue(alias, *range(8), invalid={6})
    with served(context, clock, strict=True, errors_in="nowhere") as (context, sandbox):
        send_next(context)
        OutboxRecord.rows.using(alias).filter(pk=rows[0].pk).update(payload="{}")  # in the part that is next
        assert relay(context, 60) == 0
        deliver(context, clock)
    assert states(alias) == ["rejected"] * 4 + expected(4, {2})
    codes = OutboxRejection.objects.using(alias).filter(record__in=[row.pk for row in rows[:4]])
    assert set(codes.values_list("code", flat=True)) == {"NOT_SENDABLE"}
