"""Changes of a stored line: its translation to the other contract, and new URLs of its attachments.

A *line* is the JSON of one record, as ``validate`` returns it. Without the translation, Evermuse would refuse every
record that was enqueued before the host changed ``CONTRACT``.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .. import Untranslatable, limits
from .json_values import encode
from .record import CONTRACTS, NATURES, REFERENCE_TYPES

_CANONICAL_ORDER = (
    "_type",
    "_schema_version",
    "_event_at",
    "_vendor_ids",
    "_product_id",
    "_project_id",
    "_project_ids",
    "_nature",
    "_thread_id",
    "_participants",
    "_attachments",
    "_tags",
    "_pii",
    "data",
)
_REQUIRED = {"_type", "_schema_version", "_event_at", "_vendor_ids", "_product_id", "data"}
_REMEDY = 'Set CONTRACT back to "openapi" and retry it, or enqueue it in another form.'

_decode = json.JSONDecoder().raw_decode


def translate(line: str, *, to: str, default_nature: str = "evidence") -> str:
    """Return a line in the form of a contract. The record keeps its identity.

    The project field changes, and for ``"openapi"`` a missing ``_nature`` is added. All other fields keep their bytes.

    Args:
        line: a line from :func:`~.validation.validate`.
        to: the contract, ``"reference"`` or ``"openapi"``. A line that already has its form is returned unchanged.
        default_nature: the ``_nature`` for a record without one.

    Raises:
        Untranslatable: the record has no form in the contract or becomes too large, or ``validate`` did not write the
            line.
        ValueError: the contract or the nature is unknown.
    """
    if to not in CONTRACTS or default_nature not in NATURES:
        raise ValueError(f"no such contract or nature: {to!r}, {default_nature!r}")
    members = _members(line)
    if to == "reference":
        _to_reference(members)
    else:
        _to_openapi(members, default_nature)
    return _write(members)


def replace_urls(line: str, new_url: Callable[[dict[str, Any]], Any]) -> str:
    """Return a line with other URLs of its attachments. All other fields keep their bytes.

    Args:
        line: a line from :func:`~.validation.validate`.
        new_url: returns the new ``vendor_url`` of an attachment. It is called for each attachment that has one.

    Raises:
        ValueError: a returned value is not a URL that Evermuse accepts.
        Untranslatable: the record becomes too large, or ``validate`` did not write the line.
        Exception: whatever ``new_url`` raises.
    """
    from .schema import check_url

    members = _members(line)
    attachments = json.loads(members["_attachments"])
    for attachment in attachments:
        if "vendor_url" in attachment:
            url = new_url(dict(attachment))
            if isinstance(url, str):
                url = str.__str__(url)  # of a subclass, the text and not what its methods return
            check_url(url)
            attachment["vendor_url"] = url
    members["_attachments"] = encode(attachments).decode()
    return _write(members)


def _to_reference(members: dict[str, str]) -> None:
    record_type = json.loads(members["_type"])
    if record_type not in REFERENCE_TYPES:
        raise Untranslatable(f'The contract "reference" has no type {record_type!r}. {_REMEDY}')
    if "_project_ids" not in members:
        return
    projects = json.loads(members.pop("_project_ids"))
    if len(projects) > 1:
        raise Untranslatable(
            f'The contract "reference" allows one project a record; _project_ids has {len(projects)}. {_REMEDY}'
        )
    members["_project_id"] = encode(projects[0]).decode()


def _to_openapi(members: dict[str, str], default_nature: str) -> None:
    if "_project_id" in members:
        members["_project_ids"] = f"[{members.pop('_project_id')}]"
    members.setdefault("_nature", f'"{default_nature}"')


def _members(line: str) -> dict[str, str]:
    """Return the JSON text of each field. The text is not decoded and encoded again, because a number could change."""
    try:
        members = dict(_pairs(line))
    except (ValueError, IndexError):
        members = {}
    if not _REQUIRED <= members.keys() <= set(_CANONICAL_ORDER) or _join(members) != line:
        raise Untranslatable("Not a line that validate() wrote. Discard it and enqueue the record again.")
    return members


def _pairs(line: str) -> Iterator[tuple[str, str]]:
    end = 0
    while line[end] != "}":
        name, colon = _decode(line, end + 1)
        _, end = _decode(line, colon + 1)
        yield name, line[colon + 1 : end]


def _join(members: Mapping[str, str]) -> str:
    return "{" + ",".join([f'"{name}":{text}' for name, text in members.items()]) + "}"


def _write(members: dict[str, str]) -> str:
    line = _join({name: members[name] for name in _CANONICAL_ORDER if name in members})
    size = len(line.encode())
    if size > limits.MAX_RECORD_BYTES:
        raise Untranslatable(
            f"In its new form, it has {size:,} bytes; at most {limits.MAX_RECORD_BYTES:,} are allowed. "
            "Discard it and enqueue it shortened."
        )
    return line
