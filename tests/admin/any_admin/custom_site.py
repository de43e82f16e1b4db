"""Addresses of a host with two admin sites: Django's, and a second one of another class, name and prefix."""

from __future__ import annotations

from django.apps import apps
from django.contrib import admin
from django.urls import path


class OperationsSite(admin.AdminSite):
    """The second site. It has the models of the outbox, each with the class that Django's site has for it."""

    site_header = "Operations"


operations = OperationsSite(name="operations")
for model in apps.get_app_config("evermuse_outbox").get_models():
    if admin.site.is_registered(model):
        operations.register(model, type(admin.site.get_model_admin(model)))

urlpatterns = [
    path("django/", admin.site.urls),
    path("tools/operations/", operations.urls),
]
