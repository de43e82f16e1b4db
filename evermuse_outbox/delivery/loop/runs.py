"""Runs: send or poll again and again, until nothing is due or the time is up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..connections import release_connections
from ..context import DeliveryContext
from ..polling import is_database_known, poll_due_batch
from ..scheduling import has_work
from .relay import Step, send_next
from .sender_pool import SenderPool

MAX_SECONDS_WITHOUT_BATCH = 2.0
"""A crowded sender that has sent nothing for this long ends, because there are enough others."""

CROWDED_PAUSE = 0.1
"""Seconds until a sender tries again if enough others wait for the next permits."""


@dataclass
class RelayRun:
    """The number of batches that a run has sent. After the run, it includes those of the other senders."""

    sent: int = 0


def relay(
    context: DeliveryContext, seconds: float, pool: SenderPool | None = None, *, is_patient: bool = False
) -> int:
    """Send batches in this thread until nothing is due, enough others send, or the time is up.

    The sender also ends if the circuit is open or no permit is free. A batch under way at the end of the time is
    finished first. Return how many batches were sent.

    Args:
        context: the delivery context.
        seconds: the time limit.
        pool: the pool that this sender belongs to. It starts more senders if permits are unused.
        is_patient: whether to wait for a permit from the start although enough others wait.
    """
    clock = context.clock
    started, waited_before = clock.monotonic(), context.client.seconds
    sent, last_sent_at, now = 0, started, started
    begins_with_new = pool is None or pool.begins_with_new
    if pool:
        pool.add_client(context.client)
    while now < started + seconds:
        step = send_next(context, prefer_new=begins_with_new is (sent % 2 == 0))
        now = clock.monotonic()
        if step is Step.SENT:
            sent, last_sent_at = sent + 1, now
            if pool and now > started:
                pool.note_sent(waiting_share=(context.client.seconds - waited_before) / (now - started))
                pool.grow_if_permits_are_unused(context, seconds_per_batch=(now - started) / sent)
        elif step is Step.RESEALED:
            continue
        elif step is Step.CROWDED and (sent or is_patient) and now < last_sent_at + MAX_SECONDS_WITHOUT_BATCH:
            release_connections()
            clock.sleep(CROWDED_PAUSE)
        else:
            break
    return sent


@contextmanager
def relay_run(context: DeliveryContext, seconds: float, *, is_needed: bool = False) -> Iterator[RelayRun]:
    """Send with all useful senders, execute the body of the ``with`` statement, then wait for the other senders.

    So the body can request the next run before this one waits. In the body, ``RelayRun.sent`` is 0 if there is nothing
    to send, or if another run of this process sends already. It is 0, too, while the workspace is held after a restore.

    ``is_needed`` says that there was work a moment ago, so that nothing looks for it first.
    """
    pool, run = SenderPool.of(context, _run_patient_sender), RelayRun()
    if not (is_needed or has_work(context)) or not is_database_known(context) or not pool.start_run(seconds):
        yield run
        return
    try:
        run.sent = _lead(context, seconds, pool)
        yield run
    finally:
        run.sent += pool.finish_run()


def relay_with_pool(context: DeliveryContext, seconds: float) -> int:
    """Send with as many senders as are useful. Return how many batches all of them sent."""
    with relay_run(context, seconds) as run:
        pass
    return run.sent


def poll(context: DeliveryContext, seconds: float) -> int:
    """Poll accepted batches until none is due or the time is up. Return how many were polled."""
    deadline = context.clock.monotonic() + seconds
    polled = 0
    while context.clock.monotonic() < deadline:
        count = poll_due_batch(context)
        if not count:
            break
        polled += count
    return polled


def _lead(context: DeliveryContext, seconds: float, pool: SenderPool) -> int:
    """Run the sender that leads: it starts the others and the monitor.

    It waits for a permit from the start if senders of an earlier run are at work, because they use the permits.
    """
    try:
        is_patient = pool.has_senders_at_work()
        pool.start_senders()
        with pool.monitor():
            return relay(context, seconds, pool, is_patient=is_patient)
    finally:
        pool.stop_leading()


def _run_patient_sender(context: DeliveryContext, seconds: float, pool: SenderPool) -> int:
    return relay(context, seconds, pool, is_patient=True)
