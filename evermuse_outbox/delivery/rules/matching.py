"""Compare a record with standing rules. Pure: no database, no clock.

Type and product are known for a complete page of records, because all of them are of one group. Labels and vendor ids
are read only if a rule has a condition on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

from ...search import load_head

ANY_NAME = "*"
"""Name of the vendor ids that a pattern without a name is compared with."""

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditions of a rule. An empty one is met by every record.

    Attributes:
        type: the ``_type``.
        product_id: the ``_product_id``.
        label: name and value of a label; None for none.
        vendor_id: pattern of an entry of ``_vendor_ids``: ``VALUE`` or ``NAME=VALUE``, each with ``*`` and ``?``.
    """

    type: str = ""
    product_id: str = ""
    label: tuple[str, str] | None = None
    vendor_id: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether every record meets the conditions."""
        return not (self.type or self.product_id or self.label or self.vendor_id)

    def may_match_group(self, record_type: str, product_id: str) -> bool:
        """Return whether records of a group can meet the conditions."""
        return self.type in ("", record_type) and self.product_id in ("", product_id)

    def match(self, record: Subject) -> bool:
        """Return whether a record meets all conditions."""
        return (
            self.may_match_group(record.type, record.product_id)
            and (self.label is None or record.labels.get(self.label[0]) == self.label[1])
            and (not self.vendor_id or match_vendor_id(self.vendor_id, record.vendor_ids))
        )


@dataclass(frozen=True, slots=True)
class Subject:
    """What rules compare of a record. ``labels`` and ``vendor_ids`` may be empty if no rule needs them."""

    type: str
    product_id: str
    labels: Labels = field(default_factory=dict)
    vendor_ids: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as matching needs it. ``until`` is None if only a person ends it."""

    pk: int
    conditions: Conditions
    is_hold: bool
    until: datetime | None = None


def first_match(rules: Iterable[Rule], record: Subject) -> Rule | None:
    """Return the first of the rules that a record matches, or None."""
    return next((rule for rule in rules if rule.conditions.match(record)), None)


def in_order(rules: Iterable[Rule]) -> list[Rule]:
    """Return the rules in the order in which they apply.

    A hold comes before a discard, because a discarded record cannot be sent any more. When the hold has ended, the
    record is compared again. Of several holds, the one that ends last comes first, so that a record is held once.
    """
    return sorted(rules, key=_rank)


def rules_of_group(rules: Iterable[Rule], record_type: str, product_id: str) -> list[Rule]:
    """Return the rules that records of a group can match."""
    return [rule for rule in rules if rule.conditions.may_match_group(record_type, product_id)]


def parse_vendor_ids(line: str) -> Mapping[str, Any]:
    """Return the ``_vendor_ids`` of a stored line; nothing if the line was altered and has none."""
    try:
        vendor_ids = load_head(line)["_vendor_ids"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return vendor_ids if isinstance(vendor_ids, dict) else {}


def match_vendor_id(pattern: str, vendor_ids: Mapping[str, Any]) -> bool:
    """Return whether an entry of ``_vendor_ids`` matches a pattern ``VALUE`` or ``NAME=VALUE``. Case matters."""
    name_pattern, value_pattern = split_pattern(pattern)
    return any(
        fnmatchcase(name, name_pattern) and fnmatchcase(str(value), value_pattern)
        for name, value in vendor_ids.items()
    )


def split_pattern(pattern: str) -> tuple[str, str]:
    """Return the patterns of the name and of the value. Only ``*`` and ``?`` are special in them."""
    name, separator, value = pattern.partition("=")
    # fnmatch also has sets in brackets. Vendor ids may contain brackets, so they are taken literally.
    names, values = (name, value) if separator else (ANY_NAME, pattern)
    return names.replace("[", "[[]"), values.replace("[", "[[]")


def _rank(rule: Rule) -> tuple[bool, bool, float, int]:
    ends = -rule.until.timestamp() if rule.until else 0.0
    return (not rule.is_hold, rule.until is not None, ends, rule.pk)
