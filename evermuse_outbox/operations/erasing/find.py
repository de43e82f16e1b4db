"""Find the records to erase, in a table of any length with little memory: the oldest first.

A participant or a vendor id is found by the search index, as far as it is filled and verified. The rest of the table is
scanned in windows of ids, because an erasure must be complete: the database selects the lines that contain the text,
and only these are read and parsed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Max, Min, Q
from django.db.models.functions import Lower
from django.db.models.lookups import Contains

from ...encryption import PREFIX
from ...models import OutboxRecord, OutboxSearchProgress, OutboxTerm, RecordQuerySet, by_id, raise_if_waiting
from ...search import term_hash
from .erase import with_versions
from .evermuse_copy import PAYLOADS_PER_READ, parse_envelope
from .forget import mask

ROWS_PER_WINDOW = 5_000
"""Records that one query examines."""

RECORDS_PER_PAGE = 200
"""Records that are returned together."""

SEARCHABLE = re.compile(r"""[^"\\\x00-\x1f\x7f-\U0010ffff]{3,}""")
"""A part of a text that stands in JSON as it is, and whose case every database ignores."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which records to erase: those that meet all of the conditions that are set, and their other versions.

    Attributes:
        ids: ids of records.
        identity: the identity of a record.
        participant: id or e-mail address of a participant; case does not matter.
        vendor_id: a value of ``_vendor_ids``.
        text: a text anywhere in the payload; case does not matter.
        workspace: name of the workspace.
        type: the ``_type``.
        product_id: the ``_product_id``.
        state: a value of :class:`~evermuse_outbox.models.RecordState`.
        enqueued_from: records enqueued at this time or later.
        enqueued_before: records enqueued before this time.
    """

    ids: tuple[int, ...] = ()
    identity: UUID | None = None
    participant: str = ""
    vendor_id: str = ""
    text: str = ""
    workspace: str = ""
    type: str = ""
    product_id: str = ""
    state: str = ""
    enqueued_from: datetime | None = None
    enqueued_before: datetime | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no condition is set, so that it would select all records."""
        return not any(getattr(self, field.name) for field in fields(self))

    @property
    def personal(self) -> dict[str, str]:
        """The conditions on the payload: texts that must not be stored anywhere."""
        names = ("participant", "vendor_id", "text")
        return {name: value for name in names if (value := getattr(self, name).strip())}

    def __str__(self) -> str:
        """Describe the selection without personal data, for the action log."""
        shown = [mask(name.replace("_", " "), value) for name, value in self.personal.items()]
        for item in fields(self):
            value = getattr(self, item.name)
            if value and item.name not in self.personal:
                text = f"{len(value)} ids" if item.name == "ids" and len(value) > 10 else str(value)
                shown.append(f"{item.name.replace('_', ' ')} {text}")
        return ", ".join(shown)

    def matches(self, payload: str) -> bool:
        """Return whether a line meets the conditions on the payload."""
        if self.text and not _contains(payload, self.text):
            return False
        envelope = parse_envelope(payload)
        if not envelope:  # no JSON: a host has altered it. Better erase too much of it than too little
            return all(_contains(payload, value) for value in self.personal.values())
        if self.participant and self.participant.strip().casefold() not in _participants(envelope):
            return False
        return not self.vendor_id or self.vendor_id.strip() in _vendor_ids(envelope)


class MatchPage(NamedTuple):
    """Ids of records, and how far the search has come: ``position`` of ``last``, both ids of records."""

    pks: list[int]
    position: int
    last: int


@dataclass(slots=True)
class _Search:
    """A search up to the newest record at its start."""

    using: str
    selection: Selection
    uses_index: bool = True
    seen: set[int] = field(default_factory=set)
    """Versions that were returned with another record."""

    def pages(self) -> Iterator[MatchPage]:
        ends = OutboxRecord.rows.using(self.using).aggregate(first=Min("pk"), last=Max("pk"))
        first, last = ends["first"] or 1, ends["last"] or 0
        covered = min(self._indexed_to(), last)
        yield from self._indexed(covered, last)
        yield from self._scanned(max(first - 1, covered), last)

    def _indexed_to(self) -> int:
        """Return up to which id the search index has all records; 0 if it cannot be used."""
        if not self.uses_index or not self._terms():
            return 0
        progress = OutboxSearchProgress.objects.using(self.using).first()
        return progress.verified_to if progress else 0

    def _indexed(self, covered: int, last: int) -> Iterator[MatchPage]:
        """Yield the records that the search index names."""
        after = 0
        while after < covered and (pks := self._with_terms(after, covered)):
            after = pks[-1]
            yield MatchPage(self._expand(self._verify(self._filtered().filter(by_id(pks)))), after, last)

    def _scanned(self, after: int, last: int) -> Iterator[MatchPage]:
        """Yield the records that are found without the index."""
        ids = OutboxRecord.rows.using(self.using).order_by("pk").values_list("pk", flat=True)
        while after < last:
            window = ids.filter(pk__gt=after, pk__lte=last)
            end = next(iter(window[ROWS_PER_WINDOW - 1 : ROWS_PER_WINDOW]), last)
            for page in self._in_window(after, end):
                yield MatchPage(self._expand(page), page[-1], last)
            yield MatchPage([], end, last)
            after = end

    def _in_window(self, after: int, end: int) -> Iterator[list[int]]:
        rows = self._filtered().filter(pk__gt=after, pk__lte=end)
        if self.selection.personal:
            matching = self._verify(_with_texts(rows, self.selection.personal.values()))
            matching += self._dropped(after, end)
        else:
            matching = list(rows.order_by("pk").values_list("pk", flat=True))
        for start in range(0, len(matching), RECORDS_PER_PAGE):
            yield matching[start : start + RECORDS_PER_PAGE]

    def _dropped(self, after: int, end: int) -> list[int]:
        """Return the records of a window that have no payload any more, but terms in the search index."""
        matching: list[int] = []
        while self._terms() and (pks := self._with_terms(after, end)):
            after = pks[-1]
            rows = self._filtered().filter(by_id(pks), payload_sha256__isnull=False)
            matching += self._verify(rows)
        return matching

    def _terms(self) -> list[int]:
        """Return the hashes by which the search index finds the records."""
        return [term_hash(value) for value in (self.selection.vendor_id, self.selection.participant) if value]

    def _with_terms(self, after: int, end: int) -> list[int]:
        """Return the next records after an id that have all terms."""
        first, *others = self._terms()
        rows = OutboxTerm.objects.using(self.using)
        while True:
            ids = rows.filter(term=first, record_id__gt=after, record_id__lte=end).order_by("record_id")
            page = list(ids.values_list("record_id", flat=True)[:RECORDS_PER_PAGE])
            matching = set(page)
            for term in others:
                also = rows.filter(term=term, record_id__in=matching).values_list("record_id", flat=True)
                matching &= set(also)
            if matching or not page:
                return sorted(matching)
            after = page[-1]

    def _verify(self, rows: RecordQuerySet) -> list[int]:
        """Return those of the records whose payload meets the conditions. A dropped payload has only terms."""
        pks = list(rows.order_by("pk").values_list("pk", flat=True))
        # Not iterator(): on PostgreSQL, a statement with a deadline cannot be a server-side cursor.
        lines = (
            OutboxRecord.rows.using(self.using).order_by("pk").values_list("pk", "payload", "payload_sha256")
        )
        matching = []
        for start in range(0, len(pks), PAYLOADS_PER_READ):
            for pk, payload, dropped in lines.filter(by_id(pks[start : start + PAYLOADS_PER_READ])):
                raise_if_waiting([payload])  # an erasure must be complete
                if not self.selection.text if dropped else self.selection.matches(payload):
                    matching.append(pk)
        return matching

    def _filtered(self) -> RecordQuerySet:
        rows = OutboxRecord.rows.using(self.using)
        if self.selection.state:
            rows = rows.in_state(self.selection.state)
        return rows.filter(_conditions(self.selection))

    def by_id(self) -> Iterator[MatchPage]:
        """Yield the records of an identity, or with these ids, that meet the other conditions, too."""
        pks = list(self.selection.ids)
        for start in range(0, len(pks), RECORDS_PER_PAGE) if pks else range(1):
            chosen = Q(pk__in=pks[start : start + RECORDS_PER_PAGE]) if pks else Q()
            rows = self._filtered().filter(chosen)
            matching = (
                self._verify(rows) if self.selection.personal else sorted(rows.values_list("pk", flat=True))
            )
            yield MatchPage(self._expand(matching), start, len(pks))

    def _expand(self, page: list[int]) -> list[int]:
        """Return the records of a page that were not returned yet, with their other versions."""
        new = [pk for pk in page if pk not in self.seen]
        if not new:
            return []
        versions = [pk for pk in with_versions(self.using, new) if pk not in self.seen]
        self.seen |= set(versions).difference(page)
        return versions


def find_records(using: str, selection: Selection, *, uses_index: bool = True) -> Iterator[MatchPage]:
    """Yield the ids of the records that ``selection`` means and of their other versions, page by page.

    Each id is returned once. Records that are enqueued meanwhile are not found.

    Args:
        using: database alias.
        selection: the conditions.
        uses_index: False to scan all payloads, also those that the search index has.

    Raises:
        ValueError: The selection is empty.
    """
    if selection.is_empty:
        raise ValueError("an empty selection means all records")
    search = _Search(using, selection, uses_index)
    return search.by_id() if selection.identity or selection.ids else search.pages()


def _with_texts(rows: RecordQuerySet, texts: Iterable[str]) -> RecordQuerySet:
    """Return the records whose payload contains the texts, as far as the database can tell: encrypted ones, too."""
    for text in texts:
        if parts := SEARCHABLE.findall(text):
            part = max(parts, key=len).lower()
            # Not icontains: on MySQL and MariaDB, it would follow the collation of the column.
            rows = rows.filter(Q(Contains(Lower("payload"), part)) | Q(payload__startswith=PREFIX))
    return rows


def _conditions(selection: Selection) -> Q:
    columns = {
        "identity": selection.identity,
        "workspace": selection.workspace,
        "type": selection.type,
        "product_id": selection.product_id,
        "enqueued_at__gte": selection.enqueued_from,
        "enqueued_at__lt": selection.enqueued_before,
    }
    return Q(**{name: value for name, value in columns.items() if value})


def _contains(payload: str, text: str) -> bool:
    return text.strip().casefold() in payload.casefold() or _escaped(text) in payload.casefold()


def _escaped(text: str) -> str:
    """Return a text as it stands in JSON."""
    return json.dumps(text.strip(), ensure_ascii=False)[1:-1].casefold()


def _participants(envelope: Mapping[str, Any]) -> set[str]:
    people = envelope.get("_participants")
    return {
        str(person[key]).strip().casefold()
        for person in (people if isinstance(people, list) else [])
        if isinstance(person, dict)
        for key in ("id", "email")
        if person.get(key)
    }


def _vendor_ids(envelope: Mapping[str, Any]) -> set[str]:
    vendor_ids = envelope.get("_vendor_ids")
    return {str(value).strip() for value in vendor_ids.values()} if isinstance(vendor_ids, dict) else set()
