"""What a person enters for a standing rule, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _

from ...delivery.rules import Conditions, affected_workspaces
from ...evermuse.records import OPENAPI_TYPES
from ...models import OutboxRule, RuleAction
from ..refusal import NotPossible

Faults = Iterator[tuple[str, str]]
"""The field of each fault, and a sentence. A field is an attribute of a definition, ``reason`` or ``may_match_all``."""


class InvalidRule(NotPossible):
    """A rule cannot be made as it was entered.

    Attributes:
        faults: the field and a sentence for each fault.
        errors: only the sentences.
    """

    def __init__(self, faults: list[tuple[str, str]]) -> None:
        self.faults, self.errors = faults, [sentence for _field, sentence in faults]
        super().__init__(" ".join(self.errors))


@dataclass(frozen=True, slots=True)
class RuleDefinition:
    """A rule that is not made yet.

    Attributes:
        action: a value of :class:`~evermuse_outbox.models.RuleAction`.
        workspace: name of a workspace; empty for every workspace.
        type: the ``_type``; empty for every type.
        product_id: the ``_product_id``; empty for every product.
        label: name and value of a label; None for none.
        vendor_id: pattern of an entry of ``_vendor_ids``: ``VALUE`` or ``NAME=VALUE``, each with ``*`` and ``?``.
        until: when the rule ends by itself; None if a person ends it.
    """

    action: str
    workspace: str = ""
    type: str = ""
    product_id: str = ""
    label: tuple[str, str] | None = None
    vendor_id: str = ""
    until: datetime | None = None

    @property
    def conditions(self) -> Conditions:
        """The conditions, as matching needs them. The workspace is not among them."""
        return Conditions(self.type, self.product_id, self.label, self.vendor_id)

    def to_row(self) -> OutboxRule:
        """Return a row that is not saved yet."""
        name, value = self.label or ("", "")
        return OutboxRule(
            action=self.action,
            workspace=self.workspace,
            type=self.type,
            product_id=self.product_id,
            label_name=name,
            label_value=value,
            vendor_id=self.vendor_id,
            until=self.until,
        )


def check_definition(using: str, rule: RuleDefinition, now: datetime) -> None:
    """Raise ``InvalidRule`` if something is wrong with the conditions, the action or the end of a rule."""
    if faults := [*_wrong_conditions(using, rule), *_wrong_action(rule, now)]:
        raise InvalidRule(faults)


def check_rule(using: str, rule: RuleDefinition, reason: str, now: datetime, *, may_match_all: bool) -> None:
    """Raise ``InvalidRule`` if a rule cannot be made.

    Args:
        using: database alias.
        rule: the rule.
        reason: why it is made.
        now: the database's time.
        may_match_all: whether a rule without any condition is intended.
    """
    faults = [*_wrong_conditions(using, rule), *_wrong_action(rule, now)]
    if not reason.strip():
        faults.append(("reason", _("Give a reason: it is kept with your name and the time.")))
    if rule.conditions.is_empty and not may_match_all:
        text = _("The rule has no condition, so it concerns every record. Add a condition, or confirm it.")
        faults.append(("may_match_all", text))
    if faults:
        raise InvalidRule(faults)


def describe_rule(rule: OutboxRule) -> str:
    """Return what a rule does in English words, for instance ``hold records of type email, product id prod-1``."""
    conditions = [
        f"{name} {value}"
        for name, value in (
            ("workspace", rule.workspace),
            ("type", rule.type),
            ("product id", rule.product_id),
            ("label", f"{rule.label_name}={rule.label_value}" if rule.label_name else ""),
            ("vendor id", rule.vendor_id),
        )
        if value
    ]
    return f"{rule.action} {'records with ' + ', '.join(conditions) if conditions else 'all records'}"


def _wrong_conditions(using: str, rule: RuleDefinition) -> Faults:
    if rule.workspace and rule.workspace not in affected_workspaces(using, ""):
        yield "workspace", _("There is no workspace %(name)s.") % {"name": rule.workspace}
    if rule.type and rule.type not in OPENAPI_TYPES:
        values = {"name": rule.type, "types": ", ".join(OPENAPI_TYPES)}
        yield "type", _("There is no type %(name)s. Types: %(types)s.") % values
    if rule.label is not None and not all(rule.label):
        yield "label", _("A condition on a label needs a name and a value.")
    label_name, label_value = rule.label or ("", "")
    texts = (
        ("product_id", "product_id", rule.product_id),
        ("vendor_id", "vendor_id", rule.vendor_id),
        ("label", "label_name", label_name),
        ("label", "label_value", label_value),
    )
    for entered, column, text in texts:
        field: Any = OutboxRule._meta.get_field(column)
        longest = field.max_length
        if len(text) > longest or not text.isprintable():
            values = {"field": field.verbose_name, "number": longest}
            error = _("%(field)s: at most %(number)s characters, without control characters.") % values
            yield entered, error


def _wrong_action(rule: RuleDefinition, now: datetime) -> Faults:
    if rule.action not in RuleAction.values:
        yield "action", _("There is no action %(name)s. Actions: hold, discard.") % {"name": rule.action}
    if rule.until is not None and rule.until <= now:
        yield "until", _("The rule would be over already: its end must be in the future.")
