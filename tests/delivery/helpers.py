"""Steps and queries that the tests of the delivery share."""

from __future__ import annotations

import dataclasses
from contextlib import contextmanager

from evermuse_outbox.delivery.context import Attempt
from evermuse_outbox.delivery.loop import poll, relay, seal_next
from evermuse_outbox.delivery.settling import settle
from evermuse_outbox.evermuse.api import Client
from evermuse_outbox.models import OutboxBatch, OutboxWorkspace
from evermuse_outbox.sandbox import Sandbox


def state_of(row):
    """Read a row again and return its state."""
    row.refresh_from_db()
    return row.state


def batches(alias):
    """Return all batches, the oldest first."""
    return list(OutboxBatch.objects.using(alias).order_by("pk"))


def workspace(alias):
    """Return the row of the default workspace."""
    return OutboxWorkspace.objects.using(alias).get(pk="default")


def posts(sandbox):
    """Return the POST requests that arrived at the sandbox."""
    return [arrival for arrival in sandbox.arrivals if arrival.method == "POST"]


def sent_keys(sandbox):
    """Return the idempotency keys of the POST requests, in order."""
    return [arrival.headers["Idempotency-Key"] for arrival in posts(sandbox)]


@contextmanager
def serve(context, clock, **options):
    """Start a sandbox with these options. Yield the context that sends to it, and the sandbox."""
    with Sandbox(rate_limit=100_000, clock=lambda: clock.at.timestamp(), **options) as sandbox:
        client = Client(sandbox.url, lambda: "em_sk_sandbox", 10)
        yield dataclasses.replace(context, client=client), sandbox
        client.close()


def seal_all(context):
    """Seal batches until nothing can be sealed, and return them."""
    sealed_batches = []
    while sealed := seal_next(context):
        sealed_batches.append(sealed)
    return sealed_batches


def deliver(context, clock):
    """Send and poll, five seconds apart, until nothing is left to do. A resend is due after a pause."""
    for _ in range(100):
        relay(context, 60)
        clock.move(5)
        if not relay(context, 60) and not poll(context, 60):
            return
    raise AssertionError("the delivery does not end")


def settle_with(context, sealed, outcome):
    """Settle a leased batch as if a POST had this outcome."""
    settle(context, sealed, outcome, Attempt("ingest", context.clock.now(), "accepted"), failures=0)
