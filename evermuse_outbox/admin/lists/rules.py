"""Filter of records by standing rule, through the small tables that name the rule of a record."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.admin import SimpleListFilter
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from ...models import OutboxDeferral, OutboxRuleMatch, by_id
from ...search import parse_id

MAX_RECORDS = 5_000
"""Maximum number of records of a rule that are listed: the newest ones."""

Rows = QuerySet[Any]


class RuleFilter(SimpleListFilter):
    """Filter records by the rule that holds or has discarded them; shown only if a link has set it."""

    title = _("standing rule, its newest 5,000 records")
    parameter_name = "rule"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[Any, Any]]:
        """Return the rule that a link has set."""
        pk = request.GET.get(self.parameter_name)
        return [(pk, f"#{pk}")] if pk else []

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        """Return the newest records that the rule holds now, or has discarded."""
        pk = self.value()
        return queryset.filter(by_id(_records_of(queryset.db, parse_id(pk)))) if pk else queryset


def _records_of(using: str, rule: int) -> list[int]:
    """Return the ids of the newest records of a rule."""
    tables = (OutboxDeferral.objects.using(using), OutboxRuleMatch.objects.using(using))
    pks = [
        pk
        for table in tables
        for pk in table.of_rule(rule).order_by("-pk").values_list("pk", flat=True)[:MAX_RECORDS]
    ]
    return sorted(pks, reverse=True)[:MAX_RECORDS]
