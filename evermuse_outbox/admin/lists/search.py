"""What a person may type into the search of records, each kind answered by an index or within a bound."""

from __future__ import annotations

import json
import uuid
from typing import Any

from django.db.models import Q

from ...models import OutboxBatch

NEWEST = 20_000
"""Records in whose payloads text is looked for: the newest ones, for no index serves that."""

BATCH = "batch:"
MAX_DIGITS = 18
MAX_BATCHES = 100


def search_records(rows: Any, term: str) -> Any:
    """The records among ``rows`` that ``term`` means.

    A number is a record, ``batch:12`` a batch, a UUID an identity, a batch id of Evermuse that batch;
    everything else, and whatever stands in double quotes, is text in the payload of the newest records.
    """
    term = term.strip().replace("\0", "")
    if not term:
        return rows
    if term.isdecimal():
        return rows.filter(pk=as_id(term))
    number = term.removeprefix(BATCH).strip()
    if term.startswith(BATCH) and number.isdecimal():
        return rows.filter(batch=as_id(number))
    if len(term) > 2 and term[0] == term[-1] == '"':
        return _with_text(rows, term[1:-1])
    return _named(rows, term)


def as_id(text: str) -> int:
    """The id that ``text`` spells; 0, which no row has, where it spells none that a database could hold."""
    return int(text) if text.isdecimal() and len(text) <= MAX_DIGITS else 0


def _named(rows: Any, term: str) -> Any:
    batches = _batches_at_evermuse(rows, term)
    if batches:
        return rows.filter(batch__in=batches)
    identity = _as_uuid(term)
    return rows.filter(identity=identity) if identity else _with_text(rows, term)


def _batches_at_evermuse(rows: Any, term: str) -> list[int]:
    found = OutboxBatch.objects.using(rows.db).filter(remote_id=term)
    return list(found.order_by("-pk").values_list("pk", flat=True)[:MAX_BATCHES])


def _as_uuid(term: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(term)
    except ValueError:
        return None


def _with_text(rows: Any, text: str) -> Any:
    found = Q(payload__icontains=text)
    # A quote or a line end stands escaped in the JSON.
    escaped = json.dumps(text, ensure_ascii=False)[1:-1]
    if escaped != text:
        found |= Q(payload__icontains=escaped)
    return rows.filter(found, pk__gte=_first_of_newest(rows))


def _first_of_newest(rows: Any) -> int:
    pks = rows.model.rows.using(rows.db).order_by("-pk").values_list("pk", flat=True)
    return next(iter(pks[NEWEST - 1 : NEWEST]), 0)
