"""Permits: each HTTP request needs one from the throttle of its API key.

A permit is the right to make one request now. A caller first reserves the next free time slot and waits for it, then it
acquires the permit. Without permits, the requests of all processes together would exceed the limit of the key.

A caller that waits for a permit or an answer holds no transaction, no row lock and no database connection, only the
lease of its batch.
"""

from __future__ import annotations

from collections.abc import Callable

from ...conf import MAX_PERMIT_WAIT
from ...evermuse.api import Answer, read_retry_after
from ...foreign_text import get_logger
from ...ratelimit import ThrottleUnavailable
from ..connections import release_connections
from ..context import DeliveryContext

logger = get_logger(__name__)

CROWDED = 0.3
"""Seconds. If the next free slot is further away, enough senders are waiting already."""


UNAUTHORIZED = 401
"""HTTP status for a key that is not known. It may have been replaced."""


def is_crowded(context: DeliveryContext) -> bool:
    """Return whether so many senders wait for a permit that another one would only wait, too."""
    return context.throttle.wait() > CROWDED


def acquire_permit(context: DeliveryContext) -> str | None:
    """Wait for a permit and return it; return None if none is free within ``MAX_PERMIT_WAIT`` seconds.

    The request must start at once when this function returns. So the connection is opened first: the time that this
    takes would delay the arrival. While a 429 blocks the throttle, the wait goes on, or ends with None if the block is
    longer than the time that is left.
    """
    clock = context.clock
    if not context.client.is_connected:
        release_connections()
        context.client.connect()
    deadline = clock.monotonic() + MAX_PERMIT_WAIT
    reservation = context.throttle.reserve(MAX_PERMIT_WAIT)
    wait = reservation.wait
    if not reservation.taken:
        return None
    while clock.monotonic() + wait <= deadline:
        if wait > 0:
            release_connections()
            clock.sleep(wait)
        wait, permit = context.throttle.acquire()
        if permit:
            return permit
    return None


def call_with_permit(
    context: DeliveryContext, permit: str, request: Callable[[], Answer], *, is_send: bool
) -> Answer:
    """Make one HTTP request and release its permit. Raise what ``request`` raises.

    A 429 blocks the throttle before anything else happens, because other senders may be about to start.
    """
    release_connections()
    try:
        answer = request()
        if (retry_after := read_retry_after(answer)) is not None:
            _block_throttle(context, retry_after)
        if answer.status == UNAUTHORIZED and (source := context.workspace.key_source):
            source.forget(context.workspace.api_key)
        return answer
    finally:
        try:
            # The latency of a request that opened its connection contains more than that of others.
            is_comparable = is_send and not context.client.has_connected
            context.throttle.release(permit, is_comparable=is_comparable)
        except ThrottleUnavailable as error:
            # The answer is more important. A permit that is not released expires by itself.
            logger.warning("%s", error, extra=context.log_ids())


def _block_throttle(context: DeliveryContext, seconds: float) -> None:
    try:
        context.throttle.block(seconds)
    except ThrottleUnavailable as error:
        # A backend that does not answer gives no permits either. So the next sender opens the circuit.
        logger.warning("%s", error, extra=context.log_ids())
