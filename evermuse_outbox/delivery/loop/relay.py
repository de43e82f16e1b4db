"""The relay: take a batch, acquire a permit, POST, settle; again and again until nothing is due.

``send_next``, ``seal_next`` and ``send`` are the whole path of a record from pending to accepted. The word in each line
is a function of the package that does the work.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum, auto

from ...evermuse.api import Accepted
from ..context import Attempt, DeliveryContext
from ..gates import acquire_permit, is_crowded, paused_groups, workspace_circuit
from ..polling import ReconciliationDelayed, needs_reconciliation, poll_due_batch, reconcile
from ..scheduling import (
    choose_groups,
    has_work,
    load_run_queue,
    save_run_queue,
    scan_for_groups,
    spare_groups,
)
from ..sealing import SealedBatch, SealRaced, seal_first, sealing_lock
from ..sending import give_back, has_time_to_send, lease_due, post
from ..settling import settle, settle_batch
from .sender_pool import SenderPool

logger = logging.getLogger(__name__)

MAX_SECONDS_WITHOUT_BATCH = 2.0
"""A sender that got no permit for this long ends, because there are enough others."""

CROWDED_PAUSE = 0.1
"""Seconds until a sender tries again if enough others wait for the next permits."""


class Step(Enum):
    """The result of one attempt to send a batch."""

    SENT = auto()
    IDLE = auto()
    """No batch is due and nothing can be sealed."""
    BLOCKED = auto()
    """The circuit is open, or no permit was free in time."""
    CROWDED = auto()
    """Enough other senders wait for the next permits."""


# --- one batch ----------------------------------------------------------------------------------------


def send_next(context: DeliveryContext, *, prefer_new: bool = False) -> Step:
    """Send one batch: the sealed one that has waited longest, or else a newly sealed one.

    ``prefer_new`` reverses that order. A sender alternates, so that a batch that is isolated part by part does not
    delay all others.
    """
    with workspace_circuit(context) as circuit:
        if not circuit.allows_requests:
            return Step.BLOCKED
        if is_crowded(context):
            return Step.CROWDED
        try:
            first, second = (_seal_next, lease_due) if prefer_new else (lease_due, _seal_next)
            sealed = first(context) or second(context)
        except SealRaced as error:
            logger.warning("%s", error)
            return Step.BLOCKED
        return send(context, sealed, failures=circuit.failures) if sealed else Step.IDLE
    return Step.BLOCKED  # the throttle backend did not answer


def seal_next(context: DeliveryContext) -> SealedBatch | None:
    """Seal and lease the next batch of pending records, or return None: scan → choose → seal.

    The stored run queue comes first. Only if it is used up or too old, the groups are scanned again.
    """
    with sealing_lock(context) as workspace:
        paused, queue = paused_groups(context), load_run_queue(context, workspace)
        sealed = seal_first(context, workspace, queue, queue.drain(), paused)
        if sealed is None:
            now = context.clock.now()
            blocked = [
                group for group, row in paused.items() if row.blocked_until and row.blocked_until > now
            ]
            scan = scan_for_groups(context, workspace, queue, excluded=blocked)
            choose_groups(context, queue, scan)
            sealed = seal_first(context, workspace, queue, queue.drain(), paused)
            if sealed is None:
                sealed = seal_first(context, workspace, queue, spare_groups(context, queue, scan), paused)
        save_run_queue(context, workspace, queue)
    return sealed


def send(context: DeliveryContext, sealed: SealedBatch, *, failures: int = 0) -> Step:
    """Send a leased batch: acquire a permit → POST → settle. Give the batch back if no permit is free in time.

    ``failures`` is the number of failures in a row of the workspace when the sender was admitted.
    """
    if needs_reconciliation(context, sealed.batch) and (step := _reconcile(context, sealed)):
        return step
    permit = _acquire_permit_or_give_back(context, sealed)
    if permit is None:
        return Step.BLOCKED
    outcome, attempt = post(context, sealed, permit)
    settle(context, sealed, outcome, attempt, failures=failures)
    return Step.SENT


def _seal_next(context: DeliveryContext) -> SealedBatch | None:
    return context.run_with_retries(seal_next, context)


def _acquire_permit_or_give_back(context: DeliveryContext, sealed: SealedBatch) -> str | None:
    permit = None
    try:
        permit = acquire_permit(context)
        if not has_time_to_send(context, sealed):
            permit = None
        return permit
    finally:
        if permit is None:
            give_back(context, sealed)


def _reconcile(context: DeliveryContext, sealed: SealedBatch) -> Step | None:
    """Settle a batch that Evermuse turns out to have. Return None if it must be sent again."""
    started_at = context.clock.now()
    try:
        outcome = reconcile(context, sealed.batch)
    except ReconciliationDelayed:
        give_back(context, sealed)
        return Step.BLOCKED
    except Exception:
        give_back(context, sealed)
        raise
    if outcome is None:
        return None
    attempt = Attempt.of("listing", started_at, outcome, None)
    if isinstance(outcome, Accepted):
        attempt = replace(attempt, detail=f"Found in the listing as {outcome.remote_id}.")
    settle_batch(context, sealed, outcome, attempt)
    return Step.SENT


# --- many batches -------------------------------------------------------------------------------------


@dataclass
class RelayRun:
    """The number of batches that a run has sent. After the run, it includes those of the other senders."""

    sent: int = 0


def relay(
    context: DeliveryContext, seconds: float, pool: SenderPool | None = None, *, is_patient: bool = False
) -> int:
    """Send batches in this thread until nothing is due, enough others send, or the time is up.

    Return how many batches were sent. A batch under way at the end of the time is finished first.

    Args:
        context: the delivery context.
        seconds: the time limit.
        pool: the pool that this sender belongs to. It starts more senders if permits are unused.
        is_patient: whether to wait for a permit from the start although enough others wait.
    """
    clock = context.clock
    started, waited_before = clock.monotonic(), context.client.seconds
    sent, last_sent_at, now = 0, started, started
    if pool:
        pool.add_client(context.client)
    while now < started + seconds:
        step = send_next(context, prefer_new=sent % 2 == 1)
        now = clock.monotonic()
        if step is Step.SENT:
            sent, last_sent_at = sent + 1, now
            if pool and now > started:
                pool.note_sent(waiting_share=(context.client.seconds - waited_before) / (now - started))
                pool.grow_if_permits_are_unused(context, seconds_per_batch=(now - started) / sent)
        elif step is Step.CROWDED and (sent or is_patient) and now < last_sent_at + MAX_SECONDS_WITHOUT_BATCH:
            clock.sleep(CROWDED_PAUSE)
        else:
            break
    return sent


@contextmanager
def relay_run(context: DeliveryContext, seconds: float) -> Iterator[RelayRun]:
    """Send with as many senders as are useful, then run the block, then wait for the other senders.

    The block can request the next run before this one waits. ``RelayRun.sent`` is 0 in the block if there is nothing
    to send or another run of this process sends already.
    """
    pool, run = SenderPool.of(context, _run_patient_sender), RelayRun()
    if not has_work(context) or not pool.start_run(seconds):
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
    """Poll accepted batches until none is due or the time is up. Return how many were asked about."""
    deadline = context.clock.monotonic() + seconds
    polled = 0
    while context.clock.monotonic() < deadline:
        count = poll_due_batch(context)
        if not count:
            break
        polled += count
    return polled


def _lead(context: DeliveryContext, seconds: float, pool: SenderPool) -> int:
    try:
        is_patient = pool.has_senders_at_work()
        pool.start_senders()
        with pool.monitor():
            return relay(context, seconds, pool, is_patient=is_patient)
    finally:
        pool.stop_leading()


def _run_patient_sender(context: DeliveryContext, seconds: float, pool: SenderPool) -> int:
    return relay(context, seconds, pool, is_patient=True)
