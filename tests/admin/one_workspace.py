"""Addresses of a host whose staff see one workspace: each class of the outbox with a ``get_queryset`` of its own."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib import admin
from django.urls import path

from evermuse_outbox.models import OutboxWorkspace

VISIBLE = "default"
"""The workspace that the staff see."""


class OfOneWorkspace:
    """Show the rows of one workspace; a mix-in for any ``ModelAdmin`` of the outbox."""

    def get_queryset(self, request: Any) -> Any:
        """Return the rows of the visible workspace."""
        rows = super().get_queryset(request)  # type: ignore[misc]
        if issubclass(rows.model, OutboxWorkspace):
            return rows.filter(pk=VISIBLE)
        names = {field.name for field in rows.model._meta.get_fields()}
        return rows.filter(workspace=VISIBLE) if "workspace" in names else rows  # workers are of no workspace


site = admin.AdminSite(name="admin")
for model in apps.get_app_config("evermuse_outbox").get_models():
    if admin.site.is_registered(model):
        of_outbox = type(admin.site.get_model_admin(model))
        site.register(model, type(of_outbox.__name__, (OfOneWorkspace, of_outbox), {}))

urlpatterns = [path("admin/", site.urls)]
