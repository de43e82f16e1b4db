"""The throttle of a workspace: in Redis if ``REDIS_URL`` is set, else in the outbox's first database."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any, TypeVar

from django.db import Error as DatabaseError

from ...conf import Secret, Settings, Workspace
from ...models import OutboxThrottle
from ...ratelimit import (
    Admission,
    Limit,
    RedisThrottle,
    Reservation,
    Throttle,
    ThrottleUnavailable,
    key_fingerprint,
)
from .clock import Clock
from .retries import retry_on_database_error

T = TypeVar("T")

REDIS_TIMEOUT = 5
"""Seconds for a connection to Redis, and for each answer. A hung Redis must not hang a worker."""

PREPARE_INTERVAL = 3_600.0
"""Seconds. The state of a key that is not used lasts for two days."""

MAX_PREPARED = 50
"""Keys for each maintenance. A function of the host may return a key slowly, and the rescue of batches comes after."""

_prepared_at: dict[str, float] = {}
"""Workspace → when this process last made sure that its key has a state, on the monotonic clock."""


def open_throttle(workspace: Workspace, settings: Settings) -> Throttle:
    """Return the throttle of the workspace's API key."""
    fingerprint = key_fingerprint(workspace.api_url, workspace.api_key.reveal())
    limit = Limit.from_rate(workspace.rate_limit)
    if settings.redis_url:
        return RedisThrottle(_redis_client(settings.redis_url), fingerprint, limit)
    return DatabaseThrottle(settings.databases[0], fingerprint, limit)


def prepare_throttles(settings: Settings, now: float) -> None:
    """Make sure that Redis has a state of each key, before there is anything to send.

    Without a state, Redis blocks a key for a window, because it may have lost that state. Idle workers call this at
    each maintenance. So the block of a new key is usually over when its first records are enqueued. Each process looks
    at a key once in ``PREPARE_INTERVAL`` seconds, and at ``MAX_PREPARED`` keys at most in one call; ``now`` is the time
    of its monotonic clock.
    """
    if not settings.redis_url:
        return
    due = [
        name for name in settings.workspaces if now - _prepared_at.get(name, -math.inf) >= PREPARE_INTERVAL
    ]
    due, later = due[:MAX_PREPARED], due[MAX_PREPARED:]
    _prepared_at.update(dict.fromkeys(due, now))
    try:
        for name in due:
            for workspace in settings.workspace(name).with_keys():
                if workspace.has_key and not workspace.problem:
                    open_throttle(workspace, settings).wait()
    except ThrottleUnavailable:
        # A Redis that hangs delays the maintenance once. The next sender meets the same error, and reports it.
        _prepared_at.update(dict.fromkeys(later, now))


def open_redis(settings: Settings) -> Any:
    """Return the client of ``REDIS_URL`` that all throttles of this process share; None without that setting."""
    return _redis_client(settings.redis_url) if settings.redis_url else None


class DatabaseThrottle:
    """A :class:`~evermuse_outbox.ratelimit.Throttle` for one API key, in a row of ``OutboxThrottle``.

    Args:
        using: the database alias; all workers must use the same one, or they would not share the limit.
        fingerprint: the :func:`~evermuse_outbox.ratelimit.key_fingerprint` of the API key.
        limit: the rate limit of the key.
    """

    def __init__(self, using: str, fingerprint: str, limit: Limit) -> None:
        self._rows = OutboxThrottle.objects.using(using)
        self._scope = fingerprint
        self._limit = limit

    def wait(self) -> float:
        """Return the seconds until the next slot, without reserving it."""
        state, now = self._run(self._rows.read_state, self._scope)
        return state.wait(now)

    def reserve(self, patience: float) -> Reservation:
        """Reserve the next slot if it is at most ``patience`` seconds away."""
        return self._run(self._rows.reserve, self._scope, self._limit, patience)

    def acquire(self) -> Admission:
        """Acquire a permit to send a request now. If none is free, return how long to wait before a new attempt."""
        return self._run(self._rows.acquire, self._scope, self._limit)

    def release(self, permit: str, *, is_comparable: bool) -> None:
        """Record that the request of ``permit`` has its answer; ``is_comparable`` as in the protocol."""
        self._run(partial(self._rows.release, is_comparable=is_comparable), self._scope, permit)

    def block(self, seconds: float) -> None:
        """Give no slot and no permit for ``seconds``. A longer block that is in force remains."""
        self._run(self._rows.block, self._scope, seconds)

    def unblock(self) -> None:
        """End a block before its time. Slots and permits stay as they are."""
        self._run(self._rows.unblock, self._scope)

    def _run(self, step: Callable[..., T], *arguments: Any) -> T:
        try:
            return retry_on_database_error(self._rows.db, Clock.of(self._rows.db), step, *arguments)
        except DatabaseError as error:
            raise ThrottleUnavailable(
                f"The database holds the rate limit and does not answer: {type(error).__name__}"
            ) from error


@cache
def _redis_client(url: Secret) -> Any:
    """Return the client. Its ``repr`` shows the arguments of its connections, so the password is not one of them."""
    import redis
    from redis.connection import parse_url

    parsed = parse_url(url.reveal())  # type: ignore[no-untyped-call]
    options = {"socket_timeout": REDIS_TIMEOUT, "socket_connect_timeout": REDIS_TIMEOUT} | parsed
    del parsed
    user, password = options.pop("username", None), Secret(options.pop("password", None) or "")
    if user or password:
        options["credential_provider"] = _credentials(user, password)
    return redis.Redis(connection_pool=redis.ConnectionPool(**options))


def _credentials(user: str | None, password: Secret) -> Any:
    from redis import CredentialProvider

    class Credentials(CredentialProvider):
        def get_credentials(self) -> tuple[str] | tuple[str, str]:
            return (user, password.reveal()) if user else (password.reveal(),)

    return Credentials()
