"""The Celery tasks. Each finds its work in the database, so a task may be lost, repeated or run twice at once.

A lease reserves a batch for one task for a limited time, so that two tasks do not send or poll it at once.
The messages contain only the names of a database and a workspace.
"""

from __future__ import annotations

from typing import Any

from celery import shared_task

from .conf import get_settings
from .delivery.context import (
    Clock,
    isolate_database_errors,
    open_context,
    queue_keys,
    statement_deadlines,
)
from .delivery.loop import poll as poll_until
from .delivery.loop import relay_run
from .delivery.polling import has_due_poll, poll_due_batch
from .delivery.scheduling import has_work
from .upkeep import maintain_all

RUN_SECONDS = 5.0
"""Seconds after which a task starts nothing new and ends, so that other tasks can use its worker process."""

EXPIRES = 30.0
"""Seconds after which Celery drops a message that no worker has read. Later ticks have requested the same run."""

RETRY_POLICY = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}
"""Publish again once, without a pause, if the broker has closed the connection since the last message.

``retry=False`` is no alternative: then kombu waits six seconds for a broker that refuses connections, and the request
of the host waits with it.
"""


@shared_task(name="evermuse_outbox.tick", ignore_result=True)
@statement_deadlines()
def tick() -> None:
    """Request a run of :func:`relay` and :func:`poll` for each database and workspace where they have work."""
    for using, workspace in queue_keys():
        with isolate_database_errors(f"{using}/{workspace}"):
            context = open_context(using, workspace)
            if has_work(context):
                request_run(relay, using, workspace)
            if has_due_poll(context):
                request_run(poll, using, workspace)


@shared_task(name="evermuse_outbox.relay", ignore_result=True)
@statement_deadlines()
def relay(using: str, workspace: str) -> int:
    """Seal and send batches for up to 5 seconds. If it sent any and records are left, request another run.

    To seal a batch means to commit its records, their order, its exact bytes and its idempotency key.

    Returns:
        The number of batches sent.
    """
    sent = 0
    with isolate_database_errors(f"{using}/{workspace}"):
        context = open_context(using, workspace)
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


@shared_task(name="evermuse_outbox.maintain", ignore_result=True)
@statement_deadlines()
def maintain() -> None:
    """Rescue batches with an expired lease, purge rows that are older than the retention, and update statistics."""
    maintain_all(Clock())


def request_run(task: Any, using: str, workspace: str, countdown: float = 0) -> None:
    """Publish a message that starts ``task`` for a database and a workspace.

    Args:
        task: :func:`relay` or :func:`poll`.
        using: Database alias.
        workspace: Name of the workspace.
        countdown: Seconds until the task starts.
    """
    task.apply_async(
        args=(using, workspace),
        countdown=countdown or None,
        expires=EXPIRES + countdown,
        queue=get_settings().celery_queue,
        retry=True,
        retry_policy=RETRY_POLICY,
    )
