"""Split a leased batch whose records were removed or altered since it was sealed.

A host may delete records: to erase personal data, or by a cascade. Only those records are gone. The sealed bytes exist
no longer, and other members need another key. So the remaining records are sealed again.
"""

from __future__ import annotations

from copy import copy

from django.db import transaction

from ...models import OutboxBatch
from ..context import DeliveryContext
from ..isolation import continue_after_named, lock_isolating_parent, open_members
from ..sealing import lock_for_sealing, reseal_in_doubt, reseal_parts


def split_changed_batch(context: DeliveryContext, batch: OutboxBatch, message: str = "") -> None:
    """Seal the remaining records of a leased batch in new batches with new keys, and end the batch.

    A record whose line was altered is rejected: the sealing compares each line with its checksum. If the batch was in
    doubt, the new ones are in doubt instead. Change nothing if the lease was lost. ``message`` says why the batch
    ended, if it was for another reason.
    """
    batch = copy(batch)  # after a rollback, the caller's batch is still leased
    with transaction.atomic(using=context.using):
        lock_for_sealing(context)
        parent = lock_isolating_parent(context, batch)
        removed = batch.record_count - len(open_members(context, batch))
        was_in_doubt, now = batch.in_doubt, context.clock.now()
        ended = {
            "in_doubt": False,
            "finished_at": now,
            "message": message or _describe(removed, batch.record_count),
        }
        if not OutboxBatch.objects.using(context.using).split_changed(batch, **ended):
            return
        if was_in_doubt:
            reseal_in_doubt(context, batch)
        else:
            reseal_parts(context, batch, [open_members(context, batch)], resends=batch.resends)
        if parent:
            # The removed record may have been the bad one, so no suspicion stays on the others.
            continue_after_named(context, parent, 0)


def _describe(removed: int, sealed: int) -> str:
    if removed > 0:
        return f"{removed} of {sealed} records were removed after the batch was sealed."
    return "Stored lines were altered after the batch was sealed."
