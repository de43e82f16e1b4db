"""Publish Celery messages: at most one of a task and a workspace waits in a queue, and no publish takes long.

A row of ``OutboxMessage`` says that a message waits. A publisher claims the row first, and the task that takes the
message clears it before it looks for work. So no work that was committed before the claim is missed.

A broker can lose a message, so a row is not believed for ever. After a few seconds the queue is examined, and a lost
message is published again. If the database fails, messages are published without a claim.

This package must not decide whether a task has work. Its public interface is:

* ``OutboxTask``: the class of all tasks; its ``apply_async`` claims;
* ``Publication`` and ``publish``: the request of a run, and what became of it;
* ``take_late`` and ``longest_waiting``: take a message that waits, to do its work elsewhere;
* ``count_waiting``: how many messages wait.
"""

from .claims import MessageKey, Publication, count_waiting, longest_waiting
from .deadline import PUBLISH_SECONDS, BrokerSilent
from .task import OutboxTask, publish, take_late

__all__ = [
    "PUBLISH_SECONDS",
    "BrokerSilent",
    "MessageKey",
    "OutboxTask",
    "Publication",
    "count_waiting",
    "longest_waiting",
    "publish",
    "take_late",
]
