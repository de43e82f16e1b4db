"""When this process may call Evermuse: what holds the workspace, and the wait for a slot.

Nobody who waits here holds a transaction or a row lock; a leased batch is all that waits with them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime

from ...conf import MAX_PERMIT_WAIT
from ...evermuse.client import Answer
from ...evermuse.errors import ThrottleUnavailable
from ...evermuse.outcomes import Throttled, of_read
from ...models import OutboxWorkspace, WorkspaceState
from ...ratelimit.throttle import MAX_HOLD
from ..context.backoff import full_jitter
from ..context.context import DeliveryContext

logger = logging.getLogger(__name__)

CROWDED = 0.3
"""Seconds. Where the next slot is further away, enough senders wait already."""

KEEPER_DOWN = 5.0
"""Seconds until Redis is asked again when it did not answer."""

PROBE = 60.0
"""Seconds between two tries of a key that was refused."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether a workspace may be used. ``probe_until`` is set for the one who tries whether a hold is over."""

    is_open: bool
    probe_until: datetime | None = None


CLOSED, OPEN = Gate(is_open=False), Gate(is_open=True)

_let_in_after: ContextVar[int | None] = ContextVar("let in after", default=None)
"""How many failures in a row there were when this sender was let in."""


@contextmanager
def gate(context: DeliveryContext) -> Iterator[Gate]:
    """Whether the workspace may be used now. Where a hold has run out, one caller gets to try it.

    What that caller learns from Evermuse opens the workspace or holds it anew. Where nothing was learned,
    the next caller may try.
    """
    before, found = _let_in_after.set(None), CLOSED
    try:
        found = context.run_with_retries(_gate, context)
        yield found
    except ThrottleUnavailable as error:
        # Without the keeper of the pace nothing is sent: the limit is a promise.
        context.run_with_retries(_hold, context, WorkspaceState.BACKING_OFF, KEEPER_DOWN, str(error))
    finally:
        _let_in_after.reset(before)
        if found.probe_until:
            mine = OutboxWorkspace.objects.using(context.using).filter(
                pk=context.workspace_name, blocked_until=found.probe_until
            )
            context.run_with_retries(mine.update, blocked_until=context.clock.now())


def _gate(context: DeliveryContext) -> Gate:
    rows = OutboxWorkspace.objects.using(context.using)
    row = rows.named(context.workspace_name)
    _let_in_after.set(row.failures)
    if row.blocked_until and row.blocked_until > context.clock.now():
        return CLOSED
    if not context.workspace.api_key:
        _hold(
            context,
            WorkspaceState.PAUSED,
            PROBE,
            f"no API_KEY is set for the workspace {context.workspace_name!r}",
        )
        return CLOSED
    if row.state == WorkspaceState.ACTIVE:
        return OPEN
    if row.state == WorkspaceState.THROTTLED:
        rows.resume(context.workspace_name, context.clock.now(), sent=False)
        return OPEN
    until = context.clock.after(context.settings.lease)
    return Gate(is_open=True, probe_until=until) if rows.claim_probe(row, until) else CLOSED


def is_crowded(context: DeliveryContext) -> bool:
    """Whether the next slot is so far away that another sender would only wait."""
    return context.throttle.wait() > CROWDED


def acquire_permit(context: DeliveryContext) -> str | None:
    """Returns at the moment when a request may be sent: its visit, for :meth:`Throttle.leave`.

    None where that moment is not soon. Slots given out before a 429 are not used after it: the hold stands
    at the door.
    """
    clock = context.clock
    deadline = clock.monotonic() + MAX_PERMIT_WAIT
    grant = context.throttle.reserve(MAX_PERMIT_WAIT)
    wait = grant.wait
    if not grant.taken:
        return None
    while clock.monotonic() + wait <= deadline:
        clock.sleep(wait)
        wait, permit = context.throttle.enter()
        if permit:
            return permit
    return None


def call(context: DeliveryContext, permit: str, request: Callable[[], Answer], *, is_send: bool) -> Answer:
    """One HTTP call within its visit. Raises what ``request`` raises."""
    try:
        answer = request()
        if isinstance(told := of_read(answer), Throttled):
            _shut_the_door(context, told.retry_after)  # before anything else, as others stand before it
        return answer
    finally:
        try:
            context.throttle.leave(permit, is_send=is_send)
        except ThrottleUnavailable as error:
            # The answer matters more; an unfinished visit ends by itself.
            logger.warning("%s", error)


def hold_for_retry_after(context: DeliveryContext, seconds: float, message: str) -> None:
    """429: nobody who uses this key sends for that long; :func:`call` has shut the door already."""
    _hold(context, WorkspaceState.THROTTLED, min(seconds, MAX_HOLD), message)


def _shut_the_door(context: DeliveryContext, seconds: float) -> None:
    try:
        context.throttle.hold(seconds)
    except ThrottleUnavailable as error:
        # Who does not answer gives no slots either, and the workspace's own hold stands.
        logger.warning("%s", error)


def pause(context: DeliveryContext, message: str) -> None:
    """401, 403: the key is tried again now and then."""
    _hold(context, WorkspaceState.PAUSED, PROBE, message)


def back_off(context: DeliveryContext, message: str) -> None:
    """Trouble of the API or of the way to it: everything waits, longer each time.

    Ten requests that were under way together when the API died are one failure, not ten.
    """
    rows = OutboxWorkspace.objects.using(context.using)
    let_in_after = _let_in_after.get()
    failures = rows.named(context.workspace_name).failures if let_in_after is None else let_in_after
    seconds = full_jitter(failures + 1, context.settings.backoff_base, context.settings.backoff_cap)
    until = context.clock.after(seconds)
    if rows.back_off(context.workspace_name, failures, until, message):
        _tell(context, WorkspaceState.BACKING_OFF, until, message)


def resume(context: DeliveryContext, *, sent: bool) -> None:
    """The API has answered as it should: what held the workspace is over. ``sent`` for the answer to a POST."""
    if OutboxWorkspace.objects.using(context.using).resume(
        context.workspace_name, context.clock.now(), sent=sent
    ):
        logger.info("workspace %s is open again", context.workspace_name)


def _hold(context: DeliveryContext, state: WorkspaceState, seconds: float, reason: str) -> None:
    until = context.clock.after(seconds)
    if OutboxWorkspace.objects.using(context.using).hold(context.workspace_name, state, until, reason):
        _tell(context, state, until, reason)


def _tell(context: DeliveryContext, state: WorkspaceState, until: datetime, reason: str) -> None:
    logger.warning(
        "workspace %s is %s until %s: %s", context.workspace_name, state.value, until.isoformat(), reason
    )
