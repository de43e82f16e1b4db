"""Find records: each kind of term uses an index, or reads a limited part of the table and says so."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.utils.formats import date_format
from django.utils.timezone import localtime
from django.utils.translation import gettext as _

from ..models import OutboxBatch, OutboxRecord, OutboxSearchProgress, OutboxTerm, PayloadHead, by_id
from .indexer import HEAD_LENGTH
from .terms import read_terms, term_hash
from .text import TextSearch, search_text

BATCH = "batch:"
"""Prefix of a term that is the id of a batch."""

NAME_END = ": "
"""Text between the name of a vendor id and the id, as lists show it: ``ticket: T-1``."""

MAX_DIGITS = 18
"""Maximum digits of an id. Every number of 18 digits fits into a 64-bit integer, so each database can compare it."""

MAX_BATCHES = 100
"""Maximum number of batches with the same id of Evermuse that a search includes."""

MAX_FOUND = 10_000
"""Maximum number of records that a term finds: as many as the pages of a list show."""

MAX_CHECKED = 1_000
"""Maximum number of records that contain a term as text and are parsed, to see whether it is a term of theirs."""

MAX_EXPANDED = 100
"""Maximum number of found records whose other versions are found, too."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The records that match a term, and sentences about what was searched.

    ``is_partial`` means that there may be others.
    """

    rows: Any
    notes: tuple[str, ...] = ()
    is_partial: bool = False


def find_records(rows: Any, term: str, *, scope: Any = None, may_search_text: bool = True) -> SearchResult:
    """Return the records among ``rows`` that match ``term``.

    ``#12`` is a record and ``batch:12`` a batch. A number, a UUID or the id of a batch at Evermuse is looked up as
    such. They and all other terms are also looked up as a vendor id, a thread id and a participant. A term in double
    quotes, and a term that is not found, is searched as text in the payloads of the newest records.

    Args:
        rows: the records that may be found.
        term: what the person has entered.
        scope: the records in which text is searched, in an order that an index serves; the newest of all by default.
        may_search_text: whether the person may know what is in the payloads.
    """
    term = term.strip().replace("\0", "")
    if not term:
        return SearchResult(rows)
    if term.startswith("#") and term[1:].isdecimal():
        return SearchResult(rows.filter(pk=parse_id(term[1:])))
    number = term.removeprefix(BATCH).strip()
    if term.startswith(BATCH) and number.isdecimal():
        return SearchResult(rows.filter(batch=parse_id(number)))
    scope = OutboxRecord.rows.using(rows.db).order_by("-pk") if scope is None else scope
    if len(term) > 2 and term[0] == term[-1] == '"':
        return _with_text(rows, term[1:-1], scope, may_search_text)
    return _with_name(rows, term, scope, may_search_text)


def parse_id(text: str) -> int:
    """Return the id in ``text``; 0, which no row has, if it is not a number or too long for a database."""
    return int(text) if text.isdecimal() and len(text) <= MAX_DIGITS else 0


def _with_name(rows: Any, term: str, scope: Any, may_search_text: bool) -> SearchResult:
    if batches := _batches_at_evermuse(rows, term):
        return SearchResult(rows.filter(batch__in=batches))
    table = OutboxRecord.rows.using(rows.db)
    ids = set(_with_id(table, term))
    indexed = _with_term(table, term)
    unindexed, searched = _not_indexed(table, term)
    ids.update(indexed, unindexed)
    if not ids:
        return _with_text(rows, term, scope, may_search_text)
    notes = [] if searched.is_complete else [_describe_gap(searched)]
    if len(indexed) == MAX_FOUND:
        notes.append(
            _("Only the newest %(count)s records with this term are found.") % {"count": f"{MAX_FOUND:,}"}
        )
    return SearchResult(rows.filter(by_id(sorted(ids))), tuple(notes), is_partial=bool(notes))


def _with_id(table: Any, term: str) -> Iterable[int]:
    """Return the record with this number, or all versions of this identity."""
    if term.isdecimal():
        return _ids(table.filter(pk=parse_id(term)))
    try:
        return _ids(table.filter(identity=uuid.UUID(term)))
    except ValueError:
        return ()


def _with_term(table: Any, term: str) -> list[int]:
    """Return the newest records with a term in the search index, and all versions of them if they are few."""
    terms = OutboxTerm.objects.using(table.db).filter(term__in=_hashes(term))
    pks = list(terms.order_by("-record_id").values_list("record_id", flat=True)[:MAX_FOUND])
    if not 0 < len(pks) <= MAX_EXPANDED:
        return pks
    identities = set(table.filter(by_id(pks)).values_list("identity", flat=True))
    return _ids(table.filter(identity__in=identities))


def _not_indexed(table: Any, term: str) -> tuple[list[int], TextSearch]:
    """Return the records with a term among those that are not in the index yet, and which of these were searched."""
    progress = OutboxSearchProgress.objects.using(table.db).first()
    rest = table.filter(pk__gt=progress.indexed_to if progress else 0)
    searched = search_text(table, term.partition(NAME_END)[2] or term, rest.order_by("-pk"))
    heads = table.filter(by_id(searched.matches[:MAX_CHECKED])).annotate(head=PayloadHead(HEAD_LENGTH))
    wanted = _hashes(term)
    return [pk for pk, head in heads.values_list("pk", "head") if wanted & read_terms(head or "")], searched


def _hashes(term: str) -> set[int]:
    """Return the hashes of a term, and of its part after the name of a vendor id."""
    return {term_hash(text) for text in (term, term.partition(NAME_END)[2]) if text}


def _with_text(rows: Any, text: str, scope: Any, may_search_text: bool) -> SearchResult:
    if not may_search_text:
        return SearchResult(
            rows.none(), (_("Text in payloads was not searched: that needs the permission to view them."),)
        )
    searched = search_text(rows, text, scope)
    matches = rows.filter(by_id(searched.matches[:MAX_FOUND]))
    note = _describe_search(searched)
    return SearchResult(matches, (note,) if note else (), is_partial=not searched.is_complete)


def _describe_search(searched: TextSearch) -> str:
    newest, oldest = searched.newest, searched.oldest
    if newest is None or oldest is None:
        return ""
    values = {
        "count": f"{searched.records:,}",
        "megabytes": f"{searched.size / 1e6:.1f}",
        "first": oldest.pk,
        "last": newest.pk,
        "since": _format(oldest.enqueued_at),
        "until": _format(newest.enqueued_at),
    }
    text = _(
        "Text was searched in the payloads of %(count)s records (%(megabytes)s MB), from #%(first)s, enqueued at "
        "%(since)s, to #%(last)s, enqueued at %(until)s."
    )
    if searched.is_complete:
        return text % values
    return " ".join(
        [
            _("This result is partial."),
            text % values,
            _("Older records were not searched: filter by time or state, or enter a complete vendor id."),
        ]
    )


def _describe_gap(searched: TextSearch) -> str:
    """Return a sentence about the records that are neither in the index nor searched."""
    oldest = searched.oldest
    assert oldest is not None
    return _(
        "This result is partial. The search index does not have all records yet: of those that it has not reached, "
        "only the newest %(count)s were searched, from #%(first)s on."
    ) % {"count": f"{searched.records:,}", "first": oldest.pk}


def _format(at: Any) -> str:
    return date_format(localtime(at) if at.tzinfo else at, "Y-m-d H:i:s")


def _batches_at_evermuse(rows: Any, term: str) -> list[int]:
    batches = OutboxBatch.objects.using(rows.db).filter(remote_id=term)
    return list(batches.order_by("-pk").values_list("pk", flat=True)[:MAX_BATCHES])


def _ids(rows: Any) -> list[int]:
    return list(rows.order_by("-pk").values_list("pk", flat=True)[:MAX_FOUND])
