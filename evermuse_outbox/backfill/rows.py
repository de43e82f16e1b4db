"""Read rows, lock them, and convert them to records, as many as the pace allows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from django.db import Error as DatabaseError
from django.db import connections, models

from ..conf import Settings
from ..evermuse import InvalidRecord
from ..evermuse.records import Envelope, validate
from ..foreign_text import type_name
from ..model_records import pks_of_children
from ..models import OutboxRecord
from .job import Plan

Group = tuple[str, str]
"""``_type`` and ``_product_id``: the records of one request."""


class BadRow(NamedTuple):
    """A row without a valid record: its primary key, the kind of error, and the error in words."""

    pk: str
    kind: str
    error: str


@dataclass(slots=True)
class Tally:
    """How many records, bytes and attachments a group has, and how many requests they fill."""

    records: int = 0
    bytes: int = 0
    attachments: int = 0

    def add(self, envelope: Envelope) -> None:
        """Add a record."""
        self.records += 1
        self.bytes += envelope.size + 1
        self.attachments += envelope.attachments

    def requests(self, settings: Settings) -> int:
        """Return how many requests are needed."""
        return max(
            -(-self.records // settings.max_batch_records),
            -(-self.bytes // settings.max_batch_bytes),
            -(-self.attachments // settings.max_batch_attachments),
        )


@dataclass(slots=True)
class Chunk:
    """The records of consecutive rows, and what became of the rows without one.

    Attributes:
        last_pk: primary key of the last row; None if there is no row left.
        envelopes: the records.
        skipped: number of rows that are not recorded.
        bad: rows without a valid record.
        tallies: what each group has.
        is_blocked: whether the first row is locked by another transaction.
    """

    last_pk: Any = None
    envelopes: list[Envelope] = field(default_factory=list)
    skipped: int = 0
    bad: list[BadRow] = field(default_factory=list)
    tallies: dict[Group, Tally] = field(default_factory=dict)
    is_blocked: bool = False

    def requests_with(self, envelope: Envelope, settings: Settings) -> int:
        """Return how many requests the chunk fills if a record is added."""
        group = (envelope.type, envelope.product_id)
        others = sum(tally.requests(settings) for each, tally in self.tallies.items() if each != group)
        tally = self.tallies.get(group, Tally())
        enlarged = Tally(tally.records, tally.bytes, tally.attachments)
        enlarged.add(envelope)
        return others + enlarged.requests(settings)

    def add(self, envelope: Envelope) -> None:
        """Add a record."""
        self.envelopes.append(envelope)
        self.tallies.setdefault((envelope.type, envelope.product_id), Tally()).add(envelope)


def read_pks(plan: Plan, after: Any, until: Any, limit: int) -> list[Any]:
    """Return the primary keys of the next rows, at most ``limit``.

    Call it before the transaction of the chunk: under REPEATABLE READ, a read before the lock would show old rows.
    """
    rows = plan.rows().filter(pk__lte=until)
    if after is not None:
        rows = rows.filter(pk__gt=after)
    return list(rows.values_list("pk", flat=True)[:limit])


def lock_rows(plan: Plan, pks: Sequence[Any]) -> Sequence[Any]:
    """Lock rows until the transaction ends. Return those before the first that another transaction has locked.

    The backfill never waits for a row: live traffic goes first, and no deadlock with it is possible.
    """
    connection = connections[plan.using]
    features = connection.features
    if not features.has_select_for_update:
        return pks  # SQLite: the write of the job's row has locked the database
    rows = plan.model._base_manager.using(plan.using).filter(pk__in=pks).order_by("pk")
    can_skip = features.has_select_for_update_skip_locked
    locking = rows.select_for_update(skip_locked=can_skip, no_key=features.has_select_for_no_key_update)
    locked = set(locking.values_list("pk", flat=True))
    if not can_skip:
        return pks
    missing = [pk for pk in pks if pk not in locked]
    if not missing:
        return pks
    existing = set(rows.filter(pk__in=missing).values_list("pk", flat=True))
    first = next((position for position, pk in enumerate(pks) if pk in existing), len(pks))
    return pks[:first]


def build_chunk(plan: Plan, pks: Sequence[Any], settings: Settings, max_requests: int | None = None) -> Chunk:
    """Convert the rows with these primary keys, as many as fill ``max_requests``; at least one."""
    chunk = Chunk()
    contract = settings.workspace(plan.declaration.workspace).contract
    rows = plan.rows().filter(pk__in=pks)
    children = pks_of_children(plan.model, pks, plan.using)  # the backfill of the child enqueues them
    for row in rows:
        if row.pk in children:
            chunk.skipped += 1
            chunk.last_pk = row.pk
            continue
        envelope = _convert(plan, row, contract, chunk)
        if envelope is not None:
            is_full = max_requests is not None and chunk.requests_with(envelope, settings) > max_requests
            if is_full and chunk.envelopes:
                return chunk
            chunk.add(envelope)
        chunk.last_pk = row.pk
    chunk.last_pk = pks[-1] if pks else None  # rows that were deleted meanwhile count as read
    return chunk


def drop_known(using: str, chunk: Chunk) -> None:
    """Remove the records of which the outbox has a version, and count their rows as skipped."""
    identities = {envelope.identity for envelope in chunk.envelopes}
    rows = OutboxRecord.rows.using(using).filter(identity__in=identities)
    known = set(rows.values_list("identity", flat=True))
    left = [envelope for envelope in chunk.envelopes if envelope.identity not in known]
    chunk.skipped += len(chunk.envelopes) - len(left)
    chunk.envelopes, chunk.tallies = [], {}
    for envelope in left:
        chunk.add(envelope)


def _convert(plan: Plan, row: models.Model, contract: str, chunk: Chunk) -> Envelope | None:
    """Return the record of a row; None if it is skipped or bad, which the chunk notes."""
    declaration = plan.declaration
    try:
        if not declaration.should_record(row):
            chunk.skipped += 1
            return None
        return validate(declaration.record(row), contract=contract, workspace=declaration.workspace)
    except InvalidRecord as error:
        chunk.bad.append(BadRow(str(row.pk), kind_of(error), str(error)))
    except DatabaseError:
        raise
    except Exception as error:
        # The code of the host may raise anything for an old row. Its text may quote the row, so it is not kept.
        text = f"{type(declaration).__name__} raises {type_name(error)}"
        chunk.bad.append(BadRow(str(row.pk), text, text))
    return None


def kind_of(error: InvalidRecord) -> str:
    """Return the first error without the value, so that equal errors of many rows are counted together."""
    first = error.errors[0]
    return f"{first.path}: {first.message}" if first.path else first.message


def pks_of(rows: Iterable[BadRow]) -> list[str]:
    """Return the primary keys of bad rows."""
    return [row.pk for row in rows]
