"""A workspace that sends at the ceiling for a while, on a clock of its own: what following costs, counted at Evermuse.

Sends are only told of: a batch at Evermuse and its row here, ten in each second less those slots that reads took.
"""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from random import Random

from evermuse_outbox import outbox
from evermuse_outbox.delivery.loop import poll
from evermuse_outbox.models import BatchState, OutboxBatch, OutboxRecord
from evermuse_outbox.sandbox.store import Batch, BatchLifecycle
from tests.records import record

CEILING = 10


class Unhurried:
    """Somebody has taken the next slot, as long as there is something to send; each call is counted."""

    def __init__(self, inner):
        self.inner = inner
        self.is_free = False

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def wait(self):
        return 0.0 if self.is_free else 0.05


class BusyWorkspace:
    """``seconds`` is how long Evermuse takes for a batch; with ``dice`` anything between that and nothing."""

    def __init__(self, context, alias, sandbox, clock, seconds, *, rng=None):
        self.context = dataclasses.replace(context, throttle=Unhurried(context.throttle))
        self.alias, self.sandbox, self.clock, self.seconds, self.rng = alias, sandbox, clock, seconds, rng
        self.sent = 0
        self.waits = []
        self._done_at = {}
        self._seen_reads = 0
        sandbox._api.lifecycle = BatchLifecycle(seconds, seconds)
        outbox.enqueue(record("waits for ever"), using=alias)

    @property
    def reads(self):
        """Requests to Evermuse other than sends."""
        return len(self.sandbox.arrivals)

    @property
    def single_reads(self):
        """Those of them about one batch alone."""
        return [arrival for arrival in self.sandbox.arrivals if not arrival.path.endswith("/batches")]

    def send(self, count, *, over=1.0):
        """So many batches are accepted, one after the other, in ``over`` seconds."""
        rows = []
        for _ in range(count):
            self.clock.move(over / count)
            rows.append(self._accepted())
        OutboxBatch.objects.using(self.alias).bulk_create(rows)

    def _accepted(self):
        self.sent += 1
        at, name = self.clock.at, f"bat_{self.sent:06}"
        age = self.rng.uniform(0, self.seconds) if self.rng else 0.0  # older ones are complete sooner
        made = at.timestamp() - age
        stored = Batch(
            name, "default", "message", made, accepted=1, rejected=0, total_errors=0, errors=(), attachments=0
        )
        self.sandbox._api.workspaces["default"].add_batch(stored, [], False)
        self._done_at[name] = at + timedelta(seconds=self.seconds - age)
        return OutboxBatch(
            workspace="default",
            type="message",
            product_id="p",
            contract="reference",
            body_format="ndjson",
            key=name,
            sha256="",
            record_count=1,
            byte_count=1,
            state=BatchState.ACCEPTED,
            sealed_at=at,
            due_at=at,
            accepted_at=at,
            remote_id=name,
            accepted_count=1,
            rejected_count=0,
            total_error_count=0,
            next_poll_at=at + timedelta(seconds=1),
        )

    def second_of_load(self):
        """Nine to ten sends, as many as reads leave, and one look of two trackers."""
        taken, self._seen_reads = self.reads - self._seen_reads, self.reads
        self.send(CEILING - taken)
        self.look()
        self.look()

    def quiet_second(self):
        """Nothing is sent."""
        self.clock.move(1)
        self.look()

    def look(self):
        """What a task does that was asked to track."""
        poll(self.context, 5)

    def end_of_backlog(self):
        """Nothing waits to be sent any more."""
        self.context.throttle.is_free = True
        OutboxRecord.rows.using(self.alias).all().delete()

    @property
    def open(self):
        """Batches that are not known to be at their end."""
        return OutboxBatch.objects.using(self.alias).exclude(state=BatchState.COMPLETE).count()

    def delays(self):
        """Seconds from the end of a batch at Evermuse to its end here, of all that are at their end."""
        rows = OutboxBatch.objects.using(self.alias).filter(state=BatchState.COMPLETE)
        return [(row.finished_at - self._done_at[row.remote_id]).total_seconds() for row in rows]


def rng():
    return Random(5)
