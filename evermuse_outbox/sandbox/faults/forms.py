"""Faults as JSON, for the control over HTTP, and as text, for the command line. Both have the same fields."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .fault import MAX_DELAY, Fault
from .queue import ScriptedFault


class FaultError(ValueError):
    """A description of a fault is not valid. The message says what to change."""


@dataclass(frozen=True)
class FaultRequest:
    """A fault, and for how long to inject it.

    Attributes:
        count: Number of requests. None means every request.
        seconds: Seconds after which the fault ends. None means that it does not end by time.
    """

    fault: Fault
    count: int | None
    seconds: float | None = None


# --- Fields -----------------------------------------------------------------------------------------


def read_integer(value: Any) -> int:
    """Return an integer."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 10:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError("must be an integer of 0 or more")


def read_seconds(value: Any) -> float:
    """Return a number of seconds, at most a day."""
    try:
        number = float(value) if isinstance(value, str | int | float) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not 0 <= number <= MAX_DELAY:
        raise ValueError(f"must be a number of seconds from 0 to {MAX_DELAY:.0f}")
    return number


def read_boolean(value: Any) -> bool:
    """Return a boolean."""
    if value in (True, "true", "yes", "1"):
        return True
    if value in (False, "false", "no", "0"):
        return False
    raise ValueError("must be true or false")


def read_text(value: Any) -> str:
    """Return a text."""
    if not isinstance(value, str):
        raise ValueError("must be a text")
    return value


def read_headers(value: Any) -> dict[str, str]:
    """Return the names and values of headers, from an object or from its JSON."""
    headers = json.loads(value) if isinstance(value, str) else value
    if not isinstance(headers, dict):
        raise ValueError("must be an object")
    for name, text in headers.items():
        is_safe = isinstance(text, str) and f"{name}{text}".isascii() and f"{name}{text}".isprintable()
        if not is_safe or not name or set(name) & set(" :"):
            raise ValueError("must have printable ASCII names and values")
    return headers


def read_selector(value: Any) -> int | str | dict[str, Any]:
    """Return what selects records: a number is a position, a text a vendor id, a mapping has paths and values."""
    if isinstance(value, bool) or not isinstance(value, int | str | dict) or value in ("", {}):
        raise ValueError("must be a position from 0, a vendor id, or an object of paths and values")
    return value


def read_drop(value: Any) -> bool:
    """Return whether the request is processed before its connection is closed."""
    if value not in ("before", "after"):
        raise ValueError("must be before or after (the processing of the request)")
    return bool(value == "after")


def read_count(value: Any) -> int | None:
    """Return a number of requests, or None for all."""
    if value in (None, "all"):
        return None
    count = read_integer(value)
    if count < 1:
        raise ValueError("must be 1 or more, or all")
    return count


READERS: Mapping[str, Callable[[Any], Any]] = {
    "status": read_integer,
    "body": read_text,
    "headers": read_headers,
    "retry_after": read_seconds,
    "drop": read_drop,
    "after_handling": read_boolean,
    "delay": read_seconds,
    "batch_fails": read_boolean,
    "attachments_fail": read_integer,
    "reject": read_selector,
    "message": read_text,
    "code": read_text,
    "on": read_text,
    "type": read_text,
    "product_id": read_text,
    "containing": read_text,
    "count": read_count,
    "seconds": read_seconds,
}
"""Function that reads each field from JSON or from a text."""

EFFECTS = {"status", "drop", "delay", "batch_fails", "attachments_fail", "reject"}
"""Fields of which a fault needs at least one. Without them, nothing would happen."""


# --- Reading ------------------------------------------------------------------------------------------


def fault_from_json(content: Any) -> FaultRequest:
    """Return the fault that an object describes.

    Without ``count``, a fault affects the next request. There are two exceptions. With ``seconds``, it affects every
    request in that time. A rejection by vendor id or by values affects every request with such a record.

    Raises:
        FaultError: A field is unknown, its value is not valid, or the fields contradict each other.
    """
    if not isinstance(content, Mapping):
        raise FaultError("a fault must be an object")
    fields = {name: read_field(name, value) for name, value in content.items()}
    if not EFFECTS & {name for name, value in fields.items() if value or name in ("drop", "reject")}:
        raise FaultError(f"a fault needs at least one of {', '.join(sorted(EFFECTS))}")
    count, seconds = fields.pop("count", 1), fields.pop("seconds", None)
    if "drop" in fields:
        is_processed = fields.pop("drop")
        fields.update(drop=True, after_handling=is_processed)
    try:
        fault = Fault(**fields)
    except ValueError as error:
        raise FaultError(str(error)) from error
    if "count" not in content and (seconds is not None or fault.is_permanent_by_default):
        count = None
    return FaultRequest(fault, count, seconds)


def fault_from_text(assignments: Iterable[str]) -> FaultRequest:
    """Return the fault that texts of the form ``field=value`` describe.

    Raises:
        FaultError: As :func:`fault_from_json`, or a text is no assignment.
    """
    return fault_from_json(text_to_json(assignments))


def text_to_json(assignments: Iterable[str]) -> dict[str, Any]:
    """Return the object for :func:`fault_from_json` that texts of the form ``field=value`` mean.

    Raises:
        FaultError: A text is no assignment.
    """
    content: dict[str, Any] = {}
    for assignment in assignments:
        name, separator, value = assignment.partition("=")
        if not separator:
            raise FaultError(f"{assignment!r} must be field=value, as in status=503")
        content[name.replace("-", "_")] = value
    if "reject" in content:
        content["reject"] = selector_of_text(content["reject"])
    return content


def selector_of_text(text: str) -> Any:
    """Return the selector in a text: digits are a position, ``id:`` begins a vendor id, and ``{`` begins JSON.

    Raises:
        FaultError: It begins as JSON but is none.
    """
    if text.isascii() and text.isdecimal() and len(text) < 5:
        return int(text)
    if text.startswith("{"):
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise FaultError(f"reject must be JSON: {error}") from error
    return text.removeprefix("id:")


def read_field(name: str, value: Any) -> Any:
    """Return the value of a field.

    Raises:
        FaultError: The field is unknown, or its value is not valid.
    """
    if name not in READERS:
        similar = difflib.get_close_matches(str(name), READERS, 1)
        hint = f"did you mean {similar[0]}?" if similar else f"the fields are {', '.join(READERS)}"
        raise FaultError(f"{name!r} is not a field of a fault: {hint}")
    try:
        return READERS[name](value)
    except RecursionError as error:
        raise FaultError(f"{name} is nested too deeply") from error
    except json.JSONDecodeError as error:
        raise FaultError(f"{name} must be JSON: {error}") from error
    except ValueError as error:
        raise FaultError(f"{name} {error}") from error


# --- Writing ------------------------------------------------------------------------------------------


def fault_to_json(scripted: ScriptedFault, now: float) -> dict[str, Any]:
    """Return a scripted fault as JSON: the fields that were set, and what is left of its count and its time."""
    fault = scripted.fault
    content: dict[str, Any] = {"id": scripted.id, "description": describe(fault)}
    for name in READERS:
        value = getattr(fault, name, None)
        if name not in ("drop", "body") and value not in (None, "", 0, False, {}):
            content[name] = f"function {value.__name__}" if callable(value) else value
    if fault.drop:
        content["drop"] = "after" if fault.after_handling else "before"
    content["count"] = scripted.remaining
    content["seconds"] = None if scripted.until is None else round(max(0.0, scripted.until - now), 3)
    content["affected"] = scripted.affected
    return content


def describe(fault: Fault) -> str:
    """Return what a fault does, in a few words."""
    effects = []
    if fault.delay:
        effects.append(f"wait {fault.delay:g} s")
    if fault.drop:
        effects.append(f"drop the connection {'after' if fault.after_handling else 'before'} processing")
    if fault.status is not None:
        effects.append(f"answer {fault.status}")
    if fault.batch_fails:
        effects.append("let the batch fail")
    if fault.attachments_fail:
        effects.append(f"fail {fault.attachments_fail} attachments")
    if fault.reject is not None:
        effects.append(f"reject {describe_selector(fault.reject)}")
    conditions = [
        f"{label} {value}"
        for label, value in (
            ("type", fault.type),
            ("product", fault.product_id),
            ("containing", fault.containing),
        )
        if value
    ]
    method = "requests" if fault.on == "any" else fault.on
    return f"{' and '.join(effects) or 'nothing'} ({', '.join([method, *conditions])})"


def describe_selector(selector: object) -> str:
    """Return which records a selector means."""
    if isinstance(selector, int):
        return f"record {selector}"
    if isinstance(selector, str):
        return f"vendor id {selector}"
    if isinstance(selector, Mapping):
        return "records with " + ", ".join(f"{path}={value!r}" for path, value in selector.items())
    return "records that a function selects"
