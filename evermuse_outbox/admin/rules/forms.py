"""The forms that make a standing rule: its conditions, and the confirmation with the reason."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ...evermuse.records import OPENAPI_TYPES
from ...models import RuleAction
from ...operations import InvalidRule, RuleDefinition
from ...timing import read_time

LONG = {"class": "vTextField"}
"""Attributes of a text field as Django's admin has them."""


class RuleForm(forms.Form):
    """What a rule does with which records, and until when: the options of ``outbox_rule add``."""

    action = forms.ChoiceField(label=_("action"), choices=RuleAction.choices)
    workspace = forms.ChoiceField(label=_("workspace"), required=False)
    type = forms.ChoiceField(
        label=_("type"),
        required=False,
        choices=[("", _("every type")), *((name, name) for name in OPENAPI_TYPES)],
    )
    product_id = forms.CharField(
        label=_("product id"), required=False, strip=False, widget=forms.TextInput(LONG)
    )
    label = forms.CharField(
        label=_("label"), required=False, help_text=_("NAME=VALUE"), widget=forms.TextInput(LONG)
    )
    vendor_id = forms.CharField(
        label=_("vendor id"),
        required=False,
        strip=False,
        widget=forms.TextInput(LONG),
        help_text=_("Pattern of an entry of _vendor_ids: VALUE or NAME=VALUE, each with * and ?."),
    )
    until = forms.CharField(
        label=_("until"),
        required=False,
        help_text=_("A duration such as 2h, or a time. Empty: until a person ends the rule."),
    )

    def __init__(
        self, using: str, workspaces: list[str], *, may_see_payloads: bool, entered: Any = None
    ) -> None:
        # The preview repeats the fields as hidden ones, and an id must be unique in a page.
        super().__init__(entered, auto_id=False)
        self._using = using
        names: Any = [(name, name or _("every workspace")) for name in workspaces]
        self.fields["workspace"].choices = names  # type: ignore[attr-defined]
        # A user who sees only some workspaces must choose one of them.
        self.fields["workspace"].required = "" not in workspaces
        if not may_see_payloads:
            del self.fields["vendor_id"]

    def clean_label(self) -> tuple[str, str] | None:
        """Return name and value of the label."""
        name, _equals, value = self.cleaned_data["label"].partition("=")
        return (name, value) if self.cleaned_data["label"] else None

    def clean_until(self) -> Any:
        """Return the time at which the rule ends."""
        text = self.cleaned_data["until"]
        try:
            return read_time(text, self._using) if text else None
        except ValueError as error:
            raise forms.ValidationError(gettext("Enter a duration such as 2h or 3d, or a time.")) from error

    def definition(self) -> RuleDefinition:
        """Return the rule of a form without errors."""
        return RuleDefinition(**self.cleaned_data)


class ConfirmationForm(forms.Form):
    """The reason of a rule, and the confirmation of a rule without any condition."""

    reason = forms.CharField(
        label=_("Reason (kept with your name and the time)"),
        max_length=1_000,
        widget=forms.TextInput(LONG),
    )
    may_match_all = forms.BooleanField(
        label=_("No condition was entered: the rule shall concern every record."), required=False
    )

    def __init__(self, rule: RuleDefinition, entered: Any = None) -> None:
        super().__init__(entered, auto_id=False)
        if not rule.conditions.is_empty:
            del self.fields["may_match_all"]


def add_faults(error: InvalidRule, *shown: forms.Form) -> None:
    """Show each fault at its field of one of the forms; above the first form if none of them has the field."""
    for name, sentence in error.faults:
        form = next((form for form in shown if name in form.fields), shown[0])
        form.add_error(name if name in form.fields else None, sentence)
