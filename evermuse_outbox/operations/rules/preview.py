"""Show how many pending records a rule would match, before it is made. This reads a bounded number of records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ...database_clock import database_now
from ...delivery.rules import MemberRow, Rule, affected_workspaces, match_records
from ...models import OutboxRecord, RuleAction
from .definition import RuleDefinition, check_definition

MAX_LOOKED = 5_000
"""Pending records that a preview reads: the oldest of the workspace, or of the type."""

MAX_LOOKED_LINES = 1_000
"""The same if the rule has a pattern, because then the lines are read."""

MAX_EXAMPLES = 5
"""Matching records that a preview names."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What a rule would match now.

    Attributes:
        looked: number of pending records that were compared.
        matched: how many of them match.
        is_partial: whether there are more pending records, which were not compared.
        examples: ids of records that match.
    """

    looked: int
    matched: int
    is_partial: bool
    examples: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the figures as :mod:`json` can serialize them."""
        return asdict(self)


def preview_rule(using: str, rule: RuleDefinition) -> Preview:
    """Compare the oldest pending records with a rule that is not made yet. Nothing is changed.

    Raises:
        InvalidRule: Something is wrong with the rule; ``faults`` has the field and a sentence for each fault.
    """
    check_definition(using, rule, database_now(using))
    limit = MAX_LOOKED_LINES if rule.vendor_id else MAX_LOOKED
    rows = list(_pending(using, rule, limit + 1))
    looked, compared = rows[:limit], Rule(0, rule.conditions, rule.action == RuleAction.HOLD)
    matches = match_records(using, [compared], looked).get(compared, [])
    examples = tuple(row.pk for row in matches[:MAX_EXAMPLES])
    return Preview(len(looked), len(matches), len(rows) > limit, examples)


def _pending(using: str, rule: RuleDefinition, left: int) -> Iterator[MemberRow]:
    """Yield pending records in the order of their index, at most ``left``."""
    for name in affected_workspaces(using, rule.workspace):
        rows = OutboxRecord.rows.using(using).pending().filter(workspace=name)
        # Only a prefix of the index, so that no statement reads more rows than it returns.
        if rule.type:
            rows = rows.filter(type=rule.type)
        if rule.type and rule.product_id:
            rows = rows.filter(product_id=rule.product_id)
        ordered = rows.order_by("workspace", "type", "product_id", "enqueued_at", "pk")
        page = [MemberRow(*row) for row in ordered.values_list("pk", "type", "product_id")[:left]]
        yield from page
        left -= len(page)
        if not left:
            return
