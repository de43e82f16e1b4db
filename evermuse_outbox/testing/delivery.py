"""Deliver the outbox within the process of the test, without workers and without waiting."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime, timedelta
from typing import Protocol

from django.db.models import Max

from ..conf import Secret, Settings, get_settings, reload_workspaces
from ..database_clock import database_now
from ..delivery.context import Clock, DeliveryContext
from ..delivery.loop import poll, relay
from ..evermuse.api import Client
from ..foreign_text import get_logger
from ..jobs import run_operations
from ..models import OutboxBatch, OutboxGroup, OutboxRecord, OutboxWorkspace, RecordState
from ..ratelimit import Admission, Reservation
from .databases import usable_databases
from .live import LocalEvermuse, find_sandbox, refuse_other_hosts, refuse_other_servers
from .report import Delivery, collect_result

__unittest = True  # unittest leaves the frames of this module out of a failure

ROUND = 400.0
"""Seconds by which the clock advances in each round: more than the default ``BACKOFF_CAP``, so all retries are due."""

RELAY_SECONDS = 3_600
"""Time limit of the relay in each round, in seconds. It ends earlier if nothing is due."""

POLL_SECONDS = 1
"""Time limit of polling in each round, in seconds."""

IDLE_ROUNDS = 3
"""Rounds in a row without a request after which the delivery ends: something waits for a person."""

STUCK_ROUNDS = 25
"""Rounds in a row without a change after which the delivery ends: the server is down, or the API key is wrong.

It is more than the failures that a test usually scripts. Each round is a failed request.
"""

PACKAGE_LOGGER = get_logger("evermuse_outbox")

WAITING = (RecordState.PENDING, RecordState.IN_FLIGHT)


class Server(Protocol):
    """A local Evermuse, such as :class:`evermuse_outbox.sandbox.Sandbox`."""

    @property
    def url(self) -> str:
        """Return the base URL, without a slash at the end."""
        ...


class Deliver(Protocol):
    """The type of :func:`deliver` and of the pytest fixture of this name."""

    def __call__(
        self,
        sandbox: Server | None = None,
        *,
        using: str | None = None,
        workspace: str | None = None,
        api_key: str | None = None,
        check: bool = True,
        rounds: int = 100,
    ) -> Delivery:
        """Send and poll everything in the outbox now; see :func:`deliver`."""
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

    def release(self, permit: str, *, is_comparable: bool) -> None:
        """Do nothing: permits are not counted."""

    def block(self, seconds: float) -> None:
        """Do nothing: a ``retryAfter`` is ignored."""

    def unblock(self) -> None:
        """Do nothing: there is no block."""


def deliver(
    sandbox: Server | None = None,
    *,
    using: str | None = None,
    workspace: str | None = None,
    api_key: str | None = None,
    check: bool = True,
    rounds: int = 100,
) -> Delivery:
    """Send and poll everything in the outbox now, without workers. Jobs that were confirmed are executed first.

    This runs in rounds and never sleeps. ``LINGER`` is ignored, and a simulated clock advances in each round until the
    next retries and polls are due. Requests are sent without a rate limit, so the server must not have one. It works
    inside of the transaction of a ``TestCase``.

    Args:
        sandbox: The server to send to, such as a :func:`local_evermuse`. By default, the sandbox of
            :func:`use_sandbox` or of the fixture ``evermuse_sandbox``, to which the settings point.
        using: Database alias. By default, every database of the outbox that the test may use.
        workspace: Name of a workspace. By default, all workspaces.
        api_key: Key that the server accepts. By default that of the settings, and the sandbox's default key if
            ``sandbox`` is given.
        check: Whether to raise an error if a record was rejected or is still waiting. Use ``False`` to test what your
            code does then.
        rounds: Maximum number of rounds. After it, records may be left. After 25 rounds in a row without a change, the
            delivery ends, too.

    Returns:
        What became of each record that was waiting.

    Raises:
        NotDelivered: A record was rejected, or is still waiting: for instance because the server is down, the API key
            is wrong or the workspace is held. It is an ``AssertionError`` that names each reason.
        AssertionError: The test has no sandbox, or the server is not on this machine. Nothing was sent.
        ImproperlyConfigured: The settings have no such workspace.
    """
    __tracebackhide__ = True
    result = _deliver(_targets(sandbox, workspace, api_key), usable_databases(using), workspace, rounds)
    return result.check() if check else result


@dataclasses.dataclass(frozen=True, slots=True)
class _Target:
    """Where the records of a workspace are sent."""

    workspace: str
    url: str
    api_key: str


def _targets(sandbox: Server | None, workspace: str | None, api_key: str | None) -> list[_Target]:
    __tracebackhide__ = True
    reload_workspaces()
    settings = get_settings()
    names = [settings.workspace(workspace).name] if workspace else list(settings.workspaces)
    targets = []
    for name in names:
        if sandbox:
            refuse_other_hosts(url := sandbox.url)
        else:
            refuse_other_servers(url := settings.workspace(name).api_url)
        default = "em_sk_sandbox" if sandbox else settings.workspace(name).api_key.reveal()
        targets.append(_Target(name, url, default if api_key is None else api_key))
    return targets


def _deliver(targets: list[_Target], aliases: list[str], workspace: str | None, rounds: int) -> Delivery:
    for using in aliases:
        run_operations(using, RELAY_SECONDS)
    before = {using: _waiting(using, workspace) for using in aliases}
    time_machine = _SimulatedTime(targets)
    with _contexts(targets, aliases, time_machine) as contexts:
        requests = _run_rounds(
            contexts, time_machine, rounds, lambda: [_waiting(a, workspace) for a in aliases]
        )
    result = Delivery(requests=requests)
    for using, pks in before.items():
        collect_result(using, pks, result)
    return result


def _run_rounds(
    contexts: list[DeliveryContext],
    time_machine: _SimulatedTime,
    rounds: int,
    read_waiting: Callable[[], list[set[int]]],
) -> int:
    """Run rounds until nothing waits or nothing changes. Return how many requests sent a batch."""
    requests = idle = stuck = 0
    last: object = None
    for number in range(rounds):
        with nullcontext() if number == 0 else _no_warnings():
            sent, polled = _run_round(contexts, time_machine)
        waiting = read_waiting()
        state = (
            waiting,
            [set(OutboxBatch.objects.using(c.using).values_list("pk", "state")) for c in contexts],
        )
        requests += sent
        idle = 0 if sent or polled else idle + 1
        stuck = stuck + 1 if state == last else 0
        last = state
        if not any(waiting) or idle == IDLE_ROUNDS or stuck == STUCK_ROUNDS:
            break
    return requests


def _run_round(contexts: list[DeliveryContext], time_machine: _SimulatedTime) -> tuple[int, int]:
    """Send what is due, advance the clock, and poll. Return how many requests sent a batch and how many were polled."""
    sent = sum(relay(context, RELAY_SECONDS) for context in contexts)
    time_machine.advance(contexts)
    return sent, sum(poll(context, POLL_SECONDS) for context in contexts)


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Log only errors of this package inside of the block: the result has the reasons, and a round repeats warnings."""
    level = PACKAGE_LOGGER.level
    PACKAGE_LOGGER.setLevel(max(level, logging.ERROR))
    try:
        yield
    finally:
        PACKAGE_LOGGER.setLevel(level)


def _waiting(using: str, workspace: str | None) -> set[int]:
    rows = OutboxRecord.objects.using(using).filter(state__in=WAITING)
    rows = rows if workspace is None else rows.filter(workspace=workspace)
    return set(rows.values_list("pk", flat=True))


class _SimulatedTime:
    """A time that advances when something is due, for the delivery and for the sandboxes of this process."""

    def __init__(self, targets: Iterable[_Target]) -> None:
        self._ahead = 0.0
        sandboxes = {target.url: find_sandbox(target.url) for target in targets}
        self._sandboxes: list[LocalEvermuse] = [sandbox for sandbox in sandboxes.values() if sandbox]

    def clock(self, using: str) -> Clock:
        """Return the clock of a database. Its sleep advances the time."""
        return Clock(lambda: self._now(using), self._move, lambda: time.monotonic() + self._ahead)

    def advance(self, contexts: Iterable[DeliveryContext]) -> None:
        """Advance by a round, and further if anything is due later."""
        latest = [
            (due - self._now(context.using)).total_seconds() + 1.0
            for context in contexts
            for due in _due_times(context.using, context.workspace_name)
        ]
        self._move(max([ROUND, *latest]))

    def _now(self, using: str) -> datetime:
        return database_now(using) + timedelta(seconds=self._ahead)

    def _move(self, seconds: float) -> None:
        self._ahead += seconds
        for sandbox in self._sandboxes:
            sandbox.advance(seconds)


def _due_times(using: str, workspace: str) -> Iterator[datetime]:
    """Yield until when the workspace, a group or a batch waits at the latest."""
    workspaces = OutboxWorkspace.objects.using(using).filter(pk=workspace)
    groups = OutboxGroup.objects.using(using).filter(workspace=workspace)
    batches = OutboxBatch.objects.using(using).open().filter(workspace=workspace)
    for latest in (
        workspaces.aggregate(at=Max("blocked_until")),
        groups.aggregate(at=Max("blocked_until")),
        batches.aggregate(due=Max("due_at"), poll=Max("next_poll_at"), lease=Max("leased_until")),
    ):
        yield from (at for at in latest.values() if at is not None)


@contextmanager
def _contexts(
    targets: list[_Target], aliases: list[str], time_machine: _SimulatedTime
) -> Iterator[list[DeliveryContext]]:
    settings = dataclasses.replace(get_settings(), linger=0)
    contexts = [
        _context_for(target, using, settings, time_machine.clock(using))
        for using in aliases
        for target in targets
    ]
    try:
        yield contexts
    finally:
        for context in contexts:
            context.client.close()


def _context_for(target: _Target, using: str, settings: Settings, clock: Clock) -> DeliveryContext:
    workspace = dataclasses.replace(
        settings.workspace(target.workspace),
        api_url=target.url,
        api_key=Secret(target.api_key),
        key_source=None,
        further_keys=(),
    )
    client = Client(target.url, lambda: target.api_key, settings.timeout)
    return DeliveryContext(using, workspace, settings, client, Unpaced(), clock)
