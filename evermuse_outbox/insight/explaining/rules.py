"""Explain standing rules: what they do, since when and why, the person behind them, and what happens next."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _

from ...models import (
    FAILED_CODES,
    KEY_DESTROYED,
    OutboxDeferral,
    OutboxRecord,
    OutboxRejection,
    OutboxRule,
    OutboxRuleMatch,
    RuleAction,
    RuleState,
)
from .text import join, sentence
from .times import format_time

MAX_COUNTED = 10_000
"""Records that a rule holds now, of which the explanation counts no more."""


def describe_rule_title(row: OutboxRule) -> str:
    """Return what a rule does with which records, as a title."""
    values = {"rule": row.pk, "conditions": describe_conditions(row)}
    if row.action == RuleAction.HOLD:
        return _("Rule #%(rule)s holds records back: %(conditions)s") % values
    return _("Rule #%(rule)s discards records: %(conditions)s") % values


def describe_conditions(row: OutboxRule) -> str:
    """Return which records a rule concerns. Only its page shows a pattern of vendor ids: they can be personal data."""
    label = f"{row.label_name}={row.label_value}" if row.label_name else ""
    conditions = (
        (_("workspace"), row.workspace),
        (_("type"), row.type),
        (_("product id"), row.product_id),
        (_("label"), label),
    )
    named = [f"{name} {value}" for name, value in conditions if value]
    pattern = [_("a pattern of vendor ids")] if row.vendor_id else []
    return ", ".join([*named, *pattern]) or _("all records")


def explain_rule(row: OutboxRule) -> str:
    """Return since when a rule applies, its person and reason, how many records it concerned, and how it ends."""
    values = {"by": row.by, "time": format_time(row.created_at), "reason": sentence(row.reason)}
    made = _("Made by %(by)s at %(time)s. Reason: %(reason)s") % values
    return join(made, _describe_numbers(row), _explain_end(row))


def explain_held(record: OutboxRecord, rule: int | None) -> str:
    """Return which rule holds a record back, until when and why. ``rule`` is its id."""
    row = OutboxRule.objects.using(record._state.db).filter(pk=rule or 0).first()
    if row is None or row.state != RuleState.ACTIVE:
        return _("A standing rule held it and has ended, so it becomes pending again.")
    values = {"rule": row.pk, "by": row.by, "reason": sentence(row.reason), "until": format_time(row.until)}
    if row.until:
        text = _("Rule #%(rule)s of %(by)s holds it until %(until)s. Reason: %(reason)s")
    else:
        text = _("Rule #%(rule)s of %(by)s holds it until a person ends the rule. Reason: %(reason)s")
    end = {"command": f"`manage.py outbox_rule end {row.pk}`"}
    return join(text % values, _("To end the rule: %(command)s.") % end)


def explain_discarded(record: OutboxRecord) -> str:
    """Return whether a rule or an operator has discarded a record, and whether Evermuse may have it nevertheless."""
    match = (
        OutboxRuleMatch.objects.using(record._state.db).filter(pk=record.pk).select_related("rule").first()
    )
    row, text = match.rule if match else None, _("Discarded by an operator; it will not be sent.")
    if row:
        values = {"rule": row.pk, "by": row.by, "reason": sentence(row.reason)}
        text = _("Rule #%(rule)s of %(by)s discarded it; it will not be sent. Reason: %(reason)s") % values
    rejections = OutboxRejection.objects.using(record._state.db).filter(record=record.pk)
    if destroyed := rejections.filter(code=KEY_DESTROYED).first():
        return str(destroyed.message)
    may_have_arrived = rejections.filter(code__in=FAILED_CODES).exists()
    return join(text, _("Evermuse may have it from an earlier attempt.") if may_have_arrived else "")


def rule_to_json(row: OutboxRule) -> dict[str, Any]:
    """Return a rule as :mod:`json` can serialize it."""
    names = ("workspace", "type", "product_id", "vendor_id", "action", "state", "reason", "by")
    times = ("created_at", "applied_at", "until", "ended_at")
    ends = ("ended_by", "end_reason", "held", "discarded")
    label = {row.label_name: row.label_value} if row.label_name else {}
    return {
        "id": row.pk,
        **{name: getattr(row, name) for name in names},
        "label": label,
        **{name: getattr(row, name).isoformat() if getattr(row, name) else None for name in times},
        **{name: getattr(row, name) for name in ends},
    }


def _describe_numbers(row: OutboxRule) -> str:
    if row.action == RuleAction.DISCARD:
        return _("Discarded records: %(number)s.") % {"number": f"{row.discarded:,}"}
    held = OutboxDeferral.objects.using(row._state.db).of_rule(row.pk).order_by()
    left = held.values("pk")[: MAX_COUNTED + 1].count()
    values = {"held": f"{row.held:,}", "left": f"{MAX_COUNTED:,}+" if left > MAX_COUNTED else f"{left:,}"}
    return _("Held records: %(held)s, of which %(left)s are still held.") % values


def _explain_end(row: OutboxRule) -> str:
    values = {
        "until": format_time(row.until),
        "time": format_time(row.ended_at),
        "by": row.ended_by,
        "command": f"`manage.py outbox_rule end {row.pk}`",
    }
    if row.state == RuleState.ACTIVE:
        text = _("It ends at %(until)s.") if row.until else _("It does not end by itself.")
        return join(text % values, _("To end it: %(command)s.") % values)
    text = _("Ended by %(by)s at %(time)s.") if row.ended_by else _("Its time was over at %(time)s.")
    left = _("The workers make the records that it holds pending again.")
    return join(text % values, sentence(row.end_reason), left if row.state == RuleState.ENDING else "")
