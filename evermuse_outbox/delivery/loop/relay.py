"""The relay: scan → choose → seal → acquire a permit → POST → settle.

``send_next``, ``seal_next`` and ``send`` are the complete path of a record from pending to accepted. The packages of
``delivery`` do the work of each step.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from enum import Enum, auto
from functools import partial

from ...evermuse.api import Accepted
from ...foreign_text import get_logger
from ...tracing import start_span
from ..context import Attempt, DeliveryContext
from ..gates import (
    Circuit,
    CircuitState,
    acquire_permit,
    groups_without_probe,
    is_crowded,
    is_current,
    key_circuit,
    keys_to_try,
    paused_groups,
    read_failing,
    record_sealed,
    workspace_circuit,
)
from ..polling import ReconciliationDelayed, needs_reconciliation, reconcile
from ..scanning import scan_groups
from ..scheduling import (
    Group,
    choose_groups,
    load_run_queue,
    save_run_queue,
    spare_groups,
)
from ..sealing import SealedBatch, SealRaced, seal_first, sealing_lock
from ..sending import (
    bind_key,
    give_back,
    has_time_to_send,
    lease_due,
    lease_first,
    read_probe_candidates,
    renew_urls,
    waiting_groups,
)
from ..settling import settle_batch
from .traces import end_seal_span, post_in_span, settle_in_span

logger = get_logger(__name__)

MAX_WITHHOLDING_STEPS = 20
"""Transactions in which standing rules withhold records before a sender looks at its time limit again."""


class Step(Enum):
    """The result of one attempt to send a batch."""

    SENT = auto()
    IDLE = auto()
    """No batch is due and nothing can be sealed."""
    BLOCKED = auto()
    """The circuit is open, or no permit was free in time."""
    RESEALED = auto()
    """A batch could not be sent as it was, so its records are in other batches now."""
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
        step = Step.BLOCKED
        for number, keyed in enumerate(keys_to_try(context, circuit)):
            with key_circuit(keyed, circuit) as admitted:
                step = _send_with_key(keyed, admitted, prefer_new=prefer_new, may_seal=not number)
            if step is not Step.IDLE or (circuit.state is CircuitState.CLOSED and not circuit.has_due_batch):
                break
        return step
    return Step.BLOCKED  # workspace_circuit has handled a throttle backend that does not answer


def _send_with_key(context: DeliveryContext, circuit: Circuit, *, prefer_new: bool, may_seal: bool) -> Step:
    """Send one batch with the key of ``context``. Without ``may_seal``, only one that was sealed before."""
    if not circuit.allows_requests:
        return Step.BLOCKED
    if is_crowded(context):
        return Step.CROWDED
    try:
        sealed = choose_batch(context, circuit, prefer_new=prefer_new) if may_seal else lease_due(context)
    except SealRaced as error:
        logger.warning("%s", error, extra=context.log_ids())
        return Step.BLOCKED
    if sealed is None:
        return Step.IDLE
    sealed = renew_urls(context, sealed)
    if sealed is None:
        return Step.RESEALED
    if not _is_database_current(context, circuit, sealed):
        return Step.BLOCKED
    return send(context, sealed, failures=circuit.failures)


def choose_batch(context: DeliveryContext, circuit: Circuit, *, prefer_new: bool) -> SealedBatch | None:
    """Lease the batch to send now, or return None if there is none."""
    if circuit.state is CircuitState.HALF_OPEN:
        return choose_probe(context)
    if not circuit.has_due_batch:
        return _seal_next(context)
    first, second = (_seal_next, lease_due) if prefer_new else (lease_due, _seal_next)
    return first(context) or second(context)


def choose_probe(context: DeliveryContext) -> SealedBatch | None:
    """Lease the batch that shows best whether the key and the API work, or return None if none is due.

    A batch of a group that has not failed is best. Otherwise the failed batch, or its group, might be the only cause.
    During an outage no more batches are sealed than needed: at most one for each group.
    """
    failing, due = read_failing(context), read_probe_candidates(context)
    untried = [batch for batch in due if not batch.failures]
    of_other_groups = [batch for batch in untried if (batch.type, batch.product_id) not in failing.groups]
    waiting = waiting_groups(context)
    return (
        lease_first(context, of_other_groups)
        or _seal_next(context, excluded=failing.groups | waiting)
        or lease_first(context, untried)
        or (None if failing.is_general else _seal_next(context))
        or lease_first(context, due)
        or (None if waiting else _seal_next(context))
    )


def seal_next(context: DeliveryContext, *, excluded: Collection[Group] = ()) -> SealedBatch | None:
    """Seal and lease the next batch of pending records, or return None: scan → choose → seal.

    Try the stored run queue first. Scan the groups again if it is too old or yields no batch. ``excluded`` are groups
    of which no batch is wanted now.

    If standing rules withhold what was read, the next step begins in a new transaction, a few times.
    """
    for _ in range(MAX_WITHHOLDING_STEPS):
        sealed, withheld = _try_to_seal(context, excluded)
        if sealed or not withheld:
            break
    return sealed


def _try_to_seal(context: DeliveryContext, excluded: Collection[Group]) -> tuple[SealedBatch | None, int]:
    """Seal and lease the next batch, or None, in one transaction. Return it, and how many records rules withheld."""
    with sealing_lock(context) as workspace:
        queue = load_run_queue(context, workspace)
        seal = partial(seal_first, context, workspace, queue)
        sealed = seal(entry for entry in queue.drain() if entry.group not in excluded)
        if sealed is None:
            resting = groups_without_probe(context, paused_groups(context)).union(excluded)
            scan = scan_groups(context, queue, excluded=resting)
            choose_groups(context, queue, scan)
            sealed = seal(queue.drain()) or seal(spare_groups(context, queue, scan))
        if sealed:
            workspace.batch_count += 1
            sealed = replace(sealed, epoch=workspace.epoch, number=workspace.batch_count)
        save_run_queue(context, workspace, queue)
    return sealed, queue.withheld


def send(context: DeliveryContext, sealed: SealedBatch, *, failures: int = 0) -> Step:
    """Send a leased batch: acquire a permit → POST → settle. Give the batch back if no permit is free in time.

    ``failures`` is the number of failures in a row of the workspace when the sender was admitted.
    """
    if needs_reconciliation(context, sealed.batch) and (step := _reconcile(context, sealed)):
        return step
    if not bind_key(context, sealed):
        return Step.BLOCKED
    permit = _acquire_permit_or_give_back(context, sealed)
    if permit is None:
        return Step.BLOCKED
    outcome, attempt = post_in_span(context, sealed, permit)
    settle_in_span(context, sealed, outcome, attempt, failures=failures)
    return Step.SENT


def _seal_next(context: DeliveryContext, *, excluded: Collection[Group] = ()) -> SealedBatch | None:
    seal_span = start_span("seal")  # it is not ended, and so not exported, if nothing is sealed
    sealed = context.run_with_retries(seal_next, context, excluded=excluded)
    return end_seal_span(context, seal_span, sealed) if sealed else None


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
