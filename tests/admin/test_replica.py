"""A host whose router reads from a replica that is behind: the admin shows it, and changes the current rows."""

from __future__ import annotations

import json
import random

import pytest
from django.conf import settings as project
from django.test import Client

from evermuse_outbox import jobs
from evermuse_outbox.models import (
    BatchState,
    OutboxAction,
    OutboxBatch,
    OutboxOperation,
    OutboxRecord,
    OutboxWorkspace,
)
from tests.admin import rows
from tests.admin.client import listed_ids, url
from tests.conftest import ALIASES

REPLICAS = [alias for alias in ALIASES if alias != "default" and alias in project.DATABASES]

pytestmark = [
    pytest.mark.django_db(databases=["default", *REPLICAS]),
    pytest.mark.skipif(not REPLICAS, reason="a replica needs a second database"),
]


class ReadFromReplicas:
    """Read the outbox from any of the replicas, as in Django's manual."""

    def db_for_read(self, model, **hints):
        return random.choice(REPLICAS) if model._meta.app_label == "evermuse_outbox" else None

    def db_for_write(self, model, **hints):
        return "default"


@pytest.fixture
def behind(settings):
    """Return a function that installs the router. From then on, nothing arrives on the replicas."""

    def install():
        settings.DATABASE_ROUTERS = ["tests.refusing_router.RefusingRouter", ReadFromReplicas()]

    return install


def on_primary(row):
    return type(row)._base_manager.using("default").get(pk=row.pk)


def nothing_was_written_to_the_replicas():
    models = (OutboxOperation, OutboxAction, OutboxWorkspace, OutboxRecord)
    return all(not model._base_manager.using(alias).exists() for model in models for alias in REPLICAS)


def test_the_list_shows_the_replica_and_a_job_gets_the_current_rows(changer: Client, behind) -> None:
    row = rows.rejected()
    behind()
    assert listed_ids(changer) == set()
    data = {"action": "start_retry", "_selected_action": [row.pk], "select_across": 1, "index": 0}
    changer.post(url("record", "changelist") + "?state=rejected", data)
    job = OutboxOperation.objects.using("default").get()
    assert job.total == 1
    changer.post(url("operation", "collect", job.pk))
    changer.post(url("operation", "job", job.pk), {"action": "confirm", "reason": "corrected"})
    jobs.run_operations("default", seconds=60)
    assert on_primary(row).closed_as is None
    assert nothing_was_written_to_the_replicas()


def test_the_search_of_a_list_asks_one_replica(changer: Client, behind) -> None:
    behind()
    for query in ("T-1", "#1", "text", "9f2d3c1e-3d5f-4f4e-8f1a-0d5b3f0c9f11"):
        assert listed_ids(changer, q=query, error="NO", state="rejected") == set()


def test_buttons_change_the_current_row(changer: Client, behind) -> None:
    row, record = rows.batch(BatchState.SEALED, record_count=2), rows.rejected()
    OutboxWorkspace.objects.using("default").pause("default", rows.timezone.now(), "HTTP 401")
    behind()
    changer.post(url("batch", "exit", row.pk), {"action": "give_up", "confirmed": 1, "reason": "no"})
    assert on_primary(row).state != BatchState.SEALED
    changer.post(url("workspace", "exit", "default"), {"action": "resume", "reason": "the key is new"})
    assert OutboxWorkspace.objects.using("default").get().state == "active"
    envelope = record.envelope() | {"_project_id": "proj"}
    changer.post(
        url("record", "edit", record.pk), {"envelope": json.dumps(envelope), "reason": "typing error"}
    )
    assert on_primary(record).closed_as == "superseded"
    assert nothing_was_written_to_the_replicas()


def test_a_button_of_a_replica_that_is_behind_changes_nothing_that_is_over(changer: Client, behind) -> None:
    row = rows.batch(BatchState.COMPLETE)
    OutboxBatch.objects.using("default").filter(pk=row.pk).update(remote_id="current")
    for alias in REPLICAS:
        row.state = BatchState.SEALED
        row.save(using=alias, force_insert=True)
    behind()
    changer.post(url("batch", "exit", row.pk), {"action": "give_up", "confirmed": 1, "reason": "no"})
    current = OutboxBatch.objects.using("default").get(pk=row.pk)
    assert (current.state, current.remote_id) == (BatchState.COMPLETE, "current")
