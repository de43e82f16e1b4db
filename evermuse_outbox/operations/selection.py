"""Select records by what operators know of them: a queryset for jobs, in words, and as JSON.

Each condition is one that an index serves, or one that is checked for each record in a window of ids: see ``jobs``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Exists, OuterRef
from django.utils.dateparse import parse_datetime

from ..models import OutboxLabelSet, OutboxRecord, OutboxRejection, RecordQuerySet, by_id


@dataclass(frozen=True, slots=True)
class RecordFilter:
    """Which records are meant: those that meet all conditions that are set.

    Attributes:
        state: a value of :class:`~evermuse_outbox.models.RecordState`.
        workspace: name of the workspace.
        type: the ``_type``.
        product_id: the ``_product_id``.
        error_code: code of a rejection of the record, exactly.
        error_text: a part of the message of a rejection; case does not matter.
        older_than: records enqueued before this time.
        newer_than: records enqueued after this time.
        batch: id of the batch that has the record.
        identity: the identity, which all versions of a record share.
        failed_again: only records that were rejected more than once.
        ids: ids of records.
        run: id of the run that the record belongs to.
        label: a label of the record, as ``NAME=VALUE``.
    """

    state: str = ""
    workspace: str = ""
    type: str = ""
    product_id: str = ""
    error_code: str = ""
    error_text: str = ""
    older_than: datetime | None = None
    newer_than: datetime | None = None
    batch: int | None = None
    identity: str = ""
    failed_again: bool = False
    ids: tuple[int, ...] = ()
    run: int | None = None
    label: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether no condition but the state is set, so that all records in the state are meant."""
        return not any(value for name, value in self.to_json().items() if name != "state")

    def rows(self, using: str) -> RecordQuerySet:
        """Return the records."""
        rows: RecordQuerySet = OutboxRecord.rows.using(using)
        if self.state:
            rows = rows.in_state(self.state)
        columns = ("workspace", "type", "product_id", "identity")
        rows = rows.filter(**{name: getattr(self, name) for name in columns if getattr(self, name)})
        if self.batch is not None:
            rows = rows.filter(batch_id=self.batch)
        if self.older_than:
            rows = rows.filter(enqueued_at__lt=self.older_than)
        if self.newer_than:
            rows = rows.filter(enqueued_at__gt=self.newer_than)
        if self.ids:
            rows = rows.filter(by_id(self.ids))
        if self.failed_again:
            rows = rows.failed_again()
        return self._with_error(self._with_label(rows, using))

    def _with_label(self, rows: RecordQuerySet, using: str) -> RecordQuerySet:
        sets = OutboxLabelSet.objects.using(using)
        if self.run is not None:
            rows = rows.filter(label_set_id__in=sets.filter(run_id=self.run).values("pk"))
        if self.label:
            name, _, value = self.label.partition("=")
            rows = rows.filter(label_set_id__in=sets.with_label(name, value).values("pk"))
        return rows

    def _with_error(self, rows: RecordQuerySet) -> RecordQuerySet:
        conditions: dict[str, Any] = {}
        if self.error_code:
            conditions["code"] = self.error_code
        if self.error_text:
            conditions["message__icontains"] = self.error_text
        if not conditions:
            return rows
        return rows.filter(Exists(OutboxRejection.objects.filter(record=OuterRef("pk"), **conditions)))

    def to_json(self) -> dict[str, Any]:
        """Return the conditions that are set, as the options of a job store them."""
        values = {name: getattr(self, name) for name in (each.name for each in dataclasses.fields(self))}
        return {name: _to_json(value) for name, value in values.items() if value not in (None, "", False, ())}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> RecordFilter:
        """Return the conditions that :meth:`to_json` has stored."""
        parsed = dict(values)
        for name in ("older_than", "newer_than"):
            if name in parsed:
                parsed[name] = parse_datetime(parsed[name])
        if "ids" in parsed:
            parsed["ids"] = tuple(parsed["ids"])
        return cls(**parsed)

    def __str__(self) -> str:
        """Return the conditions in words, for instance ``rejected records, product_id prod-7``."""
        head = f"{self.state} records" if self.state else "records"
        rest = [
            _in_words(name, value) for name, value in self.to_json().items() if name not in ("state", "ids")
        ]
        if self.ids:
            more = f" and {len(self.ids) - 5} more" if len(self.ids) > 5 else ""
            rest.append(", ".join(f"#{pk}" for pk in self.ids[:5]) + more)
        return ", ".join([head, *rest])


def select_records(using: str, **conditions: Any) -> RecordQuerySet:
    """Return the records that meet all of the conditions; see :class:`RecordFilter` for their names."""
    return RecordFilter(**conditions).rows(using)


def _to_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return list(value) if isinstance(value, tuple) else value


def _in_words(name: str, value: Any) -> str:
    words = name.replace("_", " ")
    return words if value is True else f"{words} {value}"
