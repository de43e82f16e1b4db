"""Sealing: the next group that is ready, packed and committed as a batch, before anything is sent.

The path of one call::

    take the workspace's turn → next group of the agenda → lock its oldest pending records
    → set superseded versions aside, leave fenced ones → bring lines of another contract into today's
    → pack → write the batch → point its records at it

All of it is one short transaction; HTTP comes after it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connections, transaction
from django.db.models import Case, F, TextField, When

from ...evermuse.body import FORMATS, BodyFormat, fingerprint
from ...evermuse.errors import Untranslatable
from ...evermuse.limits import MAX_BATCH_RECORDS, MAX_BODY_BYTES
from ...evermuse.records.validation import translate
from ...models import (
    BatchState,
    OutboxBatch,
    OutboxGroup,
    OutboxRecord,
    OutboxRejection,
    OutboxWorkspace,
)
from ...models.query_hints import behind, by_id, no_jit
from ...models.record import RecordQuerySet
from ..context.context import DeliveryContext
from ..gates.group_breaker import may_probe, paused_groups
from ..scheduling.agenda import Agenda
from ..scheduling.pending import waiting_in
from ..scheduling.scheduler import Group
from .packing import Limits, pack
from .versions import supersede_and_select_sendable, supersede_duplicates, supersede_older

PAGES, GROWTH = 5, 4
"""How far behind fenced records a turn looks for others: in so many pages, of which each but the first, that is of the
records of a request, has so many times as many records as the one before, though never more than Evermuse takes."""


PROBED = 100
"""From how many of its newest records the probes of a paused group are taken."""


class PendingRecord(NamedTuple):
    """What sealing needs to know of a pending record.

    ``line`` is the payload of one that takes no more than its share of a request; a longer one is read only once it is
    packed, so that a page is never much more than a request.
    """

    pk: int
    type: str
    product_id: str
    contract: str
    size: int
    attachments: int
    line: str | None


SHARE = MAX_BODY_BYTES // MAX_BATCH_RECORDS
LINE = Case(When(size__lte=SHARE, then=F("payload")), output_field=TextField())


@dataclass(frozen=True, slots=True)
class SealedBatch:
    """A batch with the ids of its members, in order, and its body."""

    batch: OutboxBatch
    members: tuple[int, ...]
    body: bytes

    @property
    def content_type(self) -> str:
        """The body's media type."""
        return FORMATS[self.batch.body_format].content_type


def seal_next(context: DeliveryContext) -> SealedBatch | None:
    """Seals a batch of the next ready group and leases it to the caller; None when no group is ready."""
    with transaction.atomic(using=context.using):
        turn = lock_for_sealing(context)
        no_jit(context.using)
        paused = paused_groups(context)
        agenda = Agenda(context, turn, paused)
        for group in agenda.groups():
            if sealed := _seal_some(context, group, agenda, paused.get(group)):
                break
        else:
            sealed = None
        agenda.keep(sealed.batch if sealed else None)
    return sealed


def _seal_some(
    context: DeliveryContext, group: Group, agenda: Agenda, paused: OutboxGroup | None
) -> SealedBatch | None:
    return _seal_probe(context, group, paused) if paused else _seal_group(context, group, agenda)


def lock_for_sealing(context: DeliveryContext) -> OutboxWorkspace:
    """The workspace's row; nobody else seals in it until the transaction ends. Taken before anything is read, or a
    newer version could be sealed meanwhile."""
    return OutboxWorkspace.objects.using(context.using).lock_for_sealing(context.workspace_name)


def open_sealed(context: DeliveryContext, batch: OutboxBatch) -> SealedBatch:
    """A batch that was sealed before, with its body as it was then.

    Raises ``BodyChanged`` when the stored lines no longer give the bytes that were sealed.
    """
    rows = OutboxRecord.rows.using(context.using).filter(batch=batch, closed_as__isnull=True)
    lines = dict(rows.order_by("pk").values_list("pk", "payload"))
    body = FORMATS[batch.body_format].join(lines.values())
    if fingerprint(body) != batch.sha256:
        raise BodyChanged(f"the records of batch #{batch.pk} no longer give the bytes that were sealed")
    return SealedBatch(batch, tuple(lines), body)


class BodyChanged(Exception):
    """A stored line was altered or removed after sealing; the sealed bytes cannot be sent again."""


def seal_parts(
    context: DeliveryContext,
    batch: OutboxBatch,
    parts: Sequence[Sequence[int]],
    *,
    resends: int = 0,
    due_at: datetime | None = None,
) -> None:
    """The open members of ``batch`` in new batches with keys of their own.

    Versions that a newer one has overtaken are set aside instead. Call it inside the transaction that
    settles ``batch``: it takes the workspace's turn, so that nobody seals a newer version meanwhile.
    """
    lock_for_sealing(context)
    for part in parts:
        fresh = still_to_send(context, batch, part)
        while fresh:
            packed = pack(fresh, _limits(context), _format(context))
            _write_batch(context, packed, parent=batch, resends=resends, due_at=due_at)
            fresh = _left_of(fresh, packed)


def still_to_send(
    context: DeliveryContext, batch: OutboxBatch, pks: Sequence[int] | None = None
) -> list[PendingRecord]:
    """The open members of ``batch`` (those of ``pks``), in order and in today's form. Versions that a newer one has
    overtaken are set aside. Call it with the workspace's turn taken."""
    rows = OutboxRecord.rows.using(context.using).filter(batch=batch, closed_as__isnull=True)
    chosen = rows if pks is None else rows.filter(pk__in=pks)
    return _in_contract(context, supersede_older(context, _read(chosen.order_by("pk"))))


def seal_part(context: DeliveryContext, records: list[PendingRecord], parent: OutboxBatch) -> None:
    """The first of these records of ``parent``, as many as one request takes, in a batch of their own."""
    limits, body = _limits(context), _format(context)
    while len(pack(records, limits, body)) < len(records):
        records = records[: len(records) // 2]
    _write_batch(context, records, parent=parent, resends=parent.resends)


def _seal_group(context: DeliveryContext, group: Group, agenda: Agenda) -> SealedBatch | None:
    limits = _limits(context)
    seen: list[PendingRecord] = []
    ready: list[PendingRecord] = []
    for page in _pages(context, agenda.waiting(group), limits.records):
        page = _exactly(page, group)
        seen += page
        fresh = _in_contract(context, supersede_and_select_sendable(context, page))
        ready = supersede_duplicates(context, ready + fresh) if ready else fresh
        if len(ready) >= limits.records:
            break
    packed = pack(ready, limits, _format(context))
    if not packed:
        return None
    agenda.walked(group, _first_left(seen, packed).pk)
    return _write_batch(context, packed, leased=True)


def _first_left(seen: list[PendingRecord], packed: list[PendingRecord]) -> PendingRecord:
    """The first that still waits; the last where none does."""
    return next(iter(_left_of(seen, packed)), seen[-1])


def _left_of(records: list[PendingRecord], packed: list[PendingRecord]) -> list[PendingRecord]:
    taken = {record.pk for record in packed}
    return [record for record in records if record.pk not in taken]


def _seal_probe(context: DeliveryContext, group: Group, row: OutboxGroup) -> SealedBatch | None:
    """One record of a paused group, now and then and each time another one, to see whether it is still refused."""
    if not may_probe(context, row):
        return None
    newest = waiting_in(context, group).order_by("-enqueued_at", "-pk")
    start = row.probes % PROBED
    page = _read(newest[start : start + 1]) or _read(newest[:1])
    page = _exactly(page, group)
    ready = _in_contract(context, supersede_and_select_sendable(context, page))
    return _write_batch(context, ready, leased=True) if ready else None


def _pages(context: DeliveryContext, waiting: RecordQuerySet, size: int) -> Iterator[list[PendingRecord]]:
    """The first of the waiting records, locked: a request's worth, and more as long as it is asked for."""
    if connections[context.using].features.has_select_for_update_skip_locked:
        waiting = waiting.select_for_update(skip_locked=True)
    page: list[PendingRecord] = []
    for _ in range(PAGES):
        page = _read(_behind(context, waiting, page)[:size])
        yield page
        if len(page) < size:
            return
        size = min(GROWTH * size, MAX_BATCH_RECORDS)


def _exactly(page: list[PendingRecord], group: Group) -> list[PendingRecord]:
    """A database may compare without regard to case; Evermuse does not."""
    return [record for record in page if (record.type, record.product_id) == group]


def _read(rows: RecordQuerySet) -> list[PendingRecord]:
    return [PendingRecord._make(row) for row in rows.annotate(line=LINE).values_list(*PendingRecord._fields)]


def _behind(context: DeliveryContext, waiting: RecordQuerySet, page: list[PendingRecord]) -> RecordQuerySet:
    if not page:
        return waiting
    last = OutboxRecord.rows.using(context.using).only("enqueued_at").get(pk=page[-1].pk)
    return waiting.filter(behind("enqueued_at", last.enqueued_at, last.pk))


def _in_contract(context: DeliveryContext, page: list[PendingRecord]) -> list[PendingRecord]:
    """The records, those of another contract rewritten; one that cannot be said in today's is rejected."""
    wanted = context.workspace.contract
    told = (record if record.contract == wanted else _translated(context, record) for record in page)
    return [record for record in told if record]


def _translated(context: DeliveryContext, record: PendingRecord) -> PendingRecord | None:
    contract, nature = context.workspace.contract, context.settings.default_nature
    rows = OutboxRecord.rows.using(context.using)
    row = rows.filter(pk=record.pk)
    try:
        line = translate(row.values_list("payload", flat=True).get(), to=contract, default_nature=nature)
    except Untranslatable as error:
        rejection = OutboxRejection.local(record.pk, "UNTRANSLATABLE", str(error), context.clock.now())
        rows.reject([rejection])
        return None
    size = len(line.encode())
    row.update(payload=line, size=size, contract=contract)
    return record._replace(size=size, contract=contract, line=line)


def _write_batch(
    context: DeliveryContext,
    records: list[PendingRecord],
    *,
    parent: OutboxBatch | None = None,
    resends: int = 0,
    due_at: datetime | None = None,
    leased: bool = False,
) -> SealedBatch:
    """The batch row, and its id on every member. The database must agree on the number of members."""
    rows = OutboxRecord.rows.using(context.using)
    lines = _lines(context, records)
    chosen = _format_name(context, records)
    body = FORMATS[chosen].join(lines.values())
    batch = OutboxBatch(
        workspace=context.workspace_name,
        type=records[0].type,
        product_id=records[0].product_id,
        contract=context.workspace.contract,
        body_format=chosen,
        format_hint=context.settings.format_hints.get(records[0].type, ""),
        key=f"eob-{uuid.uuid4().hex}",
        sha256=fingerprint(body),
        record_count=len(lines),
        byte_count=len(body),
        attachment_count=sum(record.attachments for record in records),
        parent=parent,
        resends=resends,
        sealed_at=context.clock.now(),
        due_at=due_at or context.clock.now(),
        **(_lease(context) if leased else {}),
    )
    batch.save(using=context.using, force_insert=True)
    members = tuple(lines)
    moved = rows.move(members, parent, batch) if parent else rows.take_into(batch, members)
    if moved != len(records):
        raise SealRaced(f"{moved} of {len(records)} records could be taken into batch #{batch.pk}")
    return SealedBatch(batch, members, body)


def _lines(context: DeliveryContext, records: list[PendingRecord]) -> dict[int, str]:
    """The lines of the records in the order of their ids."""
    lines = {record.pk: record.line for record in records}
    if unread := [pk for pk, line in lines.items() if line is None]:
        rows = OutboxRecord.rows.using(context.using).filter(by_id(unread))
        lines |= dict(rows.values_list("pk", "payload"))
    return {pk: line for pk in sorted(lines) if (line := lines[pk]) is not None}


class SealRaced(Exception):
    """A record changed its state while it was being sealed; the whole sealing is rolled back."""


def _lease(context: DeliveryContext) -> dict[str, Any]:
    until = context.clock.after(context.settings.lease)
    return {"state": BatchState.SENDING, "lease_token": uuid.uuid4(), "leased_until": until}


def _limits(context: DeliveryContext) -> Limits:
    settings = context.settings
    return Limits(settings.max_batch_records, settings.max_batch_bytes, settings.max_batch_attachments)


def _format(context: DeliveryContext) -> BodyFormat:
    return FORMATS[context.settings.body_format]


def _format_name(context: DeliveryContext, records: list[PendingRecord]) -> str:
    """The format of the settings; NDJSON, the leanest, where a record of the greatest size needs it."""
    fits = _format(context).size([record.size for record in records]) <= MAX_BODY_BYTES
    return context.settings.body_format if fits else "ndjson"
