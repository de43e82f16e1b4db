"""The search of records: each kind of search term uses an index or reads a limited number of rows."""

from __future__ import annotations

import json
import uuid
from typing import Any

from django.db.models import Q

from ...models import OutboxBatch

MAX_SCANNED = 20_000
"""Maximum number of payloads in which text is searched: those of the newest records. No index serves this search."""

BATCH = "batch:"
"""Prefix of a search term that is the id of a batch."""

MAX_DIGITS = 18
"""Maximum digits of an id. Every number of 18 digits fits into a 64-bit integer, so each database can compare it."""

MAX_BATCHES = 100
"""Maximum number of batches with the same id of Evermuse that a search includes."""


def search_records(rows: Any, term: str) -> Any:
    """Return the records among ``rows`` that match ``term``.

    A number is the id of a record, ``batch:12`` is a batch, and a UUID is an identity. The id of a batch at Evermuse
    matches the records of that batch. Any other term, and any term in double quotes, is searched as text in the
    payloads of the newest records.
    """
    term = term.strip().replace("\0", "")
    if not term:
        return rows
    if term.isdecimal():
        return rows.filter(pk=parse_id(term))
    number = term.removeprefix(BATCH).strip()
    if term.startswith(BATCH) and number.isdecimal():
        return rows.filter(batch=parse_id(number))
    if len(term) > 2 and term[0] == term[-1] == '"':
        return _with_text(rows, term[1:-1])
    return _with_name(rows, term)


def parse_id(text: str) -> int:
    """Return the id in ``text``; 0, which no row has, if it is not a number or too long for a database."""
    return int(text) if text.isdecimal() and len(text) <= MAX_DIGITS else 0


def _with_name(rows: Any, term: str) -> Any:
    """Return the records of a batch with that id at Evermuse, else of that identity, else with that text."""
    batches = _batches_at_evermuse(rows, term)
    if batches:
        return rows.filter(batch__in=batches)
    identity = _parse_uuid(term)
    return rows.filter(identity=identity) if identity else _with_text(rows, term)


def _batches_at_evermuse(rows: Any, term: str) -> list[int]:
    batches = OutboxBatch.objects.using(rows.db).filter(remote_id=term)
    return list(batches.order_by("-pk").values_list("pk", flat=True)[:MAX_BATCHES])


def _parse_uuid(term: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(term)
    except ValueError:
        return None


def _with_text(rows: Any, text: str) -> Any:
    matches = Q(payload__icontains=text)
    # JSON escapes quotes and line breaks, so the payload contains the escaped text.
    escaped = json.dumps(text, ensure_ascii=False)[1:-1]
    if escaped != text:
        matches |= Q(payload__icontains=escaped)
    return rows.filter(matches, pk__gte=_first_scanned_id(rows))


def _first_scanned_id(rows: Any) -> int:
    ids = rows.model.rows.using(rows.db).order_by("-pk").values_list("pk", flat=True)
    return next(iter(ids[MAX_SCANNED - 1 : MAX_SCANNED]), 0)
