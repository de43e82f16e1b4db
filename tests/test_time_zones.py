"""The outbox works the same in a project with or without time zone support."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.urls import reverse

from evermuse_outbox import outbox
from evermuse_outbox.delivery.context import Clock, DatabaseThrottle, open_context
from evermuse_outbox.delivery.loop import seal_next
from evermuse_outbox.delivery.scanning import group_scan
from evermuse_outbox.insight import explain_record
from evermuse_outbox.models import OutboxBatch, OutboxRecord, OutboxWorkspace
from evermuse_outbox.ratelimit import Limit
from evermuse_outbox.sandbox import Fault, Sandbox
from evermuse_outbox.testing import deliver
from evermuse_outbox.upkeep import purge_old_rows, rescue_batches
from tests.records import enqueue, record

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("use_tz", "zone"), [(False, "UTC"), (False, "Asia/Tokyo"), (True, "America/New_York")]
)
def test_a_record_is_delivered_explained_and_purged_in_any_time_zone(settings, client, use_tz, zone):
    settings.USE_TZ, settings.TIME_ZONE = use_tz, zone
    row = outbox.enqueue(record(1))
    assert explain_record(row)
    with Sandbox(rate_limit=100_000, batch_seconds=0) as sandbox:
        assert len(deliver(sandbox).delivered) == 1
    assert [row.state for row in OutboxRecord.objects.all()] == ["delivered"]
    assert (
        rescue_batches("default", Clock.of("default")),
        purge_old_rows("default", Clock.of("default"), 1),
    ) == (0, 0)
    call_command("outbox_status")
    client.force_login(User.objects.create_superuser("admin"))
    for name, pk in (("outboxrecord", row.pk), ("outboxbatch", OutboxBatch.objects.get().pk)):
        assert client.get(reverse(f"admin:evermuse_outbox_{name}_changelist")).status_code == 200
        assert client.get(reverse(f"admin:evermuse_outbox_{name}_change", args=[pk])).status_code == 200


@pytest.mark.parametrize("use_tz", [True, False])
def test_a_batch_in_doubt_is_found_in_the_listing_in_any_time_zone(settings, use_tz):
    settings.USE_TZ, settings.TIME_ZONE = use_tz, "Asia/Tokyo"
    settings.EVERMUSE_OUTBOX = settings.EVERMUSE_OUTBOX | {"IDEMPOTENCY_KEY_TTL": 0, "DATABASES": ["default"]}
    enqueue("default", 1)
    with Sandbox(rate_limit=100_000, batch_seconds=0) as sandbox:
        sandbox.fail_next(Fault.drop_after())
        deliver(sandbox)
        assert len([arrival for arrival in sandbox.arrivals if arrival.method == "POST"]) == 1
    assert [row.state for row in OutboxRecord.objects.all()] == ["delivered"]


@pytest.mark.parametrize("use_tz", [True, False])
def test_the_database_throttle_works_in_any_time_zone(settings, use_tz):
    settings.USE_TZ = use_tz
    throttle = DatabaseThrottle("default", "scope", Limit(1, 100.0))
    assert throttle.reserve(0).taken
    assert 99 < throttle.reserve(0).wait <= 100
    assert throttle.acquire().permit
    assert not throttle.acquire().permit


@pytest.mark.parametrize("use_tz", [True, False])
def test_a_group_scan_in_parts_works_in_any_time_zone(alias, settings, monkeypatch, use_tz):
    settings.USE_TZ, settings.TIME_ZONE = use_tz, "Asia/Tokyo"
    settings.EVERMUSE_OUTBOX = settings.EVERMUSE_OUTBOX | {"MAX_BATCH_RECORDS": 2, "LINGER": 0}
    monkeypatch.setattr(group_scan, "MAX_GROUPS", 2)  # of three groups; one that fills requests is remembered
    for number in range(12):
        enqueue(alias, number, _product_id=f"p{number % 3}")
    context = open_context(alias, "default")
    sealed = [seal_next(context) for _ in range(9)]
    assert sum(len(batch.members) for batch in sealed if batch) == 12


@pytest.mark.parametrize("use_tz", [True, False])
def test_a_stored_run_queue_is_usable_after_the_project_changes_use_tz(alias, settings, use_tz):
    settings.USE_TZ, settings.TIME_ZONE = not use_tz, "Asia/Tokyo"
    settings.EVERMUSE_OUTBOX = settings.EVERMUSE_OUTBOX | {"MAX_BATCH_RECORDS": 2, "LINGER": 0}
    enqueue(alias, *range(6))
    context = open_context(alias, "default")
    assert len(seal_next(context).members) == 2
    assert OutboxWorkspace.objects.using(alias).get().run_queue["resume_points"]
    settings.USE_TZ = use_tz
    sealed = [seal_next(context) for _ in range(3)]
    assert sum(len(batch.members) for batch in sealed if batch) == 4
