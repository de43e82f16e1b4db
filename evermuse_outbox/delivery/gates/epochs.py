"""Notice a restored database before anything is sent from it, and hold its workspace.

A restored backup or a lagging replica has older versions as pending that were followed by newer ones already. Sent
again, they would overwrite these at Evermuse. So before each POST, the database is compared with the epoch store; see
``delivery/context/epochs.py``. If the database is older, the workspace becomes ``restored``. Then nothing is sent until
a person has decided with ``outbox_reconcile``.

A normal crash raises no alarm: a number is recorded after its COMMIT, so the database has it.
"""

from __future__ import annotations

from uuid import UUID

from ...foreign_text import get_logger
from ...models import OutboxWorkspace, WorkspaceQuerySet
from ..connections import release_connections
from ..context import CLOSED, DeliveryContext, epoch_name

logger = get_logger(__name__)

CONFIRMATION_PAUSES = (0.0, 0.2, 0.5, 1.0)
"""Seconds before each read that confirms an alarm. A commit may reach the other nodes of a cluster a little later."""

WHAT_TO_DO = "Nothing is sent until `manage.py outbox_reconcile` is used."


def record_sealed(context: DeliveryContext, epoch: UUID, number: int, key: str) -> bool:
    """Record a newly sealed batch in the epoch store before it is sent.

    Return False if the database turns out to be older than the store; then the workspace is held.

    Args:
        context: the delivery context.
        epoch: the epoch of the workspace's row when the batch was sealed.
        number: the number of the batch in that epoch.
        key: the idempotency key of the batch.
    """
    recorded = context.epochs.record(epoch_name(epoch, context.workspace_name), number, key)
    if recorded.is_new and number > 1:
        logger.warning(
            "workspace %s: the epoch store knows nothing of this database; it begins at batch number %d",
            context.queue_key,
            number,
            extra=context.log_ids(),
        )
    if recorded.is_taken:
        hold_restored(context, f"The batch number {number} was given to another batch before.")
        return False
    return recorded.latest <= number or not _hold_if_behind(context, epoch, recorded.latest)


def is_current(context: DeliveryContext, epoch: UUID) -> bool:
    """Return whether a batch that was sealed before may be sent: the database is not older than the epoch store.

    If it is older, hold the workspace. This costs one query, and is only needed for a batch that is sent again.
    """
    latest = context.epochs.latest(epoch_name(epoch, context.workspace_name))
    return latest is None or not _hold_if_behind(context, epoch, latest)


def hold_restored(context: DeliveryContext, evidence: str) -> None:
    """Change the workspace to ``restored``, because of ``evidence``."""
    reason = f"The database is older than what was sent from it. {evidence} {WHAT_TO_DO}"
    if context.run_with_retries(_rows(context).mark_restored, context.workspace_name, reason):
        logger.error("workspace %s is held: %s", context.queue_key, evidence, extra=context.log_ids())


def _hold_if_behind(context: DeliveryContext, epoch: UUID, latest: int) -> bool:
    """Hold the workspace and return True if its row has counted fewer batches than ``latest``."""
    count = 0
    for pause in CONFIRMATION_PAUSES:
        release_connections()
        context.clock.sleep(pause)
        row = context.run_with_retries(_rows(context).ensure_row, context.workspace_name)
        count = row.batch_count
        if row.epoch != epoch or count >= latest:
            return False
    known = "The epoch ended" if latest == CLOSED else f"The epoch store knows {latest:,} batches"
    hold_restored(context, f"{known}, and the database has {count:,}.")
    return True


def _rows(context: DeliveryContext) -> WorkspaceQuerySet:
    return OutboxWorkspace.objects.using(context.using)
