"""A simulated workspace that sends at the rate limit: how many reads polling makes, and how late it learns of an end.

Sends are simulated: each one adds a batch to the sandbox and its accepted row to the outbox. Reads are real requests to
the sandbox, and each one takes a permit from the sends of its second. The clock is the one of the test.
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

REQUESTS_PER_SECOND = 10

MAX_REQUESTS_PER_BATCH = 1.05
"""The part of the guarantee "close to the limit" that polling must keep."""


class BusyThrottle:
    """A throttle without a free slot, until ``is_free`` is set."""

    def __init__(self, inner):
        self.inner = inner
        self.is_free = False

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def wait(self):
        return 0.0 if self.is_free else 0.05


class BusyWorkspace:
    """A workspace with a backlog.

    Args:
        seconds: how long Evermuse takes for a batch.
        rng: if given, Evermuse takes a random time of at most ``seconds``.
    """

    def __init__(self, context, alias, sandbox, clock, seconds, *, rng=None):
        self.context = dataclasses.replace(context, throttle=BusyThrottle(context.throttle))
        self.alias, self.sandbox, self.clock, self.seconds, self.rng = alias, sandbox, clock, seconds, rng
        self.sent = 0
        self._complete_at = {}
        self._counted_reads = 0
        sandbox._api.lifecycle = BatchLifecycle(seconds, seconds)
        outbox.enqueue(record("never sent"), using=alias)

    @property
    def reads(self):
        """Return the number of requests to Evermuse; no send is a real request."""
        return len(self.sandbox.arrivals)

    @property
    def single_reads(self):
        """Return the requests about one batch."""
        return [arrival for arrival in self.sandbox.arrivals if not arrival.path.endswith("/batches")]

    def send(self, count, *, over=1.0):
        """Accept ``count`` batches, evenly distributed over some seconds."""
        rows = []
        for _ in range(count):
            self.clock.move(over / count)
            rows.append(self._accept_batch())
        OutboxBatch.objects.using(self.alias).bulk_create(rows)

    def _accept_batch(self):
        self.sent += 1
        at, name = self.clock.at, f"bat_{self.sent:06}"
        age = self.rng.uniform(0, self.seconds) if self.rng else 0.0  # older ones are complete sooner
        created_at = at.timestamp() - age
        stored = Batch(
            name,
            "default",
            "message",
            created_at,
            accepted=1,
            rejected=0,
            total_errors=0,
            errors=(),
            attachments=0,
        )
        self.sandbox._api.workspaces["default"].add_batch(stored, [], False)
        self._complete_at[name] = at + timedelta(seconds=self.seconds - age)
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
        """Simulate one second: as many sends as the reads of the last second left, and two tasks that poll."""
        reads, self._counted_reads = self.reads - self._counted_reads, self.reads
        self.send(REQUESTS_PER_SECOND - reads)
        self.poll()
        self.poll()

    def quiet_second(self):
        """Simulate one second without a send."""
        self.clock.move(1)
        self.poll()

    def poll(self):
        """Poll as a task does."""
        poll(self.context, 5)

    def end_backlog(self):
        """Remove the record that waits to be sent."""
        self.context.throttle.is_free = True
        OutboxRecord.rows.using(self.alias).all().delete()

    @property
    def open(self):
        """Return how many batches are not complete in the outbox."""
        return OutboxBatch.objects.using(self.alias).exclude(state=BatchState.COMPLETE).count()

    def delays(self):
        """Return the seconds from completion at Evermuse to completion in the outbox, of each complete batch."""
        rows = OutboxBatch.objects.using(self.alias).filter(state=BatchState.COMPLETE)
        return [(row.finished_at - self._complete_at[row.remote_id]).total_seconds() for row in rows]

    def measure_requests_per_batch(self, seconds):
        """Simulate seconds of load and return the requests per sent batch in this time."""
        sends, reads = self.sent, self.reads
        for _ in range(seconds):
            self.second_of_load()
        return 1 + (self.reads - reads) / (self.sent - sends)

    def finish(self, max_seconds):
        """End the backlog and poll until all batches are complete."""
        self.end_backlog()
        for _ in range(max_seconds):
            self.quiet_second()
            if not self.open:
                return
        raise AssertionError(f"{self.open} batches are still open")


def make_rng():
    return Random(5)
