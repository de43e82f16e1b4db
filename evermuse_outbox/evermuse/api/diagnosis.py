"""What is likely to be wrong where everything is refused alike, and how to go on. Pure: words in, words out."""

from __future__ import annotations

import re
from collections.abc import Iterator

ALIKE_LENGTH = 200
"""Characters of a complaint that are compared."""

_OWN = re.compile(r"\"[^\"]*\"|'[^']*'|`[^`]*`|\S*\d\S*")
_PLURAL = re.compile(r"(?<!\w)([a-z]{3,})s\b")
_WORDS = re.compile(r"[a-z_]+")

_OTHER_CONTRACT = (
    'Evermuse seems to serve this key under the contract "{other}": set CONTRACT to "{other}" for its workspace. '
    "What waits is then sealed in that form."
)
_IDS = (
    "The {name} id that these records carry is likely wrong, or of another workspace: compare it with "
    "Settings > Projects in the Evermuse dashboard. Enqueue the records again with the right id and discard "
    "these, or have the id made known to Evermuse."
)
_UNKNOWN = (
    "Something that these records have in common is refused. Likely are a CONTRACT that this key is not served "
    'under (now it is "{contract}"), and a product or project id that is wrong: look at one of the records.'
)
_ON = (
    "A record is tried now and then, and once one is accepted the group goes on by itself; "
    "resume it to go on at once."
)


def make_error_signature(message: str) -> str:
    """The part of a complaint that is the same for all records: without quoted words, numbers and ids.

    Names of fields stay, also where they are quoted.
    """
    kept = _OWN.sub(lambda own: own[0] if _is_field(own[0]) else "…", message.lower())
    kept = _PLURAL.sub(r"\1", kept)  # "1 record", "10 records"
    return " ".join(kept.split())[:ALIKE_LENGTH]


def describe_likely_cause(message: str, contract: str) -> str:
    """One to three sentences: what seems to be wrong in a workspace of that contract, and how to go on."""
    return f"{next(_causes(message.lower(), contract))} {_ON}"


def _causes(said: str, contract: str) -> Iterator[str]:
    words = set(_WORDS.findall(said))
    if contract == "reference" and _speaks_openapi(said, words):
        yield _OTHER_CONTRACT.format(other="openapi")
    if contract == "openapi" and _speaks_reference(said, words):
        yield _OTHER_CONTRACT.format(other="reference")
    for name in ("project", "product"):
        if any(name in word for word in words):
            yield _IDS.format(name=name)
    yield _UNKNOWN.format(contract=contract)


def _speaks_openapi(said: str, words: set[str]) -> bool:
    return "_project_ids" in words or ("_nature" in words and bool(re.search(r"require|missing", said)))


def _speaks_reference(said: str, words: set[str]) -> bool:
    refused = bool(words & {"_project_ids", "_nature"}) and bool(
        re.search(r"unexpected|unknown|not allowed", said)
    )
    return "_project_id" in words or refused


def _is_field(quoted: str) -> bool:
    return re.fullmatch(r"[\"'`]/?_[a-z_]+[\"'`]", quoted) is not None
