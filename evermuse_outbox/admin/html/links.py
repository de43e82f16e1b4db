"""Addresses of lists and rows, for a person who may not open all of them."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse


class Links:
    """Addresses of lists and rows in one admin site. An address is empty if the person may not open it."""

    def __init__(self, site: admin.AdminSite, request: HttpRequest) -> None:
        self.site, self.request = site, request

    def can_view(self, model: type[models.Model]) -> bool:
        """Return whether the site has the model and the person may view it."""
        registered = self.site._registry.get(model)
        return bool(registered and registered.has_view_permission(self.request))

    def list_of(self, model: type[models.Model], **filters: Any) -> str:
        """Return the address of a list with these filters. Filters that the list does not have are left out."""
        if not self.can_view(model):
            return ""
        known = self._filters(model)
        given = {name: value for name, value in filters.items() if name in known and value not in ("", None)}
        address = self._reverse(model, "changelist")
        return f"{address}?{urlencode(given)}" if given and address else address

    def row_of(self, model: type[models.Model], pk: Any) -> str:
        """Return the address of a row."""
        return self._reverse(model, "change", pk) if self.can_view(model) and pk else ""

    def _filters(self, model: type[models.Model]) -> set[str]:
        names: set[str] = set()
        for entry in self.site._registry[model].list_filter:
            names |= {getattr(entry, "parameter_name", "") or "", *getattr(entry, "parameters", ())}
        return names

    def _reverse(self, model: type[models.Model], view: str, *args: Any) -> str:
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}_{view}"
        try:
            return reverse(name, args=args, current_app=self.site.name)
        except NoReverseMatch:
            return ""
