"""The loop runs the delivery: it sends batch after batch with a pool of senders, and polls accepted batches.

This package must not know Celery or the command line, and it changes no rows itself.
Its public interface is ``Dispatcher`` for all workspaces of a process. For one workspace it is ``relay_run`` and
``relay_with_pool`` with a sender pool, ``relay`` in one thread, and ``poll``; ``run_seconds`` is the length of a run.
The steps are ``send_next``, ``seal_next`` and ``send``.
"""

from .dispatcher import Dispatcher
from .relay import Step, seal_next, send, send_next
from .runs import RelayRun, poll, relay, relay_run, relay_with_pool
from .sender_pool import SenderPool
from .shares import MAX_RUN_SECONDS, run_seconds

__all__ = [
    "MAX_RUN_SECONDS",
    "Dispatcher",
    "RelayRun",
    "SenderPool",
    "Step",
    "poll",
    "relay",
    "relay_run",
    "relay_with_pool",
    "run_seconds",
    "seal_next",
    "send",
    "send_next",
]
