"""The health view: a status, and no detail that must not be public."""

from __future__ import annotations

import json
import uuid

import pytest
from django.db import OperationalError
from django.test import RequestFactory
from django.urls import include, path, reverse

from evermuse_outbox import health
from evermuse_outbox.database_clock import database_now
from evermuse_outbox.health import view
from evermuse_outbox.models import OutboxWorker, OutboxWorkspace, WorkspaceState
from tests.rows import group

urlpatterns = [path("health/outbox/", include("evermuse_outbox.health"))]

OK = dict.fromkeys(("database", "workers", "workspace", "group", "lag"), "ok")


@pytest.fixture
def at_work(alias, outbox_settings):
    outbox_settings(DATABASES=[alias])
    now = database_now(alias)
    fields = {"host": "h", "pid": 1, "version": "1", "command": "c", "activity": "a"}
    OutboxWorker.objects.using(alias).create(pk=uuid.uuid4(), started_at=now, last_seen_at=now, **fields)


def ask(method="get"):
    response = health.health(getattr(RequestFactory(), method)("/"))
    return response.status_code, response


def test_a_healthy_outbox(alias, at_work):
    status, response = ask()
    assert (status, json.loads(response.content)) == (200, {"status": "ok", "checks": OK})
    assert "no-store" in response["Cache-Control"]


def test_a_failure_has_no_detail(alias, at_work):
    OutboxWorkspace.objects.using(alias).create(
        name="default", state=WorkspaceState.PAUSED, reason="401 secret"
    )
    group(alias)
    status, response = ask()
    expected = {"status": "failing", "checks": OK | {"workspace": "failing", "group": "failing"}}
    assert (status, json.loads(response.content)) == (503, expected)
    assert ask("head")[0] == 503
    assert ask("post")[0] == 405


def test_a_database_that_does_not_answer(alias, at_work, monkeypatch):
    def fail(using):
        raise OperationalError("no connection to secret-host")

    monkeypatch.setattr(view, "find_problems", fail)
    status, response = ask()
    assert (status, json.loads(response.content)["checks"]) == (503, OK | {"database": "failing"})


@pytest.mark.urls(__name__)
@pytest.mark.django_db
def test_the_address(client, outbox_settings):
    outbox_settings(DATABASES=["default"])
    assert reverse("evermuse_outbox_health") == "/health/outbox/"
    response = client.get("/health/outbox/")
    assert response.json()["checks"]["workers"] == "failing"
