"""Read the rules that apply to a workspace, and what they compare of records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol, TypeVar

from django.db.models import Exists

from ...conf import get_settings
from ...models import OutboxLabel, OutboxRecord, OutboxRule, OutboxWorkspace, RuleAction, by_id
from .matching import Conditions, Rule, Subject, first_match, in_order, parse_vendor_ids

LARGE_LINES = 20
"""Lines that are read at once. A line has up to 5 MB, and the small ones were read before."""


class Candidate(Protocol):
    """A record that rules are compared with. ``line`` is None if it was not read yet."""

    @property
    def pk(self) -> int:
        """Return the id."""
        ...

    @property
    def type(self) -> str:
        """Return the ``_type``."""
        ...

    @property
    def product_id(self) -> str:
        """Return the ``_product_id``."""
        ...

    @property
    def line(self) -> str | None:
        """Return the stored line."""
        ...


C = TypeVar("C", bound=Candidate)


class MemberRow(NamedTuple):
    """A record that was read without its line."""

    pk: int
    type: str
    product_id: str
    line: str | None = None


def has_rules(workspace: str) -> Exists:
    """Return the condition that an active rule applies to a workspace: a look into a small table, once a statement."""
    return Exists(OutboxRule.objects.active().applies_to(workspace))


def read_rules(using: str, workspace: str, now: datetime) -> list[Rule]:
    """Return the rules that apply to the records of a workspace now, in the order in which they are compared."""
    rows = OutboxRule.objects.using(using).active().applies_to(workspace)
    # A database may compare text without regard to case.
    exact = (row for row in rows if row.workspace in ("", workspace))
    return in_order(to_rule(row) for row in exact if row.until is None or row.until > now)


def affected_workspaces(using: str, workspace: str) -> list[str]:
    """Return the names of the workspaces that a rule concerns: the given one, or all."""
    if workspace:
        return [workspace]
    stored = OutboxWorkspace.objects.using(using).values_list("pk", flat=True)
    return sorted({*get_settings().workspaces, *stored})


def to_rule(row: OutboxRule) -> Rule:
    """Return what matching needs of a stored rule."""
    label = (row.label_name, row.label_value) if row.label_name else None
    conditions = Conditions(row.type, row.product_id, label, row.vendor_id)
    return Rule(row.pk, conditions, row.action == RuleAction.HOLD, row.until)


def match_records(using: str, rules: Sequence[Rule], records: Sequence[C]) -> dict[Rule, list[C]]:
    """Return the records that match a rule, by the first rule that they match.

    This costs no query, except for labels and lines that a condition of a rule needs and that were not read.
    """
    matches: defaultdict[Rule, list[C]] = defaultdict(list)
    if not rules:
        return matches
    for record, subject in _subjects(using, rules, records):
        if rule := first_match(rules, subject):
            matches[rule].append(record)
    return matches


def _subjects(using: str, rules: Sequence[Rule], records: Sequence[C]) -> Iterator[tuple[C, Subject]]:
    needs_vendor_ids = any(rule.conditions.vendor_id for rule in rules)
    names = {rule.conditions.label[0] for rule in rules if rule.conditions.label}
    labels = _read_labels(using, [record.pk for record in records], names) if names else {}
    for record, line in _with_lines(using, records) if needs_vendor_ids else ((each, "") for each in records):
        vendor_ids = parse_vendor_ids(line) if needs_vendor_ids else {}
        yield record, Subject(record.type, record.product_id, labels.get(record.pk, {}), vendor_ids)


def _read_labels(using: str, pks: Sequence[int], names: Collection[str]) -> Mapping[int, Mapping[str, str]]:
    """Return the labels of these names by the id of the record. Many records share a label set."""
    rows = OutboxRecord.rows.using(using).filter(by_id(pks), label_set_id__isnull=False)
    sets = dict(rows.values_list("pk", "label_set_id"))
    labels: defaultdict[int, dict[str, str]] = defaultdict(dict)
    stored = OutboxLabel.objects.using(using).filter(label_set__in=set(sets.values()), name__in=names)
    for label_set, name, value in stored.values_list("label_set_id", "name", "value"):
        labels[label_set][name] = value
    return {pk: labels[label_set] for pk, label_set in sets.items() if label_set is not None}


def _with_lines(using: str, records: Sequence[C]) -> Iterator[tuple[C, str]]:
    """Yield the records with their lines. Few large lines are in memory at a time."""
    unread = [record for record in records if record.line is None]
    yield from ((record, record.line) for record in records if record.line is not None)
    for start in range(0, len(unread), LARGE_LINES):
        chunk = unread[start : start + LARGE_LINES]
        lines = _read_lines(using, [record.pk for record in chunk])
        yield from ((record, lines.get(record.pk, "")) for record in chunk)


def _read_lines(using: str, pks: Sequence[int]) -> Mapping[int, str]:
    return dict(OutboxRecord.rows.using(using).filter(by_id(pks)).values_list("pk", "payload"))
