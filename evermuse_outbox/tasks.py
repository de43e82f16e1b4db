"""The Celery tasks. Each finds its work in the database, so a task may be lost, repeated or run twice at once.

A lease reserves a batch for one task for a limited time, so that two tasks do not send or poll it at once.
The messages contain only the names of a database and a workspace.
"""

from __future__ import annotations

import time
from typing import Any

from celery import shared_task

from .conf import get_settings
from .delivery.context import isolate_database_errors, open_context, queue_keys, statement_deadlines
from .delivery.loop import poll as poll_until
from .delivery.loop import relay_run
from .delivery.polling import has_due_poll, poll_due_batch
from .delivery.scheduling import has_work
from .upkeep import maintain_all

RUN_SECONDS = 5.0
"""Seconds after which a task starts nothing new and ends, so that other tasks can use its worker process."""

MESSAGE_TTL = 30.0
"""Seconds after which the broker drops a message that no worker has read. Later ticks have requested the same run.

RabbitMQ counts them on its clock. Celery's ``expires`` and ``countdown`` would compare the clocks of two machines, so
a worker with a clock that is ahead would drop each message. Other brokers keep the messages; see ``IDLE_SECONDS``.
"""

IDLE_SECONDS = 0.5
"""Seconds of this process in which a repeated message is dropped: a tick after a tick, a relay after one without work.

So a backlog of messages, after a time without workers, costs no statement for each message.
"""

MAX_LINGER = 1.0
"""Seconds that a woken relay waits at most for records that linger. A later tick finds the others."""

RETRY_POLICY = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}
"""Publish again once, without a pause, if the broker has closed the connection since the last message.

``retry=False`` is no alternative: then kombu waits six seconds for a broker that refuses connections, and the request
of the host waits with it.
"""


@shared_task(name="evermuse_outbox.tick", ignore_result=True, bind=True)
@statement_deadlines()
def tick(self: Any) -> None:
    """Request a run of :func:`relay` and :func:`poll` for each database and workspace where they have work.

    Do nothing if this process did the same a moment ago.
    """
    if _is_repeated(self):
        return
    for using, workspace in queue_keys():
        with isolate_database_errors(f"{using}/{workspace}"):
            context = open_context(using, workspace)
            if has_work(context):
                request_run(relay, using, workspace)
            if has_due_poll(context):
                request_run(poll, using, workspace)


@shared_task(name="evermuse_outbox.relay", ignore_result=True)
@statement_deadlines()
def relay(using: str, workspace: str, linger: float = 0.0) -> int:
    """Seal and send batches for up to 5 seconds. If it sent any and records are left, request another run.

    To seal a batch means to commit its records, their order, its exact bytes and its idempotency key.

    Args:
        using: Database alias.
        workspace: Name of the workspace.
        linger: Seconds to wait before, if there is work. A wake-up sets it, because its records linger.

    Returns:
        The number of batches sent.
    """
    sent = 0
    with isolate_database_errors(f"{using}/{workspace}"):
        if linger and _is_idle(using, workspace):
            return 0
        context = open_context(using, workspace)
        if linger and not has_work(context):
            _idle_since[using, workspace] = time.monotonic()
            return 0
        context.clock.sleep(min(linger, MAX_LINGER))
        with relay_run(context, RUN_SECONDS) as run:
            if run.sent and has_work(context):
                request_run(relay, using, workspace)
        sent = run.sent
        # Relays can occupy all worker processes for a long time. Without this call, no batch would be polled then.
        poll_due_batch(context)
    return sent


@shared_task(name="evermuse_outbox.poll", ignore_result=True)
@statement_deadlines()
def poll(using: str, workspace: str) -> int:
    """Poll accepted batches that are due, for up to 5 seconds: ask Evermuse for their status, and store it.

    Returns:
        The number of batches polled.
    """
    with isolate_database_errors(f"{using}/{workspace}"):
        return poll_until(open_context(using, workspace), RUN_SECONDS)
    return 0


@shared_task(name="evermuse_outbox.maintain", ignore_result=True, bind=True)
@statement_deadlines()
def maintain(self: Any) -> None:
    """Rescue batches with an expired lease, purge rows that are older than the retention, and update statistics.

    Do nothing if this process did the same a moment ago.
    """
    if _is_repeated(self):
        return
    maintain_all()


def request_run(task: Any, using: str, workspace: str, linger: float = 0) -> None:
    """Publish a message that starts ``task`` for a database and a workspace.

    Args:
        task: :func:`relay` or :func:`poll`.
        using: Database alias.
        workspace: Name of the workspace.
        linger: Seconds that the task waits for records that linger.
    """
    task.apply_async(
        args=(using, workspace, linger) if linger else (using, workspace),
        expiration=MESSAGE_TTL,
        queue=get_settings().celery_queue,
        retry=True,
        retry_policy=RETRY_POLICY,
    )


_last_run: dict[str, float] = {}
"""Name of a task that beat requests → when this process last began it, on the monotonic clock."""

_idle_since: dict[tuple[str, str], float] = {}
"""Queue key → when a woken relay of this process last found no work, on the monotonic clock."""


def _is_repeated(task: Any) -> bool:
    """Return whether a worker's process began the same task less than ``IDLE_SECONDS`` ago."""
    now = time.monotonic()
    if task.request.called_directly or now - _last_run.get(task.name, float("-inf")) >= IDLE_SECONDS:
        _last_run[task.name] = now
        return False
    return True


def _is_idle(using: str, workspace: str) -> bool:
    """Return whether a woken relay of this process found no work less than ``IDLE_SECONDS`` ago."""
    since = _idle_since.get((using, workspace))
    return since is not None and time.monotonic() - since < IDLE_SECONDS
