"""Addresses of every host: the admin, and pages that enqueue a record that Evermuse accepts and one that it rejects."""

from __future__ import annotations

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.urls import path

from example_project.support.models import Conversation
from tests.records import enqueue


def enqueue_page(request: HttpRequest) -> JsonResponse:
    """Save a row of the host and enqueue both records in one transaction. Return the ids of the records."""
    with transaction.atomic():
        Conversation.objects.create(subject="Order", customer_name="Zoë", customer_email="zoe@example.com")
        rows = enqueue("default", 1, 2, invalid={2}, data={"text": settings.TEXT})
    return JsonResponse({"ids": [row.pk for row in rows]})


async def async_enqueue_page(request: HttpRequest) -> JsonResponse:
    """Do the same from a coroutine."""
    return await sync_to_async(enqueue_page)(request)


urlpatterns = [
    path("enqueue/", enqueue_page),
    path("async/enqueue/", async_enqueue_page),
    path("admin/", admin.site.urls),
]
