"""Make a standing rule, and end it."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import transaction
from django.utils.translation import gettext as _

from ...delivery.context import Clock
from ...delivery.rules import affected_workspaces, is_applied, withdraw_matching
from ...models import ActionKind, Decision, OutboxAction, OutboxRule, process_user
from ...signals import call_after_commit, is_in_transaction
from ..refusal import NotPossible
from .definition import RuleDefinition, check_rule, describe_rule


@dataclass(frozen=True, slots=True)
class MadeRule:
    """A rule that was made.

    Attributes:
        row: the rule.
        withdrawn: number of sealed batches that were withdrawn because of it.
        is_applied: whether no other batch of before waits with a matching record. If not, a worker holds a batch now.
            It may send it; if not, the workers withdraw it. It is False, too, if a transaction of the caller is open.
    """

    row: OutboxRule
    withdrawn: int
    is_applied: bool


def make_rule(
    using: str,
    rule: RuleDefinition,
    *,
    by: str = "",
    reason: str = "",
    may_match_all: bool = False,
    clock: Clock | None = None,
) -> MadeRule:
    """Make a rule. After this call, no matching record is sent for the first time, except what is under way.

    In a transaction of the caller, the rule applies after its commit. Nothing is withdrawn before, so that no worker
    waits for the caller.

    Pending records that match, also those enqueued later, are held or discarded before they are sealed. A sealed batch
    with a matching record is withdrawn if Evermuse surely has nothing of it.

    Args:
        using: database alias.
        rule: what the person entered.
        by: name of the person who decided it; empty for the user of this process.
        reason: why, in the person's words.
        may_match_all: whether a rule without any condition is intended.
        clock: the clock; by default the database's.

    Raises:
        InvalidRule: Something is wrong with the rule; the error has a sentence for each fault.
    """
    clock = clock or Clock.of(using)
    now = clock.now()
    check_rule(using, rule, reason, now, may_match_all=may_match_all)
    row = rule.to_row()
    row.by, row.reason, row.created_at = by or process_user(), reason.strip(), now
    with transaction.atomic(using=using):
        OutboxRule.objects.using(using).make(row)
        OutboxAction.objects.using(using).log(
            ActionKind.MAKE_RULE,
            Decision(by, reason),
            workspace=row.workspace,
            target=f"{row}: {describe_rule(row)}",
        )
    if is_in_transaction(using):

        def apply() -> None:
            _apply(using, row, clock)

        call_after_commit(apply, using)
        return MadeRule(row, 0, is_applied=False)
    return _apply(using, row, clock)


def _apply(using: str, row: OutboxRule, clock: Clock) -> MadeRule:
    """Withdraw what was sealed before a rule. The rule is visible, so sealings that begin now regard it."""
    now, names = clock.now(), affected_workspaces(using, row.workspace)
    withdrawn = sum(withdraw_matching(using, name, row, now) for name in names)
    if applied := is_applied(using, row):
        OutboxRule.objects.using(using).filter(pk=row.pk).note_applied(now)
    return MadeRule(row, withdrawn, applied)


def end_rule(
    using: str, pk: int, *, by: str = "", reason: str = "", clock: Clock | None = None
) -> OutboxRule:
    """End a rule. The workers make the records that it holds pending again; what it discarded stays discarded.

    Args:
        using: database alias.
        pk: id of the rule.
        by: name of the person who decided it; empty for the user of this process.
        reason: why, in the person's words.
        clock: the clock; by default the database's.

    Raises:
        NotPossible: There is no such rule, or it has ended already.
    """
    now, rows = (clock or Clock.of(using)).now(), OutboxRule.objects.using(using)
    with transaction.atomic(using=using):
        row = rows.filter(pk=pk).first()
        if row is None:
            raise NotPossible(_("There is no rule #%(rule)s.") % {"rule": pk})
        if not rows.filter(pk=pk).end(now, by or process_user(), reason):
            raise NotPossible(_("Rule #%(rule)s has ended already.") % {"rule": pk})
        OutboxAction.objects.using(using).log(
            ActionKind.END_RULE,
            Decision(by, reason),
            workspace=row.workspace,
            target=f"{row}: {describe_rule(row)}",
            records=row.held + row.discarded,
            result=f"It held {row.held:,} records and discarded {row.discarded:,}.",
        )
    row.refresh_from_db(using=using)
    return row
