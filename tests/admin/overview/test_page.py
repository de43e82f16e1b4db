"""The overview page: what it says first, where its numbers lead, and what each person may see."""

from __future__ import annotations

import re
import uuid
from datetime import timedelta

import pytest
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from evermuse_outbox.admin import OutboxWorkspaceAdmin
from evermuse_outbox.models import (
    BatchState,
    IncidentKind,
    OutboxIncident,
    OutboxRecord,
    OutboxWorker,
    OutboxWorkspace,
    WorkspaceState,
)
from tests.rows import group

from .. import rows
from ..client import page_text

pytestmark = pytest.mark.django_db

MAX_STATEMENTS = 40
"""Statements of the page with one workspace: those of the figures, of the session and of the person."""


@pytest.fixture(autouse=True)
def one_database(outbox_settings):
    outbox_settings(DATABASES=["default"])


def address() -> str:
    return reverse("admin:evermuse_outbox_outboxoverview_changelist")


def worker(seconds_ago: float = 0) -> OutboxWorker:
    at = timezone.now() - timedelta(seconds=seconds_ago)
    fields = {"host": "web-1", "pid": 1234567, "version": "1", "command": "celery worker", "activity": "tick"}
    return OutboxWorker.objects.create(pk=uuid.uuid4(), started_at=at, last_seen_at=at, **fields)


def incident(kind: str, hours: float, ended: float | None = None, **fields: str) -> OutboxIncident:
    now = timezone.now()
    row = OutboxIncident(kind=kind, started_at=now - timedelta(hours=hours), **fields)
    OutboxIncident.objects.using("default").begin(row, row.started_at)
    if ended is not None:
        OutboxIncident.objects.using("default").end(row.pk, now - timedelta(hours=ended))
    return row


def links_of(text: str) -> list[str]:
    content = text[text.index('id="evermuse-overview"') :]
    return [link.replace("&amp;", "&") for link in re.findall(r'href="([^"]+)"', content)]


def test_a_healthy_outbox_says_so_first(admin_client: Client) -> None:
    worker()
    text = page_text(admin_client, address())
    assert "Nothing disturbs the delivery." in text
    assert "No incident." in text


def test_missing_workers_are_the_first_line(admin_client: Client) -> None:
    worker(500)
    group("default")
    text = page_text(admin_client, address())
    problems = re.findall(r'<div class="evermuse-explanation[^>]*><strong>(?:<a[^>]*>)?([^<]+)', text)
    assert problems[0] == "No worker seen for 3 minutes"
    assert problems[1].startswith("Group message")
    assert "outbox_relay" in text
    assert "Nothing disturbs" not in text


def test_a_blocked_workspace_says_until_when_and_what_to_do(admin_client: Client) -> None:
    worker()
    until = timezone.now() + timedelta(minutes=5)
    OutboxWorkspace.objects.create(
        name="default", state=WorkspaceState.PAUSED, reason="HTTP 401", blocked_until=until
    )
    incident(IncidentKind.WORKSPACE, 2, workspace="default", reason="HTTP 401")
    text = page_text(admin_client, address())
    assert "Workspace default: paused" in text
    assert "HTTP 401" in text
    assert f"{until:%H:%M:%S}" in text
    assert "outbox_resume --workspace default" in text
    assert "unknown: nothing is sent" not in text  # nothing is pending


def fill() -> None:
    worker()
    OutboxWorkspace.objects.get_or_create(name="default")
    accepted = rows.batch(BatchState.ACCEPTED, record_count=700)
    rows.attempt(accepted)
    rows.attempt(accepted, outcome="unavailable", status=None)
    for state in (BatchState.IN_DOUBT, BatchState.SEALED):
        rows.record(rows.batch(state))
    rows.batch(BatchState.COMPLETE, attachment_total=9, attachment_failed=2, next_poll_at=timezone.now())
    rows.rejected(product_id="legacy")
    for number in range(3):
        rows.record(product_id=f"p{number}", enqueued_at=timezone.now() - timedelta(minutes=10))
    incident(IncidentKind.BACKLOG, 3, 2, workspace="default", reason="slow & late")


def test_every_number_leads_to_the_list_that_it_counts(admin_client: Client) -> None:
    fill()
    text = page_text(admin_client, address())
    links = links_of(text)
    assert len(links) > 20
    for link in links:
        response = admin_client.get(link)
        assert response.status_code == 200, link
        assert "e=1" not in link


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("Pending records", 3),
        ("Batches: in doubt", 1),
        ("Batches: sealed", 1),
        ("Batches: accepted", 1),
        ("Records in flight", 2),
    ],
)
def test_a_list_has_as_many_rows_as_the_number_says(admin_client: Client, label: str, expected: int) -> None:
    fill()
    figures = {
        figure.label: figure for figure in admin_client.get(address()).context["workspaces"][0]["figures"]
    }
    rows_of_list = admin_client.get(figures[label].url).context["cl"].result_list
    assert len(rows_of_list) == expected


def test_rejections_lead_to_their_records(admin_client: Client) -> None:
    fill()
    rows.rejected(product_id="other")
    (first, second) = admin_client.get(address()).context["rejections"]
    for item in (first, second):
        listed = admin_client.get(item["url"]).context["cl"].result_list
        assert [row.product_id for row in listed] == [item["group"].product_id]


def test_every_figure_names_its_window(admin_client: Client) -> None:
    fill()
    (workspace,) = admin_client.get(address()).context["workspaces"]
    assert {figure.window for figure in workspace["figures"]} == {
        "now",
        "last minute",
        "last hour",
        "estimate",
    }


def test_a_timeline_of_the_last_day(admin_client: Client) -> None:
    incident(IncidentKind.BACKLOG, 6, 3, workspace="default")
    incident(IncidentKind.GROUP, 48, workspace="default", subject="message · x")
    text = page_text(admin_client, address())
    late, early = admin_client.get(address()).context["timeline"]
    assert (late.tone, late.x, late.width) == ("care", pytest.approx(750, abs=2), pytest.approx(125, abs=2))
    assert (early.tone, early.x, early.width) == ("bad", 0.0, 1000.0)
    assert "records wait too long" in text


def test_the_page_has_no_inline_code_and_refreshes_itself(admin_client: Client) -> None:
    fill()
    text = page_text(admin_client, address())
    content = text[text.index('id="evermuse-overview"') :]
    assert 'data-evermuse-refresh="5"' in content
    assert '<noscript><meta http-equiv="refresh"' in text
    for forbidden in (" style=", "<style", " onclick=", "javascript:"):
        assert forbidden not in content
    assert "1234567" in content  # the process id, without a thousand separator


def test_the_overview_is_the_first_entry_of_the_app(admin_client: Client) -> None:
    response = admin_client.get(reverse("admin:app_list", args=["evermuse_outbox"]))
    names = [model["object_name"] for model in response.context["app_list"][0]["models"]]
    assert names[0] == "OutboxOverview"


def test_permissions(person) -> None:
    fill()
    assert person().get(address()).status_code == 403
    assert person("view_outboxrecord").get(address()).status_code == 403
    text = page_text(person("view_outboxoverview"), address())
    assert "Pending records" in text
    assert "No such product" not in text, "it needs the permission to view records"
    assert links_of(text) == []
    assert "No such product" in page_text(person("view_outboxworkspace", "view_outboxrecord"), address())


def test_a_person_who_sees_one_workspace_sees_no_other_one(
    admin_client: Client, outbox_settings, monkeypatch
) -> None:
    outbox_settings(DATABASES=["default"], WORKSPACES={"eu": {"API_KEY": "em_sk_eu"}})
    OutboxWorkspace.objects.create(name="default")
    OutboxWorkspace.objects.create(name="eu", state=WorkspaceState.PAUSED, reason="secret of eu")
    incident(IncidentKind.WORKSPACE, 1, workspace="eu", reason="secret of eu")
    assert "secret of eu" in page_text(admin_client, address())

    class OneWorkspace(OutboxWorkspaceAdmin):
        def get_queryset(self, request):
            return super().get_queryset(request).filter(pk="default")

    monkeypatch.setitem(admin.site._registry, OutboxWorkspace, OneWorkspace(OutboxWorkspace, admin.site))
    text = page_text(admin_client, address())
    assert "secret of eu" not in text
    assert "Workspace default" in text


def test_the_number_of_statements_does_not_grow(admin_client: Client) -> None:
    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert admin_client.get(address()).status_code == 200
        return len(queries)

    fill()
    count()  # the first page of a process also measures the clock of the database
    few = count()
    for _ in range(3):
        fill()
    assert count() == few <= MAX_STATEMENTS


def test_there_are_no_pages_of_rows(admin_client: Client) -> None:
    OutboxWorkspace.objects.create(name="default")
    assert admin_client.get(f"{address()}default/change/").status_code == 404


# --- the lists ----------------------------------------------------------------------------------------


def listed(client: Client, model: str, **query: str) -> list:
    response = client.get(reverse(f"admin:evermuse_outbox_{model}_changelist"), query)
    assert response.status_code == 200, response.get("Location")
    return list(response.context["cl"].result_list)


def test_the_list_and_page_of_workers(admin_client: Client) -> None:
    new, old = worker(), worker(1_000)
    assert listed(admin_client, "outboxworker") == [new, old]
    assert listed(admin_client, "outboxworker", seen="now") == [new]
    assert listed(admin_client, "outboxworker", seen="before") == [old]
    page = reverse("admin:evermuse_outbox_outboxworker_change", args=[new.pk])
    assert "At work" in page_text(admin_client, page)
    assert "not seen for 3 minutes" in page_text(admin_client, page.replace(str(new.pk), str(old.pk)))


def test_the_list_and_page_of_incidents(admin_client: Client) -> None:
    over = incident(IncidentKind.BACKLOG, 5, 4, reason="slow")
    still = incident(IncidentKind.GROUP, 2, subject="message · x", reason="refused")
    assert listed(admin_client, "outboxincident") == [still, over]
    assert listed(admin_client, "outboxincident", open="1") == [still]
    assert listed(admin_client, "outboxincident", open="0") == [over]
    assert listed(admin_client, "outboxincident", kind="backlog") == [over]
    page = reverse("admin:evermuse_outbox_outboxincident_change", args=[still.pk])
    assert "It is not over." in page_text(admin_client, page)


def test_the_list_and_page_of_attempts(admin_client: Client) -> None:
    batch = rows.batch()
    new = rows.attempt(batch)
    failed = rows.attempt(batch, outcome="unavailable", status=503)
    silent = rows.attempt(batch, outcome="in_doubt", status=None)
    old = rows.attempt(None or batch, started_at=timezone.now() - timedelta(hours=3))
    assert listed(admin_client, "outboxattempt") == [old, silent, failed, new]
    assert listed(admin_client, "outboxattempt", time="hour") == [silent, failed, new]
    assert listed(admin_client, "outboxattempt", status="503") == [failed]
    assert listed(admin_client, "outboxattempt", status="none") == [silent]
    assert listed(admin_client, "outboxattempt", outcome="accepted", call="ingest") == [old, new]
    page = reverse("admin:evermuse_outbox_outboxattempt_change", args=[failed.pk])
    assert f"#{batch.pk}" in page_text(admin_client, page)


def test_batches_by_their_end_and_their_attachments(admin_client: Client) -> None:
    lately = rows.batch(BatchState.COMPLETE, attachment_total=3, attachment_failed=1)
    fetching = rows.batch(BatchState.COMPLETE, attachment_total=3, next_poll_at=timezone.now())
    rows.batch(BatchState.COMPLETE, finished_at=timezone.now() - timedelta(hours=2))
    assert listed(admin_client, "outboxbatch", time="hour") == [fetching, lately]
    assert listed(admin_client, "outboxbatch", attachments="failed") == [lately]
    assert listed(admin_client, "outboxbatch", attachments="progress") == [fetching]
    assert OutboxRecord.rows.count() == 0
