"""Addresses of the admin, and what a logged-in client reads there."""

from __future__ import annotations

from typing import Any

from django.contrib.messages import get_messages
from django.test import Client
from django.urls import reverse

URLS = {
    "record": "outboxrecord",
    "batch": "outboxbatch",
    "workspace": "outboxworkspace",
    "group": "outboxgroup",
    "action": "outboxaction",
    "operation": "outboxoperation",
    "rule": "outboxrule",
}


def url(model: str, view: str, *args: Any) -> str:
    """Return an address of the admin, such as ``url("record", "change", 7)``."""
    return reverse(f"admin:evermuse_outbox_{URLS[model]}_{view}", args=args)


def page_text(client: Client, address: str) -> str:
    """Return the HTML of a page, which must exist and must not contain the API key of the test settings."""
    response = client.get(address)
    assert response.status_code == 200, (address, response.status_code, response.get("Location"))
    text = response.content.decode()
    assert "em_sk_test" not in text
    return text


def listed_ids(client: Client, model: str = "record", **query: object) -> set[Any]:
    """Return the ids on the first page of a list."""
    response = client.get(url(model, "changelist"), query)
    assert response.status_code == 200, response.get("Location")
    return {row.pk for row in response.context["cl"].result_list}


def messages_of(response: Any) -> str:
    """Return the messages that a response shows, in one line."""
    return " ".join(str(message) for message in get_messages(response.wsgi_request))
