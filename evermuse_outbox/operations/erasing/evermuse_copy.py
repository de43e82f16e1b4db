"""Tell for each record whether Evermuse has it, and by which ids Evermuse knows it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from django.db.models import F

from ...models import (
    FAILED_CODES,
    BatchState,
    ById,
    OutboxAttempt,
    OutboxBatch,
    OutboxRecord,
    OutboxRejection,
    RecordState,
    by_id,
)

LOCAL_CODES = FAILED_CODES
"""Codes of rejections that the outbox gives itself: Evermuse did not name the record."""

UNCLEAR = frozenset(("in_doubt", "lost", "accepted"))
"""Outcomes of a request after which Evermuse has the batch, or may have it."""

Rejections = list[tuple[str, int | None]]
"""The code and the batch of each rejection of a record, the oldest first."""

MAX_SUMMARY = 5
"""Requests that a summary names, the newest first."""

PAYLOADS_PER_READ = 20
"""Payloads that are in memory at once; one has 5 MB at most."""

MAX_DEPTH = 100
"""Parents of a batch that are followed. Each generation halves a batch, or sends it again."""


class AtEvermuse(StrEnum):
    """What Evermuse has of a record."""

    HAS = "has"
    MAY_HAVE = "may_have"
    REFUSED = "refused"
    NEVER_SENT = "never_sent"


@dataclass(frozen=True, slots=True)
class Request:
    """A request that contained a record: the batch, its idempotency key, and its id at Evermuse, if that is known."""

    batch: int
    key: str
    remote_id: str
    sealed_at: str


@dataclass(frozen=True, slots=True)
class Sent:
    """A batch in which a record was, and what its attempts say."""

    batch: OutboxBatch
    outcomes: frozenset[str]

    @property
    def has_request(self) -> bool:
        """Whether the batch was sent, or may have been."""
        return bool(self.outcomes) or self.batch.state == BatchState.SENDING

    @property
    def is_unclear(self) -> bool:
        """Whether Evermuse took the batch, or may have taken it."""
        batch = self.batch
        return bool(
            batch.in_doubt
            or batch.remote_id
            or batch.state in (BatchState.SENDING, BatchState.IN_DOUBT)
            or self.outcomes & UNCLEAR
        )


@dataclass(frozen=True, slots=True)
class ErasedRecord:
    """One line of the report. ``vendor_ids`` and ``event_at`` are empty if the payload was dropped before."""

    record: int
    workspace: str
    type: str
    product_id: str
    identity: str
    state: str
    at_evermuse: AtEvermuse
    requests: tuple[Request, ...]
    vendor_ids: dict[str, str] = field(default_factory=dict)
    event_at: str = ""

    def summary(self) -> str:
        """Return what Evermuse has and the ids of the requests, without a text of the record."""
        requests = (
            f"#{each.batch} {each.key} {each.remote_id}".strip() for each in self.requests[:MAX_SUMMARY]
        )
        return "; ".join([self.at_evermuse, *requests])


def describe_copies(using: str, pks: Collection[int]) -> tuple[list[ErasedRecord], set[str], set[int]]:
    """Return a line of the report for each record, the texts that identify its people, and the ids of its batches."""
    records = list(OutboxRecord.objects.using(using).filter(by_id(pks)).defer("payload").order_by("pk"))
    rejections = _rejections(using, pks)
    batches = _batches_with_parents(
        using,
        {record.batch_id for record in records if record.batch_id}
        | {batch for rows in rejections.values() for _, batch in rows if batch},
    )
    envelopes, texts = _read_envelopes(using, pks)
    lines = []
    for record in records:
        history = _history(record, rejections[record.pk], batches)
        vendor_ids, event_at = envelopes.get(record.pk, ({}, ""))
        lines.append(
            ErasedRecord(
                record=record.pk,
                workspace=record.workspace,
                type=record.type,
                product_id=record.product_id,
                identity=str(record.identity),
                state=record.state,
                at_evermuse=_decide(record, rejections[record.pk], history),
                requests=tuple(_request(sent.batch) for sent in history if sent.has_request),
                vendor_ids=vendor_ids,
                event_at=event_at,
            )
        )
    return lines, texts, set(batches)


def _decide(record: OutboxRecord, rejections: Rejections, history: list[Sent]) -> AtEvermuse:
    """Return what Evermuse has. ``history`` are the batches of the record, the newest first."""
    if record.state == RecordState.DELIVERED:
        return AtEvermuse.HAS
    if record.closed_as is None and any(sent.batch.state == BatchState.ACCEPTED for sent in history[:1]):
        return AtEvermuse.HAS
    # An error that names the record is clear about its batch, but not about a batch in which the record was later.
    code, batch_id = rejections[-1] if rejections else ("", None)
    named = batch_id if batch_id and code not in LOCAL_CODES else 0
    if any(sent.is_unclear for sent in history if sent.batch.pk > named):
        return AtEvermuse.MAY_HAVE
    return AtEvermuse.REFUSED if named or any(sent.has_request for sent in history) else AtEvermuse.NEVER_SENT


def _request(batch: OutboxBatch) -> Request:
    return Request(batch.pk, batch.key, batch.remote_id, batch.sealed_at.isoformat())


def _rejections(using: str, pks: Collection[int]) -> Mapping[int, Rejections]:
    rows = OutboxRejection.objects.using(using).filter(ById(F("record_id"), pks)).order_by("pk")
    by_record: dict[int, Rejections] = defaultdict(list)
    for record, code, batch in rows.values_list("record_id", "code", "batch_id"):
        by_record[record].append((code, batch))
    return by_record


def _batches_with_parents(using: str, pks: set[int]) -> dict[int, Sent]:
    """Return these batches, and those from which their records were moved, by id."""
    related: dict[int, OutboxBatch] = {}
    for _ in range(MAX_DEPTH):
        rows = list(OutboxBatch.objects.using(using).filter(by_id(pks))) if pks else []
        related |= {batch.pk: batch for batch in rows}
        pks = {batch.parent_id for batch in rows if batch.parent_id} - related.keys()
        if not pks:
            break
    outcomes: dict[int, set[str]] = defaultdict(set)
    attempts = OutboxAttempt.objects.using(using).filter(batch_id__in=related, call=OutboxAttempt.Call.INGEST)
    for pk, outcome in attempts.order_by().values_list("batch_id", "outcome").distinct():
        outcomes[pk].add(outcome)
    return {pk: Sent(batch, frozenset(outcomes[pk])) for pk, batch in related.items()}


def _history(record: OutboxRecord, rejections: Rejections, batches: Mapping[int, Sent]) -> list[Sent]:
    """Return the batches in which the record was, the newest first."""
    pending = {record.batch_id} | {batch for _, batch in rejections}
    history: dict[int, Sent] = {}
    while pending:
        pk = pending.pop()
        if pk is not None and pk in batches and pk not in history:
            history[pk] = batches[pk]
            pending.add(batches[pk].batch.parent_id)
    return [history[pk] for pk in sorted(history, reverse=True)]


def _read_envelopes(
    using: str, pks: Collection[int]
) -> tuple[dict[int, tuple[dict[str, str], str]], set[str]]:
    """Return vendor ids and time of each record, and all texts that identify people or the records."""
    envelopes, texts = {}, set()
    for pk, payload in _read_payloads(using, list(pks)):
        envelope = parse_envelope(payload)
        vendor_ids = envelope.get("_vendor_ids")
        vendor_ids = vendor_ids if isinstance(vendor_ids, dict) else {}
        envelopes[pk] = (vendor_ids, str(envelope.get("_event_at", "")))
        texts |= {text for text in (*vendor_ids.values(), *people_in(envelope)) if isinstance(text, str)}
    return envelopes, texts


def _read_payloads(using: str, pks: list[int]) -> Iterator[tuple[int, str]]:
    """Yield the payloads that were not dropped, a few in each query."""
    # Not iterator(): on PostgreSQL, a statement with a deadline cannot be a server-side cursor.
    rows = OutboxRecord.rows.using(using).filter(payload_sha256__isnull=True).values_list("pk", "payload")
    for start in range(0, len(pks), PAYLOADS_PER_READ):
        yield from rows.filter(by_id(pks[start : start + PAYLOADS_PER_READ]))


def parse_envelope(payload: str) -> dict[str, Any]:
    """Return the envelope of a line; an empty dict if the host has altered it so that it is none."""
    try:
        envelope = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    return envelope if isinstance(envelope, dict) else {}


def people_in(envelope: Mapping[str, Any]) -> list[str]:
    """Return ids, addresses and names of the participants."""
    participants = envelope.get("_participants")
    people = participants if isinstance(participants, list) else []
    return [
        person[key]
        for person in people
        if isinstance(person, dict)
        for key in ("id", "email", "name")
        if isinstance(person.get(key), str)
    ]
