"""The messages that wait in Celery's queue.

This package must not publish a message or read a queue. Its public interface is ``OutboxMessage``.
"""

from .message import OutboxMessage

__all__ = ["OutboxMessage"]
