"""Diagnosis of an error that all records of a group share: its likely cause, and what to do. Pure.

A group is the records of one ``_type`` and one ``_product_id``. If Evermuse refuses all of them, the cause is usually a
setting or an id, not the records. Without this, operators would see only the same error message on each record.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ...foreign_text import clean_text

MAX_SIGNATURE = 200
"""Characters of an error signature: the length of the column ``OutboxGroup.error_signature``."""

_MAX_READ = 4_096
"""Characters of a message that are read: two messages of the greatest published length."""

_VARIABLE = re.compile(r"\"[^\"]*\"|'[^']*'|`[^`]*`|\S*\d\S*")
_PLURAL = re.compile(r"(?<!\w)([a-z]{3,})s\b")
_WORDS = re.compile(r"[a-z_]+")

_OTHER_CONTRACT = (
    'Evermuse seems to apply the contract "{other}" to this key: set CONTRACT to "{other}" for its workspace. '
    "Waiting records are then sent in that form."
)
_IDS = (
    "The {name} id of these records is probably wrong, or belongs to another workspace. Compare it with "
    "Settings > Projects in the Evermuse dashboard. Enqueue the records again with the right id and discard "
    "these, or register the id at Evermuse."
)
_UNKNOWN = (
    "Evermuse refuses something that these records have in common. Likely causes are a CONTRACT that Evermuse does not "
    'apply to this key (it is now "{contract}"), and a wrong product or project id. Look at one of the records.'
)
_FAILURES = (
    "Likely causes are an API key that may not write to this product, a firewall or proxy that refuses something "
    "these records have in common, and a defect of Evermuse. Look at the answer in the attempts of one of its batches."
)
_PROBES = (
    "The group sends a single record from time to time, and continues by itself when one is accepted. "
    "To continue at once, resume it."
)


def make_error_signature(message: str) -> str:
    """Return the part of an error message that is the same for all records, so that equal errors can be counted.

    Quoted words, numbers and ids are replaced by "…". Names of fields stay, even in quotes.
    """
    text = clean_text(message, _MAX_READ).lower()
    text = _VARIABLE.sub(lambda match: match[0] if _is_field(match[0]) else "…", text)
    text = _PLURAL.sub(r"\1", text)  # "1 record", "10 records"
    return " ".join(text.split())[:MAX_SIGNATURE]


def describe_likely_cause(message: str, contract: str) -> str:
    """Return a few sentences for the operator: the likely cause of an error, and what to do.

    Args:
        message: the error message of Evermuse.
        contract: the contract of the workspace, ``"reference"`` or ``"openapi"``.
    """
    return f"{next(_causes(message.lower(), contract))} {_PROBES}"


def describe_cause_of_failures() -> str:
    """Return a few sentences for the operator about a group whose batches fail while those of other groups pass."""
    return f"{_FAILURES} {_PROBES}"


def _causes(message: str, contract: str) -> Iterator[str]:
    words = set(_WORDS.findall(message))
    if contract == "reference" and _is_openapi_error(message, words):
        yield _OTHER_CONTRACT.format(other="openapi")
    if contract == "openapi" and _is_reference_error(message, words):
        yield _OTHER_CONTRACT.format(other="reference")
    for name in ("project", "product"):
        if any(name in word for word in words):
            yield _IDS.format(name=name)
    yield _UNKNOWN.format(contract=contract)


def _is_openapi_error(message: str, words: set[str]) -> bool:
    return "_project_ids" in words or ("_nature" in words and bool(re.search(r"require|missing", message)))


def _is_reference_error(message: str, words: set[str]) -> bool:
    is_unknown = re.search(r"unexpected|unknown|not allowed", message) is not None
    return "_project_id" in words or (is_unknown and bool(words & {"_project_ids", "_nature"}))


def _is_field(quoted: str) -> bool:
    return re.fullmatch(r"[\"'`]/?_[a-z_]+[\"'`]", quoted) is not None
