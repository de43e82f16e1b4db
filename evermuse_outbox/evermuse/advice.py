"""Say what to do about the usual mistakes in a record. Pure.

The rules decide what is an error. These functions only choose the words, so they may guess what is meant.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import is_dataclass
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from ..foreign_text import type_name

_LONGEST_NAME = 64  # characters; a longer text is no misspelled name, and the search takes quadratic time

_MEANT: dict[str, tuple[str, ...]] = {
    # Roles and types of participants; a word can mean either
    "agent": ("internal", "workspace_member"),
    "assistant": ("internal", "bot"),
    "employee": ("internal", "workspace_member"),
    "staff": ("internal", "workspace_member"),
    "support": ("internal", "workspace_member"),
    "team": ("internal", "workspace_member"),
    "client": ("external", "contact"),
    "customer": ("external", "contact"),
    "guest": ("external", "contact"),
    "lead": ("external", "contact"),
    "prospect": ("external", "contact"),
    "human": ("user",),
    "person": ("user",),
    # Types of records
    "chat": ("conversation",),
    "ticket": ("conversation",),
    "thread": ("conversation",),
    "comment": ("message",),
    "feedback": ("message",),
    "review": ("message",),
    "sms": ("message",),
    "mail": ("email",),
    "meeting": ("meeting_notes",),
    "notes": ("meeting_notes",),
    "transcript": ("call_transcription",),
    # Types of attachments
    "application/pdf": ("file",),
    "document": ("document", "file"),
    "pdf": ("file",),
    # Fields
    "content_type": ("mime_type",),
    "date": ("_event_at",),
    "name": ("name", "filename"),
    "timestamp": ("_event_at",),
    "url": ("vendor_url",),
}
"""Words that are no values or fields of Evermuse, and what they may mean."""


def suggest(value: str, known: Collection[str]) -> str:
    """Return a question with the name that a text may mean, with a leading space; empty if there is none."""
    if len(value) > _LONGEST_NAME:
        return ""
    word = value.lower()
    meant = [name for name in _MEANT.get(word, ()) if name in known]
    from difflib import get_close_matches  # late, because each process of the host imports this module

    matches = meant or get_close_matches(word, list(known), n=1)
    return f" Did you mean {matches[0]}?" if matches else ""


def describe_unknown_field(name: str, value: Any, known: Collection[str]) -> str:
    """Return what to do about a field that does not exist."""
    if name == "records" and isinstance(value, list | tuple):
        return "No such field. Give the list to enqueue_many: it writes the body of the request."
    suggestion = suggest(name, known)
    return f"No such field.{suggestion or ' Fields of your application belong in data.'}"


def describe_unknown_value(value: Any, known: Collection[str]) -> str:
    """Return what to do about a value that is none of the known ones."""
    if not isinstance(value, str):
        return "Not one of the known values."
    suggestion = suggest(value, known)
    if "internal" in known:
        return f"Not a role.{suggestion} {_ROLES}"
    return f"Not one of the known values.{suggestion}"


def describe_non_record(value: Any, names: Iterable[str]) -> str:
    """Return what to do about a value that is no record at all. ``names`` are the fields of a record."""
    if isinstance(value, str) and value in set(names):
        return "The name of a field: to iterate over a mapping gives its names. Call enqueue for a single record."
    if isinstance(value, str | bytes | bytearray):
        return "JSON text is not read: use json.loads(value)."
    if _is_model(type(value)):
        return "A model, not a record: write a mapping, or describe the model with model_records.record_of."
    if isinstance(value, type):
        return "A class, not an instance of it."
    if isinstance(value, list | tuple) or _is_queryset(type(value)):
        return "Several values, not a record: use enqueue_many, with a mapping for each record."
    if hasattr(type(value), "model_dump") or is_dataclass(value):
        return f"Not a record. {_conversion_of(type(value)).capitalize()}"
    return "Not a record."


def describe_single(value: Any) -> str:
    """Return what to do about a single record, or JSON text, in place of several records."""
    if isinstance(value, str | bytes):
        return "JSON text is not read: use json.loads(value), or json.loads(line) for each line of NDJSON."
    return "One record, not several: use enqueue, or write [value]."


def describe_non_text(value: Any) -> str:
    """Return what to do about a value that is not text."""
    if value is None:
        return "None is not text: leave it out."
    if isinstance(value, bool | int | float):
        return "Not text: write str(value). Values are not converted automatically."
    return "Not text. Values are not converted automatically."


def describe_non_list(value: Any) -> str:
    """Return what to do about a value that is not a list."""
    if isinstance(value, str):
        return "Text, not a list: write [value], or value.split(',') if it has several."
    return "Not a list: write [value]." if isinstance(value, Mapping) else "Not a list."


def describe_non_mapping(value: Any) -> str:
    """Return what to do about a value that is not a mapping."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        return "JSON text, not a mapping: use json.loads(value)."
    return "Not a mapping."


def describe_non_int(value: Any) -> str:
    """Return what to do about a value that is not an int."""
    return (
        "Not a whole number: write int(value)." if isinstance(value, str | float) else "Not a whole number."
    )


def describe_non_json(value: Any) -> str:
    """Return what to do with a value of a type that JSON lacks."""
    try:
        advice = _conversion_of(type(value))
    except Exception:  # a metaclass of the host may raise
        advice = _AS_TEXT
    return f"JSON has no {type_name(value)}: {advice}"


_ROLES = "Write internal for your team and external for all others; the kind of participant belongs in type."
_AS_TEXT = "convert it to text or to a mapping."


def _is_a(*kinds: type) -> Callable[[type], bool]:
    return lambda kind: issubclass(kind, kinds)


def _has(name: str) -> Callable[[type], bool]:
    return lambda kind: hasattr(kind, name)


_is_model, _is_queryset = _has("_meta"), _has("as_manager")

_CONVERSIONS: tuple[tuple[Callable[[type], bool], str], ...] = (
    (_is_a(bytes, bytearray, memoryview), "decode it, or write it as base64."),
    (_is_a(set, frozenset), "a set has no order; convert it with sorted(value)."),
    (_is_a(FunctionType, MethodType, BuiltinFunctionType), "call it: value()."),
    (_is_model, "it is a model: write the fields that you need, such as str(value.pk)."),
    (_is_queryset, 'select the fields that you need, such as list(value.values("id")).'),
    (is_dataclass, "use dataclasses.asdict(value)."),
    (_has("model_dump"), "use value.model_dump()."),
    (_has("tolist"), "use value.tolist()."),
    (_has("chunks"), "it is a file: send it as an attachment with its vendor_url."),
    (_has("read"), "it is a file: send it as an attachment with its vendor_url."),
    (_has("__fspath__"), "use str(value)."),
    (_has("__iter__"), "use list(value)."),
)
"""Types that JSON lacks, and how a value of them is converted. The first that is true decides."""


def _conversion_of(kind: type) -> str:
    return next((advice for is_true, advice in _CONVERSIONS if is_true(kind)), _AS_TEXT)
