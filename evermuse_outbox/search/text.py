"""Search text in the payloads of the newest records, with an upper limit of records, bytes and time.

No index serves this search, so each payload is read. The records are read in small parts. So no statement takes long,
and the search can stop between two of them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from django.db.models import Q

from ..encryption import PREFIX, is_on
from ..models import by_id

MAX_RECORDS = 20_000
"""Maximum number of records in one search."""

MAX_BYTES = 64_000_000
"""Maximum bytes of payloads in one search. PostgreSQL reads about 50 MB of them in a second."""

MAX_SECONDS = 3.0
"""Seconds after which a search begins no further part."""

RECORDS_PER_PART = 1_000
"""Maximum number of records in one statement."""

BYTES_PER_PART = 4_000_000
"""Bytes of payloads in one statement, at most, or one payload."""


class Row(NamedTuple):
    """A record that is searched, without its payload."""

    pk: int
    size: int
    enqueued_at: datetime


@dataclass(slots=True)
class TextSearch:
    """The result of a search: the ids of the matches, and what was searched.

    ``is_complete`` means that no record is left that was not searched.
    """

    matches: list[int] = field(default_factory=list)
    records: int = 0
    size: int = 0
    newest: Row | None = None
    oldest: Row | None = None
    is_complete: bool = False

    def is_over(self, seconds: float) -> bool:
        """Return whether one of the limits is reached."""
        return self.records >= MAX_RECORDS or self.size >= MAX_BYTES or seconds >= MAX_SECONDS

    def add(self, part: list[Row], matches: list[int]) -> None:
        """Add the result of a part."""
        self.newest = self.newest or part[0]
        self.oldest = part[-1]
        self.records += len(part)
        self.size += sum(row.size for row in part)
        self.matches += matches


def search_text(
    rows: Any, text: str, scope: Any, monotonic: Callable[[], float] = time.monotonic
) -> TextSearch:
    """Return the records among ``rows`` whose payload contains ``text``.

    Args:
        rows: the records that may be found.
        text: the text; case does not matter.
        scope: the records to read, the newest first. An index must serve this order.
        monotonic: a clock that counts seconds.
    """
    started, result, condition = monotonic(), TextSearch(), contains(text)
    is_last = False
    while not is_last and not result.is_over(monotonic() - started):
        page, is_last = _read_page(scope, result)
        for part in _parts(page):
            if result.records and result.is_over(monotonic() - started):
                return result
            candidates = rows.filter(by_id([row.pk for row in part])).order_by("-pk")
            ids = list(candidates.filter(condition).values_list("pk", flat=True))
            result.add(part, ids + (_in_encrypted(candidates, text) if is_on() else []))
    result.is_complete = is_last
    return result


def _in_encrypted(rows: Any, text: str) -> list[int]:
    """Return the records whose encrypted line contains the text. The database cannot look into these."""
    wanted = {form.casefold() for form in (text, json.dumps(text, ensure_ascii=False)[1:-1])}
    lines = rows.filter(payload__startswith=PREFIX).values_list("pk", "payload")
    return [pk for pk, line in lines if any(form in line.casefold() for form in wanted)]


def contains(text: str) -> Q:
    """Return the condition that a payload contains a text."""
    condition = Q(payload__icontains=text)
    # JSON escapes quotes and line breaks, so the payload contains the escaped text.
    escaped = json.dumps(text, ensure_ascii=False)[1:-1]
    return condition | Q(payload__icontains=escaped) if escaped != text else condition


def _read_page(scope: Any, result: TextSearch) -> tuple[list[Row], bool]:
    """Return the next records, and whether no others follow."""
    rest = scope.filter(pk__lt=result.oldest.pk) if result.oldest else scope
    count = min(RECORDS_PER_PART, MAX_RECORDS - result.records)
    page = [Row._make(row) for row in rest.values_list(*Row._fields)[: count + 1]]
    return page[:count], len(page) <= count


def _parts(page: list[Row]) -> Iterator[list[Row]]:
    """Yield neighbours together, up to ``BYTES_PER_PART``."""
    part: list[Row] = []
    size = 0
    for row in page:
        if part and size + row.size > BYTES_PER_PART:
            yield part
            part, size = [], 0
        part.append(row)
        size += row.size
    if part:
        yield part
