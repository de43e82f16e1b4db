"""Replace texts that quote an erased record: messages, listed errors, answers in the attempt log, and reasons."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from hashlib import sha256
from http import HTTPStatus
from typing import Any

from django.db.models import Model, OuterRef, Q, QuerySet, Subquery

from ...models import (
    ActionKind,
    OutboxAction,
    OutboxAttempt,
    OutboxBatch,
    OutboxGroup,
    OutboxIncident,
    OutboxOperation,
    OutboxOperationMember,
    OutboxRecord,
    OutboxRejection,
    OutboxRule,
    OutboxWorkspace,
    RuleState,
    by_id,
)

ERASED = "(erased)"
"""What stands in place of an erased text."""

MIN_LENGTH = 4
"""Characters of the shortest text that is looked for in messages. A shorter one would be found everywhere."""

ROWS_PER_READ = 1_000

TEXTS: tuple[tuple[type[Model], tuple[str, ...]], ...] = (
    (OutboxAttempt, ("detail",)),
    (OutboxBatch, ("message", "errors")),
    (OutboxGroup, ("reason", "error_signature")),
    (OutboxWorkspace, ("reason",)),
    (OutboxIncident, ("reason",)),
    (OutboxRejection, ("message", "signature")),
    (OutboxOperation, ("reason", "selection", "message", "options")),
    (OutboxOperationMember, ("note",)),
    (OutboxAction, ("target", "reason", "result")),
    (OutboxRule, ("reason", "end_reason")),
)
"""The columns in which a text may quote a record or a person: answers of servers, and what people wrote."""


JSON = ("errors", "options")
"""Columns of JSON, in which a text may stand with escapes."""

CONDITIONS = ("product_id", "label_value", "vendor_id")
"""The conditions of a rule in which a person may have written a text of a record."""

BATCH_JOBS = ("send_now", "release_doubt", "give_up")
"""Kinds of jobs whose members are batches."""


def mask(kind: str, value: str) -> str:
    """Return a form of a value that does not show it: the first character and a hash, by which it can be compared."""
    return f"{kind} {value[:1]}… (SHA-256 {sha256(value.encode('utf-8', 'replace')).hexdigest()[:16]})"


def forget_batches(using: str, batch_ids: Collection[int], pks: Collection[int], texts: set[str]) -> None:
    """Replace what the batches of the records ``pks`` quote of them. Call it before the records are deleted.

    The parts of these batches are included: isolation tries a record in several of them, and it stays in the last.

    An answer of a server can quote any part of a record, so each is replaced. A transport error is kept if it has none
    of ``texts``, because it says why the other records of the batch wait.
    """
    pattern = _pattern(texts)
    newest = OutboxAttempt.objects.using(using).filter(batch=OuterRef("pk")).order_by("-pk")
    batch_ids = _with_parts(using, batch_ids)
    rows = OutboxBatch.objects.using(using).filter(by_id(batch_ids))
    statuses: Any = rows.annotate(last_status=Subquery(newest.values("status")[:1])).order_by("pk")
    for pk, message, errors, status in statuses.values_list("pk", "message", "errors", "last_status"):
        changes: dict[str, Any] = {}
        if message and ((status or 0) >= HTTPStatus.MULTIPLE_CHOICES or errors or _quotes(pattern, message)):
            changes["message"] = ERASED
        if errors:
            changes["errors"] = _without_quotes(errors, _erased_positions(using, pk, pks), pattern)
        if changes:
            OutboxBatch.objects.using(using).filter(pk=pk).update(**changes)
    attempts = OutboxAttempt.objects.using(using).filter(batch_id__in=batch_ids).exclude(detail="")
    may_quote = [
        pk
        for pk, status, detail in attempts.values_list("pk", "status", "detail")
        if (status is not None and not _is_plain_success(status, detail)) or _quotes(pattern, detail)
    ]
    OutboxAttempt.objects.using(using).filter(pk__in=may_quote).update(detail=ERASED)


def forget_reasons(using: str, texts: Collection[str]) -> None:
    """Replace the texts of erased records in the reasons of workspaces, groups, incidents and rules: few rows."""
    pattern = _pattern(texts)
    if pattern is None:
        return
    for model, columns in TEXTS:
        if model in (OutboxWorkspace, OutboxGroup, OutboxIncident, OutboxRule):
            rows = model._default_manager.using(using).exclude(reason="").values("pk", *columns)
            for row in _in_pages(rows):
                if any(_quotes(pattern, row[column]) for column in columns):
                    _replace_in(using, model, pattern, row)
    _forget_conditions(using, pattern)


def forget_notes(using: str, pks: Collection[int]) -> None:
    """Replace the notes of jobs about these records. Of a member that was changed, only the id is stored."""
    jobs = OutboxOperation.objects.using(using).exclude(kind__in=BATCH_JOBS).values_list("pk", flat=True)
    members = OutboxOperationMember.objects.using(using).filter(operation_id__in=list(jobs), target__in=pks)
    members.filter(result__isnull=False).update(note=ERASED)


def forget_texts(using: str, texts: Collection[str]) -> int:
    """Replace these texts, in any case, in all messages, answers and reasons. Return how many rows changed.

    It reads each table once, in pages; the database finds the rows.
    """
    pattern = _pattern(texts)
    if pattern is None:
        return 0
    count = 0
    for model, columns in TEXTS:
        for row in _rows_with(using, model, columns, texts):
            count += _replace_in(using, model, pattern, row)
    return count + _forget_conditions(using, pattern)


def _forget_conditions(using: str, pattern: re.Pattern[str]) -> int:
    """Replace texts in the conditions of rules that are over, and in their actions. An active rule needs its own."""
    count = 0
    rules = OutboxRule.objects.using(using).exclude(state=RuleState.ACTIVE).values("pk", *CONDITIONS)
    for row in _in_pages(rules):
        if any(_quotes(pattern, row[column]) for column in CONDITIONS):
            count += _replace_in(using, OutboxRule, pattern, row)
            actions = OutboxAction.objects.using(using).filter(
                kind__in=(ActionKind.MAKE_RULE, ActionKind.END_RULE),
                target__startswith=f"{OutboxRule(pk=row['pk'])}:",
            )
            for action in actions.values("pk", "target"):
                _replace_in(using, OutboxAction, pattern, action)
    return count


def _replace_in(using: str, model: type[Model], pattern: re.Pattern[str], row: Mapping[str, Any]) -> int:
    """Replace the texts in the columns of a row. Return 1 if it changed, else 0."""
    columns = {name: old for name, old in row.items() if name != "pk"}
    changes = {
        name: value
        for name, old in columns.items()
        if (value := _fit(model, name, _replace(pattern, old))) != old
    }
    return model._default_manager.using(using).filter(pk=row["pk"]).update(**changes) if changes else 0


def _fit(model: type[Model], column: str, value: Any) -> Any:
    """Return a value as its column holds it: what stands in place of a text may be longer."""
    field: Any = model._meta.get_field(column)
    return value[: field.max_length] if isinstance(value, str) else value


def _rows_with(
    using: str, model: type[Model], columns: tuple[str, ...], texts: Collection[str]
) -> Iterator[Mapping[str, Any]]:
    has_text = Q()
    for column in columns:
        for text in texts:
            if len(text) >= MIN_LENGTH:
                # A column of JSON is searched by its parts that need no escape.
                part = (
                    max(re.split(r"[^\w@.+-]+", text, flags=re.ASCII), key=len)
                    if column == "errors"
                    else text
                )
                has_text |= Q(**{f"{column}__icontains": part})
    rows = model._default_manager.using(using).filter(has_text).values("pk", *columns)
    if model is OutboxOperationMember:
        rows = rows.filter(
            result__isnull=False
        )  # the others have no note with a text of a person or a server
    yield from _in_pages(rows)


def _in_pages(rows: QuerySet[Any, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the rows in the order of their ids. A statement with a deadline cannot be a server-side cursor."""
    page = list(rows.order_by("pk")[:ROWS_PER_READ])
    while page:
        yield from page
        page = list(rows.order_by("pk").filter(pk__gt=page[-1]["pk"])[:ROWS_PER_READ])


def _with_parts(using: str, batch_ids: Collection[int]) -> set[int]:
    """Return these batches and all that were sealed from them."""
    family, newest = set(batch_ids), set(batch_ids)
    while newest:
        parts = OutboxBatch.objects.using(using).filter(parent_id__in=newest)
        newest = set(parts.values_list("pk", flat=True)) - family
        family |= newest
    return family


def _erased_positions(using: str, batch: int, pks: Collection[int]) -> set[int] | None:
    """Return the positions that these records had in the request; None if they are not known any more."""
    inside = OutboxRecord.rows.using(using).filter(batch=batch).values_list("pk", flat=True)
    rejected = OutboxRejection.objects.using(using).filter(batch=batch).values_list("record_id", flat=True)
    members = sorted({*inside, *rejected})
    if len(members) != OutboxBatch.objects.using(using).values_list("record_count", flat=True).get(pk=batch):
        return None
    erased = set(pks)
    return {position for position, pk in enumerate(members) if pk in erased}


def _without_quotes(errors: Any, positions: set[int] | None, pattern: re.Pattern[str] | None) -> Any:
    """Return the listed errors of a batch without the messages about erased records."""
    if not isinstance(errors, list):
        return []
    return [
        error | {"message": ERASED}
        if positions is None or error.get("index") in positions or _quotes(pattern, error.get("message", ""))
        else error
        for error in errors
        if isinstance(error, dict)
    ]


def _pattern(texts: Collection[str]) -> re.Pattern[str] | None:
    """Return a pattern of all texts that are long enough, the longest first."""
    long = sorted({text for text in texts if len(text) >= MIN_LENGTH}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, long)), re.IGNORECASE) if long else None


def _is_plain_success(status: int, detail: str) -> bool:
    """Return whether an answer only says that a batch was accepted, or in which state it is."""
    return status < HTTPStatus.MULTIPLE_CHOICES and '"errors"' not in detail


def _quotes(pattern: re.Pattern[str] | None, text: Any) -> bool:
    return pattern is not None and pattern.search(str(text)) is not None


def _replace(pattern: re.Pattern[str], value: Any) -> Any:
    if isinstance(value, str):
        return pattern.sub(ERASED, value)
    if isinstance(value, dict):
        return {name: _replace(pattern, item) for name, item in value.items()}
    return [_replace(pattern, item) for item in value] if isinstance(value, list) else value
