"""The search field of the list of records: which records a search of text reads, and what the page says about it."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from ...models import OutboxRecord
from ...search import SearchResult, find_records
from .filters import BatchFilter, RecordStateFilter
from .inputs import TimeFilter

_RESULT = "_evermuse_search_result"
"""Attribute of a request with the result of its search."""


def search_records(request: HttpRequest, rows: Any, term: str, *, may_search_text: bool) -> Any:
    """Return the records among ``rows`` that match ``term``; see :func:`find_records`."""
    scope = _scope(request, rows)
    result = find_records(rows, term, scope=scope, may_search_text=may_search_text)
    setattr(request, _RESULT, result)
    return result.rows


def search_result(request: HttpRequest) -> SearchResult | None:
    """Return the result of the request's search, with sentences for the page; None without a search."""
    return getattr(request, _RESULT, None)


def _scope(request: HttpRequest, rows: Any) -> Any:
    """Return the records in which text is searched, the newest first: those of the filters, if an index finds them.

    Otherwise the newest of all records, because the search would look for others in the complete table.
    """
    if RecordStateFilter.is_closed(request):
        return rows.order_by("-closed_as", "-pk")
    if request.GET.get(BatchFilter.parameter_name) or TimeFilter.is_used(request):
        return rows.order_by("-pk")
    return OutboxRecord.rows.using(rows.db).order_by("-pk")
