"""Live records wait hardly longer because of a backfill: simulated with the real scheduler, and the test's clock."""

from __future__ import annotations

from datetime import timedelta
from random import Random
from statistics import mean

from evermuse_outbox.backfill.pace import Pace
from evermuse_outbox.delivery.loop import send_next
from evermuse_outbox.evermuse.records import validate
from evermuse_outbox.models import OutboxRecord
from evermuse_outbox.models.insert import NO_EXTRAS, insert_many
from tests.records import record

SLOT, STEP = 0.1, 0.02
"""Seconds between two requests, and between two looks of the backfill."""

SECONDS = 6.0

SIZE = 10
"""Records of a full request."""

BACKFILL = "prod-abc"


class Simulation:
    """One sender with ten requests a second, live records, and perhaps a backfill."""

    def __init__(self, context, clock, has_backfill):
        self.context, self.clock, self.number = context, clock, 10**6 * has_backfill
        self.pace = Pace(context, context.clock) if has_backfill else None
        self.live, self.waits, self.backfilled, self.sends = {}, [], 0, 0

    def run(self, arrivals, seconds):
        """Let time pass until ``arrivals``, pairs of a time and a product, have been sent. Return their waits."""
        arrivals, next_slot, started = list(arrivals), 0.0, self.clock.monotonic()
        while arrivals or self.live or self.clock.monotonic() - started < seconds:
            now = self.clock.monotonic() - started
            while arrivals and arrivals[0][0] <= now + 1e-9:
                product = arrivals.pop(0)[1]
                self.live |= dict.fromkeys(self.insert(product, 1), self.clock.now())
            if self.pace and now < seconds and (free := self.pace.free_requests()):
                self.backfilled += len(self.insert(BACKFILL, free * SIZE))
                self.pace.note_inserted([("message", BACKFILL)], 0.0)
            if now + 1e-9 >= next_slot:
                send_next(self.context)
                next_slot = now + SLOT
                self.note_sent()
            self.clock.move(STEP)
        return self.waits

    def insert(self, product, count):
        envelopes = []
        for _ in range(count):
            self.number += 1
            fields = record(self.number, _product_id=product)
            envelopes.append(validate(fields, contract="reference", workspace="default"))
        using, rows = self.context.using, OutboxRecord.rows.using(self.context.using)
        last = rows.order_by("-pk").values_list("pk", flat=True).first() or 0
        insert_many(using, "default", self.context.workspace.contract, envelopes, NO_EXTRAS)
        new = rows.filter(pk__gt=last)
        new.update(enqueued_at=self.clock.now())
        return list(new.values_list("pk", flat=True))

    def note_sent(self):
        rows = OutboxRecord.rows.using(self.context.using).filter(pk__in=self.live, batch__isnull=False)
        for pk in rows.values_list("pk", flat=True):
            self.waits.append((self.clock.now() - self.live.pop(pk)) / timedelta(seconds=1))


def lone_records(seconds):
    """Return when live records are enqueued, and their product: each second one is in the group of the backfill."""
    rng, arrivals, at = Random(7), [], 0.0
    while (at := at + rng.expovariate(2.5)) < seconds:
        arrivals.append((at, BACKFILL if rng.random() < 0.5 else "prod-live"))
    return arrivals


def test_a_live_record_waits_for_a_request_of_the_backfill_or_two(
    alias, context, clock, outbox_settings, sandbox, reopen
):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_RECORDS=SIZE, LINGER=0.2)
    arrivals = lone_records(SECONDS)
    alone = Simulation(reopen(), clock, has_backfill=False).run(arrivals, SECONDS)
    clock.move(5)
    beside = Simulation(reopen(), clock, has_backfill=True)
    waits = beside.run(arrivals, SECONDS)
    assert len(waits) == len(alone) == len(arrivals)
    assert mean(waits) <= mean(alone) + 1.5 * SLOT
    assert max(waits) <= max(alone) + 3 * SLOT
    assert beside.backfilled > 0.6 * SIZE * SECONDS / SLOT  # it uses what live records leave
