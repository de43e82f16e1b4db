"""Open the throttle of an API key: in Redis if ``REDIS_URL`` is set, otherwise in a database row."""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from django.db import Error as DatabaseError

from ...conf import Settings, Workspace
from ...evermuse.errors import ThrottleUnavailable
from ...models import OutboxThrottle
from ...ratelimit.throttle import Entry, Limit, RedisThrottle, Reservation, Throttle, scope_of
from .clock import Clock
from .retries import retry_on_database_error

T = TypeVar("T")

REDIS_TIMEOUT = 5
"""Seconds to connect to Redis, and to wait for each answer."""


class DatabaseThrottle:
    """The throttle of one API key in a row of the first database of ``DATABASES``.

    Each method raises ``ThrottleUnavailable`` if that database does not answer.
    """

    def __init__(self, using: str, scope: str, limit: Limit) -> None:
        self._rows = OutboxThrottle.objects.using(using)
        self._scope = scope
        self._limit = limit

    def wait(self) -> float:
        pace, now = self._call(self._rows.look, self._scope)
        return pace.wait(now)

    def reserve(self, patience: float) -> Reservation:
        return self._call(self._rows.reserve, self._scope, self._limit, patience)

    def enter(self) -> Entry:
        return self._call(self._rows.enter, self._scope, self._limit)

    def leave(self, permit: str, *, is_send: bool) -> None:
        self._call(partial(self._rows.leave, is_send=is_send), self._scope, permit)

    def hold(self, seconds: float) -> None:
        self._call(self._rows.hold, self._scope, seconds)

    def _call(self, step: Callable[..., T], *args: Any) -> T:
        try:
            return retry_on_database_error(self._rows.db, Clock(), step, *args)
        except DatabaseError as error:
            raise ThrottleUnavailable(
                f"The database that stores the rate limit does not answer: {type(error).__name__}"
            ) from error


def open_throttle(workspace: Workspace, settings: Settings) -> Throttle:
    """Return the throttle of the workspace's API key. All workspaces with the same key share one."""
    scope = scope_of(workspace.api_url, workspace.api_key.reveal())
    limit = Limit.of(workspace.rate_limit)
    if settings.redis_url:
        return RedisThrottle(_redis_client(settings.redis_url), scope, limit)
    return DatabaseThrottle(settings.databases[0], scope, limit)


@functools.cache
def _redis_client(url: str) -> Any:
    import redis

    return redis.Redis.from_url(url, socket_timeout=REDIS_TIMEOUT, socket_connect_timeout=REDIS_TIMEOUT)
