"""NUL in an address or a form: no page of the admin fails, on the database that refuses NUL in text."""

from __future__ import annotations

import itertools
from urllib.parse import quote

import pytest
from django.apps import apps
from django.conf import settings as project
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from evermuse_outbox.models import BatchState, OutboxAction, OutboxBatch, OutboxRecord
from tests.admin import rows
from tests.admin.client import url

pytestmark = [
    pytest.mark.django_db(databases=["default", "postgres"]),
    pytest.mark.skipif("postgres" not in project.DATABASES, reason="no postgres"),
]

VALUES = ("a\0b", "1\0", "\ud83d")
OF_DJANGO = ("q", "o", "p", "all", "e", "pk", "id__exact", "_changelist_filters", "unknown")

PAGES = [
    model for model in apps.get_app_config("evermuse_outbox").get_models() if admin.site.is_registered(model)
]


class ToPostgres:
    def db_for_read(self, model, **hints):
        return "postgres" if model._meta.app_label == "evermuse_outbox" else None

    db_for_write = db_for_read


@pytest.fixture(autouse=True)
def on_postgres(settings):
    settings.DATABASE_ROUTERS = [ToPostgres()]


def address(model, view, *args):
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{view}", args=args)


def encoded(value):
    return quote(value.encode("utf-8", "surrogatepass"))


def parameters(model):
    """Return every parameter of the filters of a list, and those that Django reads."""
    page = admin.site.get_model_admin(model)
    names = {getattr(entry, "parameter_name", None) for entry in page.list_filter}
    names |= {name for entry in page.list_filter for name in getattr(entry, "parameters", ())}
    return sorted({*OF_DJANGO, *(name for name in names if name)})


@pytest.mark.parametrize("model", PAGES, ids=lambda model: model._meta.model_name)
def test_no_parameter_of_a_list_is_an_error(admin_client: Client, model) -> None:
    rows.rejected()
    for name, value in itertools.product(parameters(model), VALUES):
        query = f"{name}={encoded(value)}"
        response = admin_client.get(f"{address(model, 'changelist')}?{query}", follow=True)
        assert response.status_code < 500, query
    names = "&".join(f"{name}={encoded('a')}%00" for name in parameters(model))
    assert admin_client.get(f"{address(model, 'changelist')}?{names}", follow=True).status_code < 500


@pytest.mark.parametrize(
    "model",
    [model for model in PAGES if not model._meta.proxy],
    ids=lambda model: model._meta.model_name,
)
def test_no_object_id_is_an_error(admin_client: Client, model) -> None:
    page = address(model, "change", "OBJECT")
    for value in ("%00", "1%00", "_00", "1_00", "a%00b"):
        assert admin_client.get(page.replace("OBJECT", value), follow=True).status_code < 500


def test_no_form_is_an_error(admin_client: Client) -> None:
    record, batch = rows.rejected(), rows.batch(BatchState.IN_DOUBT)
    nul = dict.fromkeys(("reason", "action", "confirmed", "back", "envelope", "_selected_action"), "a\x00b")
    forms = [
        (url("record", "edit", record.pk), {}),
        (url("batch", "exit", batch.pk), {"action": "retry_now"}),
        (url("record", "start", record.pk, "retry"), {}),
        (url("record", "changelist"), {"action": "start_retry", "select_across": "1", "index": "0"}),
        (url("group", "pause"), {"workspace": "default", "type": "mess\0age", "product_id": "a\0b"}),
    ]
    for page, fields in forms:
        assert admin_client.post(page, {**nul, **fields}).status_code < 500, page
    assert OutboxBatch.objects.get(pk=batch.pk).due_at < rows.timezone.now()
    assert (
        OutboxAction.objects.filter(kind="retry_now", reason="ab").exists() or OutboxAction.objects.exists()
    )
    assert OutboxRecord.objects.get(pk=record.pk)
