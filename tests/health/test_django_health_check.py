"""The check for django-health-check: its view shows which checks of the outbox fail."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from django.test import RequestFactory
from health_check.exceptions import ServiceUnavailable
from health_check.views import HealthCheckView

from evermuse_outbox.database_clock import database_now
from evermuse_outbox.health import django_health_check
from evermuse_outbox.health.django_health_check import OutboxHealthCheck
from evermuse_outbox.models import OutboxWorker

CHECK = "evermuse_outbox.health.django_health_check.OutboxHealthCheck"


def test_it_fails_without_workers_and_names_no_workspace(alias, outbox_settings):
    outbox_settings(DATABASES=[alias])
    with pytest.raises(ServiceUnavailable, match=r"the outbox does not deliver: workers$"):
        OutboxHealthCheck().run()


def test_it_passes_with_a_worker(alias, outbox_settings):
    outbox_settings(DATABASES=[alias])
    now = database_now(alias)
    columns = {"host": "a", "pid": 1, "version": "0", "command": "celery worker", "activity": "relay"}
    worker = OutboxWorker.objects.using(alias).create(started_at=now, last_seen_at=now, **columns)
    OutboxHealthCheck().run()
    OutboxWorker.objects.using(alias).filter(pk=worker.pk).update(last_seen_at=now - timedelta(hours=1))
    with pytest.raises(ServiceUnavailable):
        OutboxHealthCheck().run()


@pytest.mark.parametrize(("state", "status"), [("ok", 200), ("failing", 500)])
def test_the_view_of_the_project_runs_it(monkeypatch, state, status):
    monkeypatch.setattr(django_health_check, "read_health", lambda: {"checks": {"lag": state}})
    view = HealthCheckView.as_view(checks=[CHECK])
    response = asyncio.run(view(RequestFactory().get("/health/", headers={"accept": "application/json"})))
    assert response.status_code == status
    assert ("does not deliver: lag" in response.content.decode()) == (state == "failing")
