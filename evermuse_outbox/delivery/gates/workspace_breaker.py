"""The circuit breaker of a workspace: whether its API key may be used now.

* closed: requests flow (state ``active``).
* open: nothing is sent until ``blocked_until`` (states ``paused``, ``no_credits``, ``backing_off``, ``throttled``).
* open for sends: a person holds the workspace (``held``); accepted batches are polled.
* half-open: ``blocked_until`` is over, and one caller sends one request as a probe.

The state is stored in the workspace's row, so it holds for all processes and hosts. Without the breaker, every sender
would go on with requests that a refused key, a 429 or an outage makes useless.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from typing import Any
from uuid import UUID

from django.db.models import Subquery

from ...foreign_text import get_logger, headline
from ...models import (
    GroupState,
    KeyBlock,
    KeyPool,
    OutboxBatch,
    OutboxGroup,
    OutboxWorkspace,
    PayloadsUnreadable,
    WorkspaceQuerySet,
    WorkspaceState,
    block_key,
    unblock_key,
)
from ...ratelimit import MAX_BLOCK, ThrottleUnavailable
from ..context import DeliveryContext, equal_jitter, full_jitter

logger = get_logger(__name__)

PROBE_INTERVAL = 60.0
"""Seconds between two probes of a refused API key or of a paused group."""

SETTINGS_INTERVAL = 10.0
"""Seconds until a key that is missing or must not be used is looked at again. That makes no request."""

THROTTLE_RETRY = 5.0
"""Seconds until an unavailable throttle backend is tried again."""


class CircuitState(Enum):
    """The state of a circuit breaker."""

    CLOSED = auto()
    OPEN = auto()
    HALF_OPEN = auto()


@dataclass(frozen=True, slots=True)
class Circuit:
    """The circuit breaker as it was when a request was admitted.

    ``failures`` is the number of failures in a row at that time. ``probe_until`` is set in the half-open state: until
    then, no other caller may probe. ``epoch`` is that of the workspace's row. ``has_due_batch`` says whether a sealed
    batch was due to be sent. ``keys`` is what is known of single API keys, if the workspace has several.
    """

    state: CircuitState
    failures: int = 0
    epoch: UUID | None = None
    probe_until: datetime | None = None
    has_due_batch: bool = False
    keys: KeyPool = field(default_factory=KeyPool)

    @property
    def allows_requests(self) -> bool:
        """Whether the caller may send a request now."""
        return self.state is not CircuitState.OPEN


@contextmanager
def workspace_circuit(context: DeliveryContext, *, is_read: bool = False) -> Iterator[Circuit]:
    """Yield the circuit of the workspace for the requests inside of the block.

    ``is_read`` means that they only read. Such requests are made while a person holds the workspace, too.

    The outcome of a probe closes the circuit or opens it again. If the block ends without an outcome, another caller
    may probe at once. If the throttle backend does not answer inside of the block, the block ends without an error.
    Then the circuit opens for ``THROTTLE_RETRY`` seconds, because the rate limit cannot be kept without the backend.
    If a key of stored payloads is missing, it opens for ``SETTINGS_INTERVAL`` seconds: nothing can be sealed meanwhile.
    """
    circuit = Circuit(CircuitState.OPEN)
    try:
        circuit = context.run_with_retries(_check, context, is_read)
        yield circuit
    except ThrottleUnavailable as error:
        context.run_with_retries(_block, context, WorkspaceState.BACKING_OFF, THROTTLE_RETRY, str(error))
    except PayloadsUnreadable as error:
        context.run_with_retries(_block, context, WorkspaceState.PAUSED, SETTINGS_INTERVAL, str(error))
    finally:
        if circuit.probe_until:
            context.run_with_retries(
                _rows(context).end_probe, context.workspace_name, circuit.probe_until, context.clock.now()
            )


def block_for_retry_after(context: DeliveryContext, seconds: float, message: str) -> None:
    """Open the circuit after a 429, for the seconds of its ``retryAfter``. Of several keys, block only this one."""
    _block_key(context, WorkspaceState.THROTTLED, min(seconds, MAX_BLOCK), message)


def pause_workspace(context: DeliveryContext, message: str, refusals: int | None = None) -> None:
    """Open the circuit after a 401 or 403.

    The key is probed every ``PROBE_INTERVAL`` seconds. If it is not certain that the key is at fault, ``refusals`` is
    the number of failed POSTs in a row. The first of them are followed by a probe soon. Of several keys, block only
    this one.
    """
    _block_key(context, WorkspaceState.PAUSED, _probe_pause(context, refusals), message)


def pause_until_a_key_is_free(context: DeliveryContext, blocks: Collection[KeyBlock]) -> None:
    """Open the circuit because each key of the workspace has one of these ``blocks``, until the first of them ends."""
    first = min(blocks, key=lambda block: block.until)
    is_refused = any(block.kind == "refused" for block in blocks)
    state = WorkspaceState.PAUSED if is_refused else WorkspaceState.THROTTLED
    seconds = max(first.until - context.clock.now().timestamp(), 0)
    _block(context, state, seconds, f"None of {len(blocks)} API keys can be used: {first.reason}")


def pause_without_credits(context: DeliveryContext, message: str, refusals: int | None = None) -> None:
    """Open the circuit after a 402: the workspace has no credits at Evermuse. See :func:`pause_workspace`."""
    _block(context, WorkspaceState.NO_CREDITS, _probe_pause(context, refusals), message)


def back_off(context: DeliveryContext, message: str, failures: int) -> None:
    """Open the circuit after a failure of the API or of the network, for longer each time.

    ``failures`` is ``Circuit.failures`` of the request. Ten requests that failed together count as one failure.
    """
    seconds = full_jitter(failures + 1, context.settings.backoff_base, context.settings.backoff_cap)
    until = context.clock.after(seconds)
    if _rows(context).back_off(context.workspace_name, failures, until, message):
        _log(context, WorkspaceState.BACKING_OFF, until, message)


def resume_workspace(context: DeliveryContext, *, by_send: bool) -> None:
    """Close the circuit after a normal answer of the API. ``by_send`` is true for the answer to a POST."""
    if _rows(context).resume(context.workspace_name, context.clock.now(), sent=by_send):
        logger.info("workspace %s is active again", context.workspace_name, extra=context.log_ids())


def resume_after_send(context: DeliveryContext, batch: OutboxBatch) -> bool:
    """Close the circuit after a normal answer to a POST. Return whether the batch's group is suspected or paused.

    One statement reads both. Nearly always, there is nothing to change.
    """
    rows, name = _rows(context), context.workspace_name
    group = OutboxGroup.objects.using(context.using).for_group(batch.workspace, batch.type, batch.product_id)
    suspected = Subquery(group.exclude(state=GroupState.CLEARED).values("state")[:1])
    further = ["key_pool"] if context.pool else []
    row = rows.filter(pk=name).values_list("state", "failures", suspected, *further).first()
    if row is None:
        return True
    state, failures, group_state, *key_pool = row
    if any(context.key_fingerprint in KeyPool.parse(stored).blocks for stored in key_pool):
        _unblock_key(context)
    is_blocked = state != WorkspaceState.ACTIVE or failures > 0
    if is_blocked and rows.resume_blocked(name, context.clock.now(), sent=True):
        logger.info("workspace %s is active again", name, extra=context.log_ids())
    return group_state is not None


def _block_key(context: DeliveryContext, state: WorkspaceState, seconds: float, reason: str) -> None:
    """Block the key of ``context``, and with it the workspace if it is the only key."""
    if not context.pool:
        _block(context, state, seconds, reason)
        return
    now, key = context.clock.now().timestamp(), context.key_fingerprint
    kind: Any = "throttled" if state is WorkspaceState.THROTTLED else "refused"
    block = KeyBlock(kind, now + seconds, now, headline(reason))
    if block_key(_rows(context), context.workspace_name, key, block):
        logger.warning(
            "workspace %s: the API key %s is %s for %.0f s: %s",
            context.workspace_name,
            key,
            kind,
            seconds,
            headline(reason),
            extra=context.log_ids(),
        )


def _unblock_key(context: DeliveryContext) -> None:
    key, now = context.key_fingerprint, context.clock.now().timestamp()
    if unblock_key(_rows(context), context.workspace_name, key, now):
        logger.info(
            "workspace %s: the API key %s is used again", context.workspace_name, key, extra=context.log_ids()
        )


def _probe_pause(context: DeliveryContext, refusals: int | None) -> float:
    if refusals is None:
        return PROBE_INTERVAL
    return equal_jitter(refusals, context.settings.backoff_base, PROBE_INTERVAL)


def _check(context: DeliveryContext, is_read: bool) -> Circuit:
    """Read the state of the circuit. Claim the probe if the circuit is half-open."""
    # The same statement looks for due batches, because a send needs both.
    columns = {} if is_read else {"first_due_at": _first_due_at(context)}
    row = _rows(context).ensure_row(context.workspace_name, **columns)
    if row.state == WorkspaceState.RESTORED or (row.state == WorkspaceState.HELD and not is_read):
        return Circuit(CircuitState.OPEN)
    if row.blocked_until and row.blocked_until > context.clock.now():
        return Circuit(CircuitState.OPEN)
    if problem := context.workspace.problem:
        _block(context, WorkspaceState.PAUSED, SETTINGS_INTERVAL, problem)
        return Circuit(CircuitState.OPEN)
    keys = KeyPool.of(row) if context.pool else KeyPool()
    if row.state in (WorkspaceState.ACTIVE, WorkspaceState.HELD):
        first_due_at = getattr(row, "first_due_at", None)
        has_due_batch = first_due_at is not None and first_due_at <= context.clock.now()
        return Circuit(CircuitState.CLOSED, row.failures, row.epoch, has_due_batch=has_due_batch, keys=keys)
    return _claim_probe(context, row, keys)


def _first_due_at(context: DeliveryContext) -> Subquery:
    """Return when the first sealed batch is due, batches of held groups included: ``lease_due`` leaves those out."""
    waiting = OutboxBatch.objects.using(context.using).sendable(context.workspace_name)
    return Subquery(waiting.order_by("due_at", "pk").values("due_at")[:1])


def _claim_probe(context: DeliveryContext, row: OutboxWorkspace, keys: KeyPool) -> Circuit:
    until = context.clock.after(context.settings.lease)
    rows = _rows(context)
    claim = rows.end_retry_after if row.state == WorkspaceState.THROTTLED else rows.claim_probe
    if claim(row, until):
        return Circuit(CircuitState.HALF_OPEN, row.failures, row.epoch, until, keys=keys)
    return Circuit(CircuitState.OPEN)


def _block(context: DeliveryContext, state: WorkspaceState, seconds: float, reason: str) -> None:
    until = context.clock.after(seconds)
    rows = _rows(context)
    block = {
        WorkspaceState.PAUSED: rows.pause,
        WorkspaceState.NO_CREDITS: rows.pause_without_credits,
        WorkspaceState.THROTTLED: rows.throttle,
        WorkspaceState.BACKING_OFF: rows.back_off_uncounted,
    }[state]
    if block(context.workspace_name, until, reason):
        _log(context, state, until, reason)


def _log(context: DeliveryContext, state: WorkspaceState, until: datetime, reason: str) -> None:
    logger.warning(
        "workspace %s is %s until %s: %s",
        context.workspace_name,
        state.value,
        until.isoformat(),
        headline(reason),
        extra=context.log_ids(),
    )


def _rows(context: DeliveryContext) -> WorkspaceQuerySet:
    return OutboxWorkspace.objects.using(context.using)
