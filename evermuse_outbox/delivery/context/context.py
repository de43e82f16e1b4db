"""Everything that sending for one workspace from one database needs, opened once for a run."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, ParamSpec, TypeVar

from django.db import Error as DatabaseError
from django.db import connections
from django.utils import timezone

from ...conf import Settings, Workspace, get_settings
from ...evermuse.client import Client
from ...evermuse.errors import ThrottleUnavailable
from ...models import OutboxThrottle
from ...ratelimit.throttle import (
    Entry,
    Limit,
    RedisThrottle,
    Reservation,
    Throttle,
    scope_of,
)
from .database_errors import classify_database_error, summarise_error
from .retries import retry_on_database_error

logger = logging.getLogger(__name__)

T = TypeVar("T")
P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Clock:
    """Time, handed in so that tests need not wait for it."""

    now: Callable[[], datetime] = timezone.now
    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic

    def after(self, seconds: float) -> datetime:
        """The moment that many seconds from now."""
        return self.now() + timedelta(seconds=seconds)


@dataclass(frozen=True, slots=True)
class DeliveryContext:
    """One workspace on one database alias, with its client, its throttle and its clock."""

    using: str
    workspace: Workspace
    settings: Settings
    client: Client
    throttle: Throttle
    clock: Clock = field(default_factory=Clock)

    @property
    def workspace_name(self) -> str:
        """The workspace's name."""
        return self.workspace.name

    def run_with_retries(self, step: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
        """:func:`~.persist.persist` on this database and clock."""
        return retry_on_database_error(self.using, self.clock, step, *given, **named)


class DatabaseThrottle:
    """The pace of one key in a row of the outbox's first database.

    Raises :class:`ThrottleUnavailable` when that database does not answer.
    """

    def __init__(self, using: str, scope: str, limit: Limit) -> None:
        self._rows = OutboxThrottle.objects.using(using)
        self._scope = scope
        self._limit = limit

    def wait(self) -> float:
        pace, now = self._ask(self._rows.look, self._scope)
        return pace.wait(now)

    def reserve(self, patience: float) -> Reservation:
        return self._ask(self._rows.reserve, self._scope, self._limit, patience)

    def enter(self) -> Entry:
        return self._ask(self._rows.enter, self._scope, self._limit)

    def leave(self, permit: str, *, is_send: bool) -> None:
        self._ask(partial(self._rows.leave, is_send=is_send), self._scope, permit)

    def hold(self, seconds: float) -> None:
        self._ask(self._rows.hold, self._scope, seconds)

    def _ask(self, step: Callable[..., T], *arguments: Any) -> T:
        try:
            return retry_on_database_error(self._rows.db, Clock(), step, *arguments)
        except DatabaseError as error:
            told = f"The database keeps the pace and does not answer: {type(error).__name__}"
            raise ThrottleUnavailable(told) from error


def open_context(using: str, name: str) -> DeliveryContext:
    """The channel of this thread for that database alias and workspace."""
    settings = get_settings()
    workspace = settings.workspace(name)
    return DeliveryContext(
        using, workspace, settings, _client(workspace, settings.timeout), _throttle(workspace, settings)
    )


def queue_keys() -> list[tuple[str, str]]:
    """Every (database alias, workspace name) that records can wait in."""
    settings = get_settings()
    return [(using, name) for using in settings.databases for name in settings.workspaces]


@contextmanager
def isolate_database_errors(name: str) -> Iterator[None]:
    """A database that is down keeps nobody from looking after the others."""
    try:
        yield
    except DatabaseError as error:
        # What is not the database's own trouble is a mistake of ours or of the installation: show where.
        unforeseen = classify_database_error(error) is None
        logger.warning("%s is left for later: %s", name, summarise_error(error), exc_info=unforeseen)


_local = threading.local()


def _client(workspace: Workspace, timeout: float) -> Client:
    """One client for a thread, a key and an address: connections are kept open between runs."""
    opened: dict[Any, Client] = _local.__dict__.setdefault("clients", {})
    kind = (workspace.api_url, workspace.api_key, timeout)
    if kind not in opened:
        opened[kind] = Client(workspace.api_url, workspace.api_key.reveal, timeout)
    return opened[kind]


def _throttle(workspace: Workspace, settings: Settings) -> Throttle:
    scope = scope_of(workspace.api_url, workspace.api_key.reveal())
    limit = Limit.of(workspace.rate_limit)
    if settings.redis_url:
        return RedisThrottle(_redis(settings.redis_url), scope, limit)
    return DatabaseThrottle(settings.databases[0], scope, limit)


@functools.cache
def _redis(url: str) -> Any:
    import redis

    return redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5)


def close_thread_connections() -> None:
    """Gives this thread's database connections back (threads of our own must do it themselves)."""
    connections.close_all()
