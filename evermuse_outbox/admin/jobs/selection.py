"""What a person selected in a list: chosen rows, or everything that the filters of the list match.

A selection is stored with its job and read again while the members are collected. It is always read through the page's
``get_queryset`` and the person's own request. So a host that limits the rows of a page also limits its jobs.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import parse_qsl

from django.contrib.admin import AdminSite, ModelAdmin
from django.contrib.admin.views.main import SEARCH_VAR
from django.db import models
from django.http import HttpRequest, QueryDict

from ...models import OutboxBatch, OutboxRecord, describe_records
from ...operations.erasing import mask

MODELS: dict[str, type[models.Model]] = {"record": OutboxRecord, "batch": OutboxBatch}
"""Name in a stored selection → model of the list."""

INTERNAL = ("p", "o", "all", "_changelist_filters")
"""Parameters of a list that select no rows."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The rows of a list that a job gets.

    Attributes:
        model: a key of :data:`MODELS`: the model of the list.
        query: the filters and the search of the list, as a query string.
        ids: the chosen ids; None for everything that ``query`` matches.
    """

    model: str
    query: str
    ids: list[int] | None = None

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Selection:
        """Return the selection that a job stores."""
        return cls(**stored)

    def as_json(self) -> dict[str, Any]:
        """Return the selection as a job stores it."""
        return asdict(self)

    def describe(self, *, hides_texts: bool = False) -> str:
        """Return the selection in words. They are stored, so they are English in every language.

        ``hides_texts`` replaces what was searched for by a hash, because a job that erases must not store it.
        """
        name = {"record": "records", "batch": "batches"}[self.model]
        if self.ids is not None and self.model == "record":
            return describe_records(self.ids)
        if self.ids is not None:
            return f"batch #{self.ids[0]}" if len(self.ids) == 1 else f"{len(self.ids):,} chosen {name}"
        filters = [(key, value) for key, value in parse_qsl(self.query) if key not in INTERNAL]
        values = ", ".join(
            mask(key, value) if hides_texts and key == SEARCH_VAR else f"{key} = {value}"
            for key, value in filters
        )
        return f"all {name} with {values}" if filters else f"all {name}"

    def rows(self, site: AdminSite, request: HttpRequest, model: type[models.Model]) -> models.QuerySet[Any]:
        """Return the selected rows of ``model`` that the person may see.

        A selection of batches gives the rejected records of them, if ``model`` is that of the records.
        """
        rows = self._listed_rows(site, request)
        if rows.model is model:
            return rows
        records = _admin_of(site, OutboxRecord).get_queryset(request)
        return records.rejected().filter(batch__in=rows.order_by().values("pk"))  # type: ignore[attr-defined,no-any-return]

    def _listed_rows(self, site: AdminSite, request: HttpRequest) -> models.QuerySet[Any]:
        page = _admin_of(site, MODELS[self.model])
        if self.ids is not None:
            return page.get_queryset(request).filter(pk__in=self.ids)
        listed = copy.copy(request)
        listed.method, listed.GET = "GET", QueryDict(self.query)
        changes = page.get_changelist_instance(listed)
        return changes.get_queryset(listed)


def _admin_of(site: AdminSite, model: type[models.Model]) -> ModelAdmin[Any]:
    return site.get_model_admin(model)
