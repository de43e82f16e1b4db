"""A record that makes the API, or a firewall before it, fail: its neighbours are delivered, and it is named.

Each kind of failure is tried alone in its batch, among many records, as the first or last of them, and with several
such records. Time is simulated.
"""

from __future__ import annotations

import dataclasses

import pytest

from evermuse_outbox.delivery.context import open_context
from evermuse_outbox.delivery.loop import poll, relay
from evermuse_outbox.models import OutboxRecord, OutboxRejection
from evermuse_outbox.sandbox import Fault
from tests.conftest import FreeThrottle
from tests.delivery.helpers import posts, serve
from tests.records import enqueue

POISON = "<script>poison</script>"

FAILURES = {
    "403 page": Fault.proxy_page(403, containing=POISON),
    "403": Fault(status=403, containing=POISON),
    "401": Fault(status=401, containing=POISON),
    "402": Fault.no_credits(containing=POISON),
    "404 page": Fault.proxy_page(404, containing=POISON),
    "409": Fault(status=409, containing=POISON),
    "413": Fault(status=413, containing=POISON),
    "429": Fault.too_many(containing=POISON),
    "429 page": Fault.proxy_page(429, containing=POISON),
    "500": Fault.server_error(containing=POISON),
    "502 page": Fault.bad_gateway(containing=POISON),
    "closed": Fault.drop_before(containing=POISON),
}


@pytest.fixture
def sqlite_context(clock):
    """Return a context on SQLite. One database is enough for the decisions; the others are tested with fewer cases."""
    return dataclasses.replace(
        open_context("default", "default"), throttle=FreeThrottle(), clock=clock.clock()
    )


def enqueue_with_poison(alias, count, poisoned, **fields):
    """Enqueue ``count`` records; those at the positions ``poisoned`` always fail. Return their ids."""
    ids = []
    for position in range(count):
        text = POISON if position in poisoned else "fine"
        ids += [row.pk for row in enqueue(alias, position, data={"text": text}, **fields)]
    return ids


def open_records(alias):
    return OutboxRecord.objects.using(alias).filter(state__in=["pending", "in_flight"])


def play(context, clock, minutes, until):
    """Let one worker send and poll until ``until()`` is true. Return the simulated minutes; fail after ``minutes``."""
    start = clock.now()
    while (passed := (clock.now() - start).total_seconds() / 60) < minutes:
        if until():
            return passed
        context.throttle.blocked_for = 0
        relay(context, 1)
        poll(context, 1)
        clock.move(0.5)
    raise AssertionError(
        f"not after {minutes} minutes: {list(open_records(context.using).values('pk', 'batch'))[:5]}"
    )


CODES = {"413": "TOO_LARGE", "closed": "NO_ANSWER"}


@pytest.mark.django_db(databases=["default"])
@pytest.mark.parametrize("poisoned", [{0}, {17}, {39}, {3, 4, 20, 33, 39}], ids=str)
@pytest.mark.parametrize("failure", FAILURES)
def test_neighbours_are_delivered_and_the_culprit_is_rejected(sqlite_context, clock, failure, poisoned):
    rows = enqueue_with_poison("default", 40, poisoned)
    for group in range(5):
        enqueue("default", *range(100, 103), _product_id=f"product-{group}")
    with serve(sqlite_context, clock) as (context, sandbox):
        sandbox.fail_next(FAILURES[failure], count=None)
        play(context, clock, 5, lambda: open_records("default").count() <= len(poisoned))
        play(context, clock, 10, lambda: not open_records("default").exists())
        assert len(posts(sandbox)) <= 40 + 10 * len(poisoned)
        assert sandbox.violations == []
    rejections = OutboxRejection.objects.using("default")
    assert {rejection.record_id for rejection in rejections} == {rows[position] for position in poisoned}
    code = CODES.get(failure, f"HTTP_{failure.split()[0]}")
    assert {rejection.code for rejection in rejections} == {code}
