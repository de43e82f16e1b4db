"""Celery tasks: thin, idempotent, and finding their work themselves in the database.

A message is only a kick. Losing one costs a second, receiving it twice costs nothing: who sends what is
decided by leases on rows.
"""

from __future__ import annotations

from functools import partial

from celery import shared_task

from .conf import get_settings
from .delivery.context.context import (
    Clock,
    DeliveryContext,
    isolate_database_errors,
    open_context,
    queue_keys,
)
from .delivery.loop.relay import relay_with_pool
from .delivery.loop.relay import track as run_track
from .delivery.polling.poll import has_due_poll, poll_due_batch
from .delivery.scheduling.pending import has_work
from .upkeep import maintenance as maintenance

RUN_SECONDS = 5.0
"""How long one task keeps a worker's slot before it lets others have it."""

EXPIRES = 30.0
"""Seconds after which a message is not worth running: later ones ask for the same."""


AT_ONCE = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}
"""One more try without a pause, for a connection that went stale. Without any policy (``retry=False``) kombu
waits six seconds for a broker that refuses connections, and the host's request with it."""


@shared_task(name="evermuse_outbox.tick", ignore_result=True)
def tick() -> None:
    """Looks for work everywhere and asks for what there is to do."""
    for using, name in queue_keys():
        with isolate_database_errors(f"{using}/{name}"):
            context = open_context(using, name)
            if has_work(context):
                ask(relay, using, name)
            if has_due_poll(context):
                ask(track, using, name)


@shared_task(name="evermuse_outbox.relay", ignore_result=True)
def relay(using: str, workspace: str) -> int:
    """Seals and sends for a while; asks for another run when more is waiting. Returns batches sent."""
    sent = 0
    with isolate_database_errors(f"{using}/{workspace}"):
        context = open_context(using, workspace)
        sent = relay_with_pool(context, RUN_SECONDS, partial(_go_on, context))
        poll_due_batch(
            context
        )  # where all slots of the workers are taken by senders, nobody else comes to it
    return sent


def _go_on(context: DeliveryContext) -> None:
    if has_work(context):
        ask(relay, context.using, context.workspace_name)


@shared_task(name="evermuse_outbox.track", ignore_result=True)
def track(using: str, workspace: str) -> int:
    """Follows accepted batches for a while. Returns how many were asked about."""
    with isolate_database_errors(f"{using}/{workspace}"):
        return run_track(open_context(using, workspace), RUN_SECONDS)
    return 0


@shared_task(name="evermuse_outbox.maintain", ignore_result=True)
def maintain() -> None:
    """Rescues what dead workers held, and purges what is long over."""
    maintenance.maintain_all(Clock())


def ask(task, using: str, workspace: str, countdown: float = 0) -> None:  # type: ignore[no-untyped-def]
    """Publishes a kick for ``task``."""
    task.apply_async(
        args=(using, workspace),
        countdown=countdown or None,
        expires=EXPIRES + countdown,
        queue=get_settings().celery_queue,
        retry=True,
        retry_policy=AT_ONCE,
    )
