"""Hold back or discard the pending records that match a rule, before they are sealed.

The records are compared when their page is read for sealing, under the sealing lock. So a rule costs nothing for the
records of other groups, and it concerns a record no matter when that was enqueued.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

from django.db.models import Q

from ...models import (
    STILL_PENDING,
    OutboxBatch,
    OutboxRecord,
    OutboxRule,
    OutboxRuleMatch,
    by_id,
)
from ..context import DeliveryContext
from ..deferral import CHUNK, hold
from ..gates import has_failed_before
from .matching import Rule, rules_of_group
from .reading import C, MemberRow, match_records, read_rules

MAX_VERSIONS = 1_000
"""Newer versions that are compared at once."""


def withhold_matching(context: DeliveryContext, records: Sequence[C]) -> list[C]:
    """Hold or discard those of the pending records that match a rule; return the others. Needs the sealing lock.

    All records are of one group.
    """
    if not records:
        return []
    rules = read_rules(context.using, context.workspace_name, context.clock.now())
    rules = rules_of_group(rules, records[0].type, records[0].product_id)
    matches = match_records(context.using, rules, records)
    # Each changes the row of its rule, and a rule may be for all workspaces: the same order everywhere.
    for rule, matching in sorted(matches.items(), key=lambda match: match[0].pk):
        _apply(context, rule, [record.pk for record in matching])
    withheld = {record.pk for matching in matches.values() for record in matching}
    return [record for record in records if record.pk not in withheld]


def withhold_versions(context: DeliveryContext, newer: Collection[int]) -> int:
    """Hold or discard those pending versions of the given records that match a rule. Return how many.

    They may be in other groups. Needs the sealing lock.
    """
    rows = OutboxRecord.rows.using(context.using)
    identities = rows.filter(by_id(newer)).values("identity")
    versions = rows.filter(STILL_PENDING, identity__in=identities).order_by("-pk")
    columns = versions.values_list("pk", "type", "product_id")[:MAX_VERSIONS]
    groups: defaultdict[tuple[str, str], list[MemberRow]] = defaultdict(list)
    for row in map(MemberRow._make, ((*row, None) for row in columns)):
        groups[row.type, row.product_id].append(row)
    return sum(len(group) - len(withhold_matching(context, group)) for group in groups.values())


def release_matching(context: DeliveryContext, batch: OutboxBatch, members: Sequence[C]) -> list[C]:
    """Make those members of a refused batch pending that match a rule; return the others. Needs the sealing lock.

    The next sealing holds or discards them. If Evermuse may have the records, all of them go on in a batch: it is too
    late to hold them, and their end must stay known.
    """
    rules = read_rules(context.using, context.workspace_name, context.clock.now())
    rules = rules_of_group(rules, batch.type, batch.product_id)
    matches = match_records(context.using, rules, members)
    matching = {record.pk for records in matches.values() for record in records}
    if not matching or _may_have_arrived(context.using, batch):
        return list(members)
    OutboxRecord.rows.using(context.using).release(batch, sorted(matching))
    return [record for record in members if record.pk not in matching]


def _may_have_arrived(using: str, batch: OutboxBatch) -> bool:
    """Return whether Evermuse accepted a batch with these records, in full or in part, or may have done so."""
    arrived = Q(in_doubt=True) | Q(resends__gt=0) | Q(accepted_count__gt=0) | ~Q(remote_id="")
    # Read again: the columns of the answer were written after the caller has read the batch.
    rows = OutboxBatch.objects.using(using).filter(arrived, pk=batch.pk)
    return rows.exists() or has_failed_before(using, batch)


def _apply(context: DeliveryContext, rule: Rule, pks: Sequence[int]) -> None:
    """Hold or discard records, note the rule of each, and count them."""
    using, held, discarded = context.using, 0, 0
    if rule.is_hold:
        for start in range(0, len(pks), CHUNK):
            hold(using, context.workspace_name, pks[start : start + CHUNK], rule.pk, rule.until)
        held = len(pks)
    else:
        discarded = OutboxRecord.rows.using(using).discard_by_id(pks)
        OutboxRuleMatch.objects.using(using).note(rule.pk, pks)
    OutboxRule.objects.using(using).count_matches(rule.pk, held=held, discarded=discarded)
