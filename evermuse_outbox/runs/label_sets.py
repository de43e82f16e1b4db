"""Find or insert the label set of a record, and remember the sets that are committed.

A process remembers a set for a short time only, so a set that upkeep has retired is soon not named any more. It never
remembers a set of an open transaction: a rollback would remove it.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from functools import partial
from hashlib import sha256
from typing import Any

from django.db import connections, transaction

from ..models import OutboxLabelSet, OutboxRun

REMEMBERED = 60.0
"""Seconds for which a process uses a set without reading it again. Upkeep deletes a set a day after its retirement."""

REMEMBERED_OF_RUN = 2.0
"""The same for a set of a run. A process notices within this time that another one has closed the run."""

MAX_REMEMBERED = 10_000
"""Sets that a process remembers. With more, it forgets all of them and begins again."""

_known: dict[tuple[str, uuid.UUID], tuple[int, float]] = {}
"""Alias and digest of a committed set → its id, and when it was read on the monotonic clock."""


class RunClosed(ValueError):
    """A record cannot join a run that is closed."""


def label_set_id(using: str, labels: Mapping[str, str], run_id: int | None) -> int:
    """Return the id of the set with these labels and this run. Insert it if no set is visible.

    The labels are those that ``check_labels`` has returned. A known set costs no statement.

    Raises:
        RunClosed: The run is closed. Another process may have closed it ``REMEMBERED_OF_RUN`` ago without this error.
    """
    digest = _digest(labels, run_id)
    known = _known.get((using, digest))
    if known and time.monotonic() - known[1] < (REMEMBERED if run_id is None else REMEMBERED_OF_RUN):
        return known[0]
    if (
        run_id is not None
        and not OutboxRun.objects.using(using).filter(pk=run_id, closed_at__isnull=True).exists()
    ):
        raise RunClosed(
            f"Run #{run_id} is closed or does not exist, so no record can join it. Start another run."
        )
    rows = OutboxLabelSet.objects.using(using)
    pk = rows.in_use(digest).values_list("pk", flat=True).first() or rows.add(digest, labels, run_id)
    _remember_after_commit(using, digest, pk)
    return pk


def forget_label_sets(**_arguments: Any) -> None:
    """Forget all sets: a run was closed, or the rows of a database have been replaced."""
    _known.clear()


def _digest(labels: Mapping[str, str], run_id: int | None) -> uuid.UUID:
    text = json.dumps([run_id, labels], sort_keys=True, separators=(",", ":"))
    return uuid.UUID(bytes=sha256(text.encode()).digest()[:16], version=5)  # MariaDB refuses other bits


def _remember_after_commit(using: str, digest: uuid.UUID, pk: int) -> None:
    connection: Any = connections[using]
    # With autocommit off, the host commits by hand, and Django does not report it.
    if connection.in_atomic_block or connection.get_autocommit():
        transaction.on_commit(
            partial(_remember, using, digest, pk, time.monotonic()), using=using, robust=True
        )


def _remember(using: str, digest: uuid.UUID, pk: int, read_at: float) -> None:
    # A test may run these functions inside a transaction that it rolls back later.
    if connections[using].in_atomic_block:
        return
    if len(_known) >= MAX_REMEMBERED:
        _known.clear()
    _known[using, digest] = (pk, read_at)
