"""The kind of job that changes rejected records by a function of the host, and its preview as a diff.

The setting ``FIXES`` maps names to functions: ``fix(envelope: dict) -> dict | None``. It gets a copy of the record and
returns the corrected one, or None to leave the record as it is.
"""

from __future__ import annotations

import copy
import difflib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from django.utils.module_loading import import_string
from django.utils.translation import gettext, gettext_noop
from django.utils.translation import gettext_lazy as _

from ..conf import get_settings
from ..evermuse import InvalidRecord
from ..foreign_text import clean_text, describe_error
from ..models import ActionKind, Decision, OutboxRecord, PayloadDropped, by_id
from ..operations import NotPossible, Version, deferred_versions, make_version, replace_records
from .kinds import Kind, Options, Refusal, Refusals, register
from .records import HAS_NEWER, refusals_to_send_again

UNCHANGED = gettext_noop("The function leaves it as it is")
RAISES = gettext_noop("The function raises an exception")
INVALID = gettext_noop("Its new version would be rejected")
NOT_JSON = gettext_noop("Its stored line is not JSON any more: edit it by hand, or enqueue it again")
UNREADABLE = gettext_noop("Its payload is unreadable")
NO_WORKSPACE = gettext_noop("Its workspace is not in the settings")

MAX_DIFF_LINES, MAX_DIFF_CHARACTERS = 100, 10_000
"""Size of one example. A record may have five megabytes."""

MAX_DETAIL = 1_000
"""Characters of the errors of one record."""

Fix = Callable[[dict[str, Any]], dict[str, Any] | None]
"""A function of the host."""


@dataclass(frozen=True, slots=True)
class Example:
    """What a fix does to one record.

    Attributes:
        pk: id of the record.
        diff: the changes as a unified diff of the JSON, cut to a maximum; empty if it is refused.
        refusal: why the record is refused, or None.
    """

    pk: int
    diff: str
    refusal: Refusal | None


@register
class FixRecords(Kind):
    """Change rejected records by a function of the host, and send them as new versions."""

    name, label, action = "fix", _("Fix rejected records"), ActionKind.FIX
    permission, sends = "retry_outboxrecord", True
    chunk, page = 200, 200

    def prepare(self, using: str, options: Options) -> None:
        """Refuse a job whose function is not in the setting FIXES."""
        load_fix(str(options.get("fix", "")))

    def check(self, using: str, pks: Sequence[int], options: Options) -> Refusals:
        """Refuse records that cannot be retried, and those whose new version is invalid or missing."""
        return _apply(using, pks, options)[1]

    def perform(self, using: str, pks: Sequence[int], decision: Decision, options: Options) -> Refusals:
        """Enqueue the new versions. The originals are superseded by them."""
        OutboxRecord.rows.using(using).lock_rows(pks)
        versions, refusals = _apply(using, pks, options)
        replace_records(using, versions)
        return refusals


def load_fix(name: str) -> Fix:
    """Return the function of that name in the setting ``FIXES``.

    Raises:
        NotPossible: The setting has no such name, or its function cannot be imported.
    """
    fixes = get_settings().fixes
    if name not in fixes:
        known = ", ".join(sorted(fixes)) or gettext("none")
        text = gettext("The setting FIXES has no function %(name)s; known: %(names)s.")
        raise NotPossible(text % {"name": repr(name), "names": known})
    try:
        function: Fix = import_string(fixes[name])
    except ImportError as error:
        text = gettext("The function of the fix %(name)s cannot be imported: %(error)s.")
        raise NotPossible(text % {"name": repr(name), "error": describe_error(error)}) from error
    return function


def preview_fix(rows: QuerySet[OutboxRecord], name: str, limit: int = 10) -> list[Example]:
    """Return what a fix would do to the first of these records. This changes nothing.

    Raises:
        NotPossible: There is no such fix.
    """
    fix = load_fix(name)
    examples = []
    for record in rows.order_by("pk")[:limit]:
        result = _fix_one(record, fix)
        if isinstance(result, Refusal):
            examples.append(Example(record.pk, "", result))
        else:
            diff = _diff(record.envelope(), json.loads(result.envelope.line))
            examples.append(Example(record.pk, diff, None))
    return examples


def _apply(using: str, pks: Sequence[int], options: Options) -> tuple[list[Version], Refusals]:
    fix = load_fix(str(options.get("fix", "")))
    refusals = refusals_to_send_again(using, pks)
    for pk, newer in deferred_versions(using, pks).items():
        refusals.setdefault(pk, Refusal(HAS_NEWER, f"#{newer}"))
    records = OutboxRecord.rows.using(using).filter(by_id([pk for pk in pks if pk not in refusals]))
    versions = []
    for record in records.order_by("pk"):
        result = _fix_one(record, fix)
        if isinstance(result, Refusal):
            refusals[record.pk] = result
        else:
            versions.append(result)
    return versions, refusals


def _fix_one(record: OutboxRecord, fix: Fix) -> Version | Refusal:
    """Return the new version of a record, or why there is none."""
    try:
        envelope = record.envelope()
    except PayloadDropped as error:
        return Refusal(UNREADABLE, str(error))
    except ValueError:
        return Refusal(NOT_JSON)  # the database or a person has altered the line
    try:
        changed = fix(copy.deepcopy(envelope))
    except Exception as error:
        return Refusal(RAISES, clean_text(describe_error(error), MAX_DETAIL))
    if changed is None or changed == envelope:
        return Refusal(UNCHANGED)
    try:
        return make_version(record, changed)
    except InvalidRecord as error:
        return Refusal(INVALID, clean_text("; ".join(_without_values(error)), MAX_DETAIL))
    except NotPossible:
        return Refusal(NO_WORKSPACE, record.workspace)


def _without_values(error: InvalidRecord) -> Iterator[str]:
    """Yield the errors without the values of the record, because a note may be read without the right to payloads."""
    for each in error.errors[:5]:
        yield f"{each.path}: {each.message}" if each.path else each.message


def _diff(before: dict[str, Any], after: dict[str, Any]) -> str:
    old, new = (json.dumps(each, indent=2, ensure_ascii=False).splitlines() for each in (before, after))
    lines = list(difflib.unified_diff(old, new, "before", "after", lineterm=""))
    text = "\n".join(lines[:MAX_DIFF_LINES])[:MAX_DIFF_CHARACTERS]
    return (
        text if len(lines) <= MAX_DIFF_LINES else f"{text}\n… and {len(lines) - MAX_DIFF_LINES:,} more lines"
    )
