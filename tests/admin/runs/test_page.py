"""Runs in the admin: the list, the page, the button, and the filters of records by run and label."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.urls import reverse

from evermuse_outbox import outbox
from evermuse_outbox.admin.runs.drawing import draw_progress
from evermuse_outbox.insight import collect_overview
from evermuse_outbox.models import OutboxAction, OutboxRecord, OutboxRejection, OutboxRun
from tests.admin import rows
from tests.records import record

pytestmark = pytest.mark.django_db


@pytest.fixture
def run():
    made = outbox.start_run("nightly", labels={"source": "crm"}, expected=4)
    outbox.enqueue_many(map(record, range(3)), run=made)
    return made


def page_of(client, run):
    return client.get(reverse("admin:evermuse_outbox_outboxrun_change", args=[run.id])).content.decode()


def records(client, **filters):
    response = client.get(reverse("admin:evermuse_outbox_outboxrecord_changelist"), filters)
    assert response.status_code == 200
    return [row.pk for row in response.context["cl"].result_list]


def members():
    return list(
        OutboxRecord.rows.filter(label_set_id__isnull=False).order_by("-pk").values_list("pk", flat=True)
    )


def test_the_list_shows_what_workers_have_counted(admin_client, run):
    OutboxRun.objects.update(counts={"delivered": 2, "pending": 1})
    text = admin_client.get(reverse("admin:evermuse_outbox_outboxrun_changelist")).content.decode()
    assert "nightly" in text
    assert "2 / 4" in text
    for state, is_shown in (("unfinished", True), ("finished", False), ("person", False)):
        url = reverse("admin:evermuse_outbox_outboxrun_changelist")
        assert bool(admin_client.get(url, {"state": state}).context["cl"].result_list) == is_shown


def test_the_page_has_counts_with_links_and_the_rejections_by_error(admin_client, run):
    pk = members()[0]
    OutboxRecord.rows.filter(pk=pk).update(closed_as="rejected")
    batch = rows.batch("refused")
    OutboxRejection.objects.create(
        record_id=pk,
        batch=batch,
        position=0,
        code="BAD",
        message="No such product 7.",
        rejected_at=batch.sealed_at,
    )
    text = page_of(admin_client, run)
    for words in (
        "source=crm",
        "BAD",
        "is open",
        f"?run={run.id}&amp;state=pending",
        f"?run={run.id}&amp;state=rejected",
    ):
        assert words in text


def test_the_page_draws_the_progress(admin_client, run):
    OutboxRun.objects.update(history=[[0, 0, 4], [60, 2, 4]])
    assert "polyline" in page_of(admin_client, run)
    assert draw_progress([[0, 0, 0]]) is None
    plot = draw_progress([[0, 0, 4], [60, 2, 4]])
    assert (plot.ended, plot.total) == ("0.0,120.0 1000.0,60.0", "0.0,0.0 1000.0,0.0")


def test_a_large_run_is_not_counted_by_a_page(admin_client, run, django_assert_num_queries):
    OutboxRun.objects.update(counts={"delivered": 5_000_000})
    assert "5,000,000" in page_of(admin_client, run)


def test_a_person_closes_a_run_with_a_reason(admin_client, person, run):
    url = reverse("admin:evermuse_outbox_outboxrun_exit", args=[run.id])
    assert person("view_outboxrun").post(url, {"action": "close"}).status_code == 403
    assert "Close the run" in page_of(admin_client, run)
    admin_client.post(url, {"action": "close", "reason": "given up"})
    action = OutboxAction.objects.get()
    assert (action.kind, action.reason, action.by) == ("close_run", "given up", "admin")
    assert OutboxRun.objects.get().closed_at
    assert "Close the run" not in page_of(admin_client, run)


def test_records_are_filtered_by_run_and_label(admin_client, run):
    outbox.enqueue(record(7), labels={"source": "erp"})
    outbox.enqueue(record(8))
    erp, *of_run = members()
    assert records(admin_client, run=run.id) == of_run
    assert records(admin_client, label="source=crm") == of_run
    assert records(admin_client, label="source=erp") == [erp]
    assert records(admin_client, label="source=none") == []
    assert records(admin_client, label="nonsense") == []
    assert records(admin_client, run="x") == []


def test_the_page_of_a_record_has_its_labels_and_its_run(admin_client, run):
    url = reverse("admin:evermuse_outbox_outboxrecord_change", args=[members()[0]])
    text = admin_client.get(url).content.decode()
    assert "source=crm" in text
    assert reverse("admin:evermuse_outbox_outboxrun_change", args=[run.id]) in text


def test_the_overview_lists_runs_that_are_not_finished(admin_client, run):
    OutboxRun.objects.update(counts={"delivered": 1, "rejected": 1, "pending": 1})
    outbox.start_run("done").close()
    OutboxRun.objects.filter(name="done").update(finished_at=OutboxRun.objects.get(name="done").closed_at)
    (figures,) = collect_overview("default").runs
    assert (figures.name, figures.ended, figures.rejected, figures.total) == ("nightly", 2, 1, 4)
    text = admin_client.get(reverse("admin:evermuse_outbox_outboxoverview_changelist")).content.decode()
    assert reverse("admin:evermuse_outbox_outboxrun_change", args=[run.id]) in text


def test_a_person_without_the_list_of_records_gets_no_links_to_it(client, run):
    person = get_user_model().objects.create_user("ada", is_staff=True)
    person.user_permissions.add(Permission.objects.get(codename="view_outboxrun"))
    client.force_login(person)
    text = page_of(client, run)
    assert "pending" in text
    assert "outboxrecord" not in text
    person.user_permissions.add(Permission.objects.get(codename="view_outboxrecord"))
    assert f"outboxrecord/?run={run.id}&amp;state=pending" in page_of(client, run)
