"""Look for a message in Celery's queue."""

from __future__ import annotations

from enum import Enum
from typing import Any

PAGE = 500
"""Messages of a Redis list that are read at once."""

MAX_READ = 10_000
"""Messages of a Redis list that are read at most, the oldest first. A longer list could stop Redis for too long."""

MESSAGE_TTL = 30.0
"""Seconds after which RabbitMQ drops a message that no worker has read.

RabbitMQ counts them on its clock. Celery's ``expires`` and ``countdown`` would compare the clocks of two machines, so
a worker with a clock that is ahead would drop each message. Other brokers keep the messages.
"""

TTL_MARGIN = 5.0
"""Seconds after ``MESSAGE_TTL`` for the difference of two clocks' speed and for the time of publishing."""


class Presence(Enum):
    """Whether a message is in its queue."""

    WAITS = "waits"
    GONE = "gone"
    UNKNOWN = "unknown"


def find_message(app: Any, queue: str, token: str, age: float) -> Presence:
    """Look for a message in its queue.

    An empty queue is the same on every broker. In a queue that is not empty, RabbitMQ drops a message after
    ``MESSAGE_TTL``, and the list of Redis can be read. Other brokers say nothing about a single message.

    Args:
        app: The Celery app.
        queue: Name of the queue.
        token: Text that the message contains.
        age: Seconds since the message was published or seen last.
    """
    with app.connection_for_write() as connection, connection.channel() as channel:
        try:
            count = channel.queue_declare(queue, passive=True).message_count
        except connection.channel_errors:
            return Presence.GONE  # there is no such queue
        if not count:
            return Presence.GONE
        if connection.transport.driver_type == "amqp":
            return Presence.GONE if age >= MESSAGE_TTL + TTL_MARGIN else Presence.UNKNOWN
        if connection.transport.driver_type == "redis":
            return _find_in_redis(channel, queue, token.encode(), count)
    return Presence.UNKNOWN


def _find_in_redis(channel: Any, queue: str, token: bytes, count: int) -> Presence:
    """Read the lists of a queue, the oldest messages first."""
    with channel.conn_or_acquire() as client:
        for priority in channel.priority_steps:
            # Kombu adds its prefix only to the commands that it uses itself, and LRANGE is not one of them.
            key = channel.global_keyprefix + channel._q_for_pri(queue, priority)
            for start in range(0, min(count, MAX_READ), PAGE):
                page = client.lrange(key, -(start + PAGE), -(start + 1))
                if any(token in _as_bytes(message) for message in page):
                    return Presence.WAITS
                if len(page) < PAGE:
                    break
    return Presence.GONE if count <= MAX_READ else Presence.UNKNOWN


def _as_bytes(message: str | bytes) -> bytes:
    return message.encode() if isinstance(message, str) else message
