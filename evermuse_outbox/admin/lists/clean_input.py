"""Remove NUL from addresses and forms: no database of the outbox stores it, and PostgreSQL refuses it in a query."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import URLPattern

NUL = "\0"

View = Callable[..., HttpResponse]


def with_clean_input(pattern: URLPattern) -> URLPattern:
    """Return the pattern with a view that gets query, form and address without NUL."""
    pattern.callback = _with_clean_input(pattern.callback)
    return pattern


def _with_clean_input(view: View) -> View:
    @wraps(view)
    def clean(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        request.GET = _clean(request.GET)  # type: ignore[assignment]
        if request.method == "POST":
            request.POST = _clean(request.POST)  # type: ignore[assignment]
        return view(request, *args, **kwargs)

    return clean


def _clean(values: QueryDict) -> QueryDict:
    if not any(NUL in key or any(NUL in value for value in given) for key, given in values.lists()):
        return values
    cleaned = QueryDict(mutable=True)
    for key, given in values.lists():
        cleaned.setlist(key.replace(NUL, ""), [value.replace(NUL, "") for value in given])
    cleaned._mutable = False
    return cleaned
