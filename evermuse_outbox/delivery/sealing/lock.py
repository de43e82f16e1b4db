"""The sealing lock: one transaction at a time seals in a workspace.

Two versions of one identity may be in two groups. If both groups were sealed at the same time, both versions could be
in flight, and the older one could arrive last.

"Needs the sealing lock" in a docstring means that the caller must hold this lock in the open transaction.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import transaction

from ...models import OutboxWorkspace
from ..context import DeliveryContext


@contextmanager
def sealing_lock(context: DeliveryContext) -> Iterator[OutboxWorkspace]:
    """Open a transaction, lock the workspace's row in it and yield the row."""
    with transaction.atomic(using=context.using):
        yield lock_for_sealing(context)


def lock_for_sealing(context: DeliveryContext) -> OutboxWorkspace:
    """Lock the workspace's row until the open transaction ends, and return it.

    Take the lock before anything is read. Otherwise a newer version could be sealed between the read and the lock.
    """
    return OutboxWorkspace.objects.using(context.using).lock_for_sealing(context.workspace_name)
