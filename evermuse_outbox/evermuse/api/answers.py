"""An HTTP answer, and readers for its JSON. Pure; every value is checked, because a proxy may have written it."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...foreign_text import clean_text, is_clean
from .. import limits

MAX_PARSED_ERRORS = 1_000
"""Maximum number of entries that are read from one list of errors: one for each record of the largest batch."""


MAX_VALUES = 100_000
"""Maximum number of values in an answer. The largest documented one has about 8,000: 100 batches with 20 errors each.
A value of 3 bytes becomes a Python object of about 70."""

_TOKENS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?+|([\[{,])', re.DOTALL)
"""A string, or a character that begins another value."""


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Answer:
    """An answer: its HTTP status, its body, and the seconds from the start of the request to the end of the body."""

    status: int
    body: bytes = field(repr=False)
    seconds: float


@dataclass(frozen=True, slots=True)
class RecordError:
    """One error about the record at ``index`` (from 0) of the request."""

    index: int
    code: str
    message: str


def parse_object(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object in ``body``, or None if ``body`` is not a JSON object or has too many values."""
    if _has_too_many_values(body):
        return None
    try:
        value = json.loads(body.decode("utf-8-sig", "surrogatepass"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def parse_text(value: Any, max_length: int) -> str:
    """Return ``value`` as one line that passed the gate for foreign text; "" if it is not text."""
    return clean_text(value, max_length) if isinstance(value, str) else ""


def parse_record_errors(fields: Mapping[str, Any], max_index: int | None = None) -> tuple[RecordError, ...]:
    """Return the errors about single records, without those at an index of ``max_index`` or more.

    Three places are read in this order, and the first list with a usable error counts: ``errors``, ``details`` and the
    values inside ``details``. The text of the OpenAPI document names ``errors``; its schema has only ``details``.

    Args:
        fields: The JSON object of an answer.
        max_index: Number of records in the request, or None if it is unknown.
    """
    for entries in _candidate_lists(fields):
        parsed = filter(None, map(_parse_record_error, entries[:MAX_PARSED_ERRORS]))
        if errors := tuple(error for error in parsed if max_index is None or error.index < max_index):
            return errors
    return ()


def is_count(value: Any) -> bool:
    """Return whether ``value`` is a whole number that fits a signed 32-bit column, 0 or more."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def is_batch_id(value: Any) -> bool:
    """Return whether ``value`` can be stored and sent as the id of a batch at Evermuse."""
    return is_token(value, limits.MAX_BATCH_ID)


def is_token(value: Any, max_length: int) -> bool:
    """Return whether ``value`` is a text that can be stored and sent back exactly as it came."""
    return isinstance(value, str) and 0 < len(value) <= max_length and is_clean(value)


def _has_too_many_values(body: bytes) -> bool:
    if sum(map(body.count, (b",", b"[", b"{"))) <= MAX_VALUES:
        return False
    # Some of these characters may be in texts.
    starts = (token for token in _TOKENS.finditer(body) if token.lastindex)
    return next(itertools.islice(starts, MAX_VALUES, None), None) is not None


def _candidate_lists(fields: Mapping[str, Any]) -> Iterator[list[Any]]:
    details = fields.get("details")
    within = details.values() if isinstance(details, Mapping) else ()
    return (value for value in (fields.get("errors"), details, *within) if isinstance(value, list))


def _parse_record_error(entry: Any) -> RecordError | None:
    if not isinstance(entry, Mapping) or not is_count(entry.get("index")):
        return None
    return RecordError(
        entry["index"],
        parse_text(entry.get("code"), limits.MAX_ERROR_CODE) or "REJECTED",
        parse_text(entry.get("message"), limits.MAX_ERROR_MESSAGE) or "Evermuse gave no message.",
    )
