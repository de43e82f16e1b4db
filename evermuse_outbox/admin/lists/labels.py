"""Filters of records by run and by label, through the index of labelled records."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from django.contrib.admin import SimpleListFilter
from django.db.models import F, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from ...models import ById, OutboxLabelSet, OutboxRun
from ...runs import has_label_index
from ...search import parse_id
from .bounds import newest
from .inputs import InputFilter

MAX_SETS = 1_000
"""Maximum number of label sets whose records are listed: the newest ones."""

Rows = QuerySet[Any]


class RunFilter(SimpleListFilter):
    """Filter records by run; shown only if a link has set it, so that the user can remove it."""

    title = _("run")
    parameter_name = "run"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[Any, Any]]:
        """Return the run that a link has set."""
        pk = request.GET.get(self.parameter_name)
        if not pk:
            return []
        rows = OutboxRun.objects.using(model_admin.get_queryset(request).db).filter(pk=parse_id(pk))
        return [(pk, rows.values_list("name", flat=True).first() or f"#{pk}")]

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        """Return the records of the run."""
        pk = self.value()
        sets = OutboxLabelSet.objects.using(queryset.db)
        return _with_sets(queryset, sets.filter(run_id=parse_id(pk))) if pk else queryset


class LabelFilter(InputFilter):
    """Filter records by a label."""

    title = _("label")
    parameters: ClassVar[dict[str, Any]] = {"label": _("NAME=VALUE")}

    def queryset(self, request: HttpRequest, queryset: Any) -> Rows:
        """Return the records with that label."""
        if not self.value():
            return queryset  # type: ignore[no-any-return]
        name, _equals, value = self.value().partition("=")
        sets = OutboxLabelSet.objects.using(queryset.db)
        return _with_sets(queryset, sets.with_label(name.strip(), value.strip()))


def _with_sets(rows: Any, sets: QuerySet[Any]) -> Rows:
    """Return the records of these label sets; among the newest records if the index is not built yet."""
    pks = list(sets.order_by("-pk").values_list("pk", flat=True)[:MAX_SETS])
    if not pks:
        return rows.none()  # type: ignore[no-any-return]
    bounded = rows if has_label_index(rows.db) else newest(rows)
    return bounded.filter(ById(F("label_set_id"), pks))  # type: ignore[no-any-return]
