"""Read what was enqueued, and deliver it to a local Evermuse within the process of the test."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from django.db import DEFAULT_DB_ALIAS

from ..conf import DEFAULT_WORKSPACE, Secret, get_settings
from ..database_clock import database_now
from ..delivery.context import Clock, DeliveryContext
from ..delivery.loop import poll, relay
from ..evermuse.api import Client
from ..jobs import run_operations
from ..models import OutboxRecord
from ..ratelimit import Admission, Reservation

if TYPE_CHECKING:
    from ..sandbox import Sandbox

ROUND = timedelta(seconds=400)
"""Time by which the clock advances in each round: more than the default ``BACKOFF_CAP``, so all retries are due."""

RELAY_SECONDS = 3_600
"""Time limit of the relay in each round, in seconds. It ends earlier if nothing is due."""

POLL_SECONDS = 1
"""Time limit of polling in each round, in seconds."""


class Server(Protocol):
    """A local Evermuse, such as :class:`evermuse_outbox.sandbox.Sandbox`."""

    @property
    def url(self) -> str:
        """Return the base URL, without a slash at the end."""
        ...


class Unpaced:
    """A throttle that admits every request at once, because a local Evermuse needs no rate limit."""

    def wait(self) -> float:
        """Return 0: no request is blocked."""
        return 0.0

    def reserve(self, patience: float) -> Reservation:
        """Reserve a slot that is due now."""
        return Reservation(0.0, taken=True)

    def acquire(self) -> Admission:
        """Admit the request now."""
        return Admission(0.0, "permit")

    def release(self, permit: str, *, is_send: bool) -> None:
        """Do nothing: permits are not counted."""

    def block(self, seconds: float) -> None:
        """Do nothing: a ``retryAfter`` is ignored."""

    def unblock(self) -> None:
        """Do nothing: there is no block."""


def local_evermuse(workspace: str = DEFAULT_WORKSPACE, **options: Any) -> Sandbox:
    """Return a sandbox with the contract of a workspace, without a rate limit and without a delay.

    Use it as a context manager. It needs the extra ``evermuse-outbox[sandbox]``.

    Args:
        workspace: Name of the workspace in the settings. The sandbox applies its contract.
        options: Arguments of :class:`~evermuse_outbox.sandbox.Sandbox` that replace these defaults.

    Raises:
        ImproperlyConfigured: The settings have no such workspace.
        SandboxUnavailable: The extra is not installed.
    """
    from ..sandbox import Sandbox

    contract = get_settings().workspace(workspace).contract
    defaults: dict[str, Any] = {"contract": contract, "rate_limit": 100_000, "batch_seconds": 0}
    return Sandbox(**defaults | options)


def enqueued(using: str = DEFAULT_DB_ALIAS, **filters: Any) -> list[dict[str, Any]]:
    """Return the records in the outbox as Evermuse would receive them, the oldest first.

    Args:
        using: Database alias.
        filters: Lookups as for ``QuerySet.filter``, for instance ``state="pending"``.
    """
    rows = OutboxRecord.objects.using(using).filter(**filters).order_by("pk")
    return [record.envelope() for record in rows]


def deliver(
    sandbox: Server,
    *,
    using: str = DEFAULT_DB_ALIAS,
    workspace: str = DEFAULT_WORKSPACE,
    api_key: str = "em_sk_sandbox",
    rounds: int = 100,
) -> int:
    """Send and poll everything in the outbox now, without workers. Jobs that were confirmed are executed first.

    This runs in rounds and never sleeps. ``LINGER`` is ignored, and a simulated clock advances by 400 seconds in each
    round, so the next retries and polls are due at once. Requests are sent without a rate limit, so the server must not
    have one. The sandbox of :func:`local_evermuse` has none.

    Args:
        sandbox: The server to send to.
        using: Database alias.
        workspace: Name of the workspace.
        api_key: Key that the server accepts.
        rounds: Maximum number of rounds. After it, records may be left.

    Returns:
        The number of requests that sent a batch.

    Raises:
        ImproperlyConfigured: The settings have no such workspace.
    """
    clock, sent = _AdvancingClock(using), 0
    context = _context_for(sandbox.url, using, workspace, api_key, clock)
    for _ in range(rounds):
        run_operations(using, RELAY_SECONDS)
        sent_in_round = relay(context, RELAY_SECONDS)
        clock.ahead += ROUND
        sent += sent_in_round
        if not sent_in_round and not poll(context, POLL_SECONDS):
            break
    context.client.close()
    return sent


class _AdvancingClock:
    """A clock that is ``ahead`` of the database's time and does not sleep."""

    def __init__(self, using: str) -> None:
        self.using = using
        self.ahead = timedelta(0)

    def clock(self) -> Clock:
        return Clock(now=lambda: database_now(self.using) + self.ahead, sleep=lambda _: None)


def _context_for(url: str, using: str, name: str, api_key: str, clock: _AdvancingClock) -> DeliveryContext:
    settings = dataclasses.replace(get_settings(), linger=0)
    workspace = dataclasses.replace(settings.workspace(name), api_url=url, api_key=Secret(api_key))
    client = Client(url, lambda: api_key, settings.timeout)
    return DeliveryContext(using, workspace, settings, client, Unpaced(), clock.clock())
