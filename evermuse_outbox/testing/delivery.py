"""For a host's own tests: what was enqueued, and a delivery in the test's own process."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from django.db import DEFAULT_DB_ALIAS
from django.utils import timezone

from ..conf import DEFAULT_WORKSPACE, Workspace, get_settings
from ..delivery.context import Clock, DeliveryContext
from ..delivery.loop import poll, relay
from ..evermuse.api import Client
from ..models import OutboxRecord
from ..ratelimit import Admission, Reservation

if TYPE_CHECKING:
    from ..sandbox import Sandbox


class Served(Protocol):
    """A local Evermuse: :class:`evermuse_outbox.sandbox.Sandbox` is one."""

    @property
    def url(self) -> str: ...


class Unpaced:
    """A throttle that lets everybody go at once: a test's own Evermuse minds no pace."""

    def wait(self) -> float:
        return 0.0

    def reserve(self, patience: float) -> Reservation:
        return Reservation(0.0, taken=True)

    def acquire(self) -> Admission:
        return Admission(0.0, "permit")

    def release(self, permit: str, *, is_send: bool) -> None:
        """Nobody counts."""

    def block(self, seconds: float) -> None:
        """Forgotten at once."""


def local_evermuse(workspace: str = DEFAULT_WORKSPACE, **options: Any) -> Sandbox:
    """A :class:`~evermuse_outbox.sandbox.Sandbox` under the contract of ``workspace``, without a limit or delay.

    ``options`` are the sandbox's own. Use it as a context manager. It needs the extra ``[sandbox]``.
    """
    from ..sandbox import Sandbox

    contract = get_settings().workspace(workspace).contract
    given: dict[str, Any] = {"contract": contract, "rate_limit": 100_000, "batch_seconds": 0}
    return Sandbox(**given | options)


def enqueued(using: str = DEFAULT_DB_ALIAS, **filters: Any) -> list[dict[str, Any]]:
    """The records in the outbox as Evermuse would read them, oldest first; ``filters`` as for a QuerySet."""
    return [
        record.envelope() for record in OutboxRecord.objects.using(using).filter(**filters).order_by("pk")
    ]


def deliver(
    sandbox: Served,
    *,
    using: str = DEFAULT_DB_ALIAS,
    workspace: str = DEFAULT_WORKSPACE,
    api_key: str = "em_sk_sandbox",
    rounds: int = 100,
) -> int:
    """Seals, sends and follows what waits, against ``sandbox``, without workers; returns batches sent.

    Nothing lingers and no time passes: polls and retries that are due later happen now, and nothing is
    paced, which is why the sandbox of :func:`local_evermuse` has no limit.
    """
    clock, sent = _Ahead(), 0
    context = _channel(sandbox.url, using, workspace, api_key, clock)
    for _ in range(rounds):
        step = relay(context, 3_600)
        clock.by += timedelta(seconds=400)
        sent += step
        if not step and not poll(context, 1):
            break
    context.client.close()
    return sent


class _Ahead:
    """A clock that is as far ahead as it is told."""

    def __init__(self) -> None:
        self.by = timedelta(0)

    def clock(self) -> Clock:
        return Clock(now=lambda: timezone.now() + self.by, sleep=lambda seconds: None)


def _channel(url: str, using: str, name: str, api_key: str, ahead: _Ahead) -> DeliveryContext:
    known = get_settings()
    named = known.workspace(name)
    workspace: Workspace = dataclasses.replace(named, api_url=url, api_key=type(named.api_key)(api_key))
    settings = dataclasses.replace(known, linger=0)
    client = Client(url, lambda: api_key, settings.timeout)
    return DeliveryContext(using, workspace, settings, client, Unpaced(), ahead.clock())
