"""The relay: scan → choose → seal → acquire a permit → POST → settle.

``send_next``, ``seal_next`` and ``send`` are the complete path of a record from pending to accepted. The packages of
``delivery`` do the work of each step.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum, auto
from functools import partial

from ...evermuse.api import Accepted
from ...foreign_text import get_logger
from ..context import Attempt, DeliveryContext
from ..gates import (
    Circuit,
    acquire_permit,
    groups_without_probe,
    is_crowded,
    is_current,
    paused_groups,
    record_sealed,
    workspace_circuit,
)
from ..polling import ReconciliationDelayed, needs_reconciliation, reconcile
from ..scanning import scan_groups
from ..scheduling import (
    choose_groups,
    load_run_queue,
    save_run_queue,
    spare_groups,
)
from ..sealing import SealedBatch, SealRaced, seal_first, sealing_lock
from ..sending import give_back, has_time_to_send, lease_due, post
from ..settling import settle, settle_batch

logger = get_logger(__name__)


class Step(Enum):
    """The result of one attempt to send a batch."""

    SENT = auto()
    IDLE = auto()
    """No batch is due and nothing can be sealed."""
    BLOCKED = auto()
    """The circuit is open, or no permit was free in time."""
    CROWDED = auto()
    """Enough other senders wait for the next permits."""


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
        if sealed is None:
            return Step.IDLE
        if not _is_database_current(context, circuit, sealed):
            return Step.BLOCKED
        return send(context, sealed, failures=circuit.failures)
    return Step.BLOCKED  # workspace_circuit has handled a throttle backend that does not answer


def seal_next(context: DeliveryContext) -> SealedBatch | None:
    """Seal and lease the next batch of pending records, or return None: scan → choose → seal.

    Try the stored run queue first. Scan the groups again if it is too old or yields no batch.
    """
    with sealing_lock(context) as workspace:
        paused, queue = paused_groups(context), load_run_queue(context, workspace)
        seal = partial(seal_first, context, workspace, queue, paused)
        sealed = seal(queue.drain())
        if sealed is None:
            scan = scan_groups(context, workspace, queue, excluded=groups_without_probe(context, paused))
            choose_groups(context, queue, scan)
            sealed = seal(queue.drain()) or seal(spare_groups(context, queue, scan))
        if sealed:
            workspace.batch_count += 1
            sealed = replace(sealed, epoch=workspace.epoch, number=workspace.batch_count)
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


def _is_database_current(context: DeliveryContext, circuit: Circuit, sealed: SealedBatch) -> bool:
    """Return whether the batch may be sent from this database. Give it back if the database was restored.

    A new batch is recorded outside of the database first.
    """
    is_allowed = False
    try:
        if sealed.epoch:
            is_allowed = record_sealed(context, sealed.epoch, sealed.number, sealed.batch.key)
        elif circuit.epoch:
            is_allowed = is_current(context, circuit.epoch)
        return is_allowed
    finally:
        if not is_allowed:
            give_back(context, sealed)


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
    """Settle a batch that the listing shows, or the error of the listing. Return None if it must be sent again."""
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
