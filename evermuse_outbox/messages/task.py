"""The class of the tasks. Beat, its other schedulers and the host all publish through its ``apply_async``."""

from __future__ import annotations

import time
from functools import cache, partial
from typing import Any

from celery import Task

from .claims import EXAMINE_AFTER, HOST_EXAMINES_AFTER, MessageKey, Publication, claim, release, take
from .deadline import PUBLISH_SECONDS, BrokerSilent, BrokerStillSilent, run_within
from .queue import MESSAGE_TTL, Presence, find_message

HEADER = "evermuse_outbox"
"""Header of a message with a claim. Its value is the name of the row."""

RETRY_POLICY = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}
"""Publish again once, without a pause, if the broker has closed the connection since the last message.

``retry=False`` is no alternative: then kombu waits six seconds for a broker that refuses connections.
"""


class OutboxTask(Task):  # type: ignore[misc]
    """A task with at most one message of each workspace in the queue."""

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Publish a message, or return None if one waits in the queue already.

        Schedulers call this in their own process, on a connection of their own.
        """
        if self.app.conf.task_always_eager or kwargs:
            return super().apply_async(args, kwargs, **options)
        request = _Request(self, tuple(args or ()), options, EXAMINE_AFTER)
        request.publish()
        return request.result

    def is_copy(self) -> bool:
        """Return whether the message of this run is a copy of one that was taken before. Else take it."""
        token = (self.request.headers or {}).get(HEADER) or self.request.get(HEADER)
        if self.request.called_directly or not token:
            return False
        key = MessageKey.of(self.name, self.request.args)
        return token == key.name and not take(key)


def publish(task: Any, arguments: tuple[Any, ...], *, is_host: bool = False, **options: Any) -> Publication:
    """Publish the message of a task unless one waits in the queue, within ``PUBLISH_SECONDS``.

    Args:
        task: A task of the class ``OutboxTask``.
        arguments: Database alias, workspace and other arguments of the task.
        is_host: Whether a process of the host publishes. Its request waits meanwhile.
        options: Options of Celery's ``apply_async``.

    Raises:
        BrokerSilent: The broker did not answer in time.
        Exception: The broker refused the message; the transports have no common exception.
    """
    if task.app.conf.task_always_eager:
        return Publication.SKIPPED
    options |= {"retry": True, "retry_policy": RETRY_POLICY}
    # Not the proxy of `shared_task`: another thread may resolve it to another app.
    task = task.app.tasks[task.name]
    return _Request(task, arguments, options, HOST_EXAMINES_AFTER if is_host else EXAMINE_AFTER).publish()


def take_late(task: str, using: str, workspace: str) -> bool:
    """Take the message of a task that waits, so that the task can run here. Return False if a worker has taken it."""
    return take(MessageKey(using, task, workspace))


@cache
def _load_transport(app: Any) -> None:
    """Import the code that Celery needs for its broker, without a connection. It takes 0.1 s or more, once."""
    _ = app.connection_for_write().transport_cls


class _Request:
    """The request to publish a message of a task."""

    def __init__(
        self, task: OutboxTask, arguments: tuple[Any, ...], options: dict[str, Any], examine_after: float
    ) -> None:
        self.task = task
        self.arguments = arguments
        self.options = options
        self.examine_after = examine_after
        self.key = MessageKey.of(task.name, arguments)
        _load_transport(task.app)  # the time is for the broker, not for imports
        self.ends_at = time.monotonic() + PUBLISH_SECONDS
        self.result: Any = None

    def publish(self) -> Publication:
        """Claim the message and publish it. If that fails, release the claim."""
        claimed = claim(self.key, self._examine, self.examine_after)
        if claimed not in (None, Publication.PUBLISHED):
            return claimed
        options = dict(self.options)
        if claimed:
            options["headers"] = {**(options.get("headers") or {}), HEADER: self.key.name}
            options["expiration"] = MESSAGE_TTL
        try:
            self.result = self._send(
                partial(super(OutboxTask, self.task).apply_async, self.arguments, **options)
            )
        except Exception as error:
            # After a timeout the message may still arrive. Then its claim stays until the queue is examined.
            if claimed and (not isinstance(error, BrokerSilent) or isinstance(error, BrokerStillSilent)):
                release(self.key)
            raise
        return Publication.PUBLISHED

    def _send(self, send: Any) -> Any:
        if self.options.get("producer") or self.options.get("connection"):
            return send()  # a scheduler's own connection; no request of the host waits for it
        return run_within(send, max(0.0, self.ends_at - time.monotonic()))

    def _examine(self, age: float) -> Presence:
        queue = self.task.app.amqp.router.route(dict(self.options), self.task.name, self.arguments)["queue"]
        look = partial(find_message, self.task.app, queue.name, self.key.name, age)
        try:
            presence: Presence = run_within(look, max(0.0, self.ends_at - time.monotonic()))
        except Exception:
            return Presence.UNKNOWN  # the broker fails; publishing reports it
        return presence
