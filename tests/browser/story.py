"""A day of a support desk as rows, for the pictures in the documentation."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from django.utils import timezone

from evermuse_outbox.models import (
    BatchState,
    IncidentKind,
    OperationState,
    OutboxBatch,
    OutboxIncident,
    OutboxOperation,
    OutboxRecord,
    OutboxRejection,
    OutboxWorker,
    OutboxWorkspace,
    WorkspaceState,
)
from tests.admin import rows

PRODUCTS = ("prod-support", "prod-sales", "prod-billing")
ERRORS = (
    ("VALIDATION_ERROR", "data.participants: at least one participant is required.", 31),
    ("VALIDATION_ERROR", "_project_id: no such project in this workspace.", 12),
)


def tell() -> None:
    """Create the rows: an hour of deliveries, two workers, a backlog, rejections, a failed batch and a job."""
    now = timezone.now()
    OutboxWorkspace.objects.create(name="default", state=WorkspaceState.ACTIVE)
    _work(now)
    _deliver(now)
    _wait(now)
    _reject(now)
    _fail_and_recover(now)
    _repair(now)


def _work(now: datetime) -> None:
    for host, activity in (("web-1", "default: send"), ("web-2", "default: poll")):
        OutboxWorker.objects.create(
            host=host, pid=4711, version="0.1.0", command="celery worker", started_at=now - timedelta(hours=9),
            last_seen_at=now - timedelta(seconds=4), activity=activity,
        )  # fmt: skip


def _deliver(now: datetime) -> None:
    """Finish a few batches in each minute of the last hour."""
    for minute in range(60):
        at = now - timedelta(minutes=minute)
        for product in PRODUCTS:
            count = int(300 + 250 * math.sin(minute / 9) ** 2) + 17 * len(product)
            batch = rows.batch(
                BatchState.COMPLETE, product_id=product, record_count=count, accepted_count=count,
                sealed_at=at - timedelta(seconds=12), accepted_at=at - timedelta(seconds=9), finished_at=at,
            )  # fmt: skip
            rows.attempt(batch, started_at=at - timedelta(seconds=10), seconds=0.31)
    for product in PRODUCTS:
        last = OutboxBatch.objects.filter(product_id=product).order_by("-finished_at").first()
        rows.record(last, product_id=product)


def _wait(now: datetime) -> None:
    for number in range(240):
        at = now - timedelta(seconds=number / 4)
        rows.record(product_id=PRODUCTS[number % 3], enqueued_at=at)


def _reject(now: datetime) -> None:
    for code, message, count in ERRORS:
        home = rows.batch(
            BatchState.COMPLETE, record_count=500, accepted_count=500 - count, rejected_count=count,
            accepted_at=now, product_id="prod-sales",
        )  # fmt: skip
        for position in range(count):
            record = rows.record(home, closed_as="rejected", product_id="prod-sales")
            OutboxRejection.objects.create(
                record=record, batch=home, position=position, code=code, message=message, rejected_at=now
            )


def _fail_and_recover(now: datetime) -> None:
    """Create a batch with two failed attempts before it was accepted, and the incident of that time."""
    start = now - timedelta(hours=2)
    batch = rows.batch(
        BatchState.COMPLETE,
        product_id="prod-billing",
        sealed_at=start,
        finished_at=start + timedelta(minutes=9),
    )
    rows.record(batch, product_id="prod-billing")
    attempts = (
        (0, "ingest", 503, "unavailable"),
        (1, "ingest", None, "in_doubt"),
        (4, "ingest", 202, "accepted"),
        (9, "status", 200, "read"),
    )
    for minutes, call, status, outcome in attempts:
        at = start + timedelta(minutes=minutes)
        rows.attempt(batch, call=call, status=status, outcome=outcome, started_at=at, seconds=0.4)
    incident = OutboxIncident(
        kind=IncidentKind.WORKSPACE, workspace="default", started_at=start, reason="HTTP 503: maintenance."
    )
    OutboxIncident.objects.using("default").begin(incident, start)
    OutboxIncident.objects.using("default").end(incident.pk, start + timedelta(minutes=4))


def _repair(now: datetime) -> None:
    OutboxOperation.objects.create(
        kind="retry", state=OperationState.RUNNING, by="anna", reason="the project id is corrected",
        selection="all records with state = rejected, product = prod-sales", created_at=now - timedelta(minutes=2),
        confirmed_at=now - timedelta(minutes=1), started_at=now - timedelta(minutes=1), busy_seconds=41, total=20_000,
        bytes=9_400_000, changed=12_500, refused=140,
    )  # fmt: skip


def rejected_record() -> OutboxRecord:
    """Return a rejected record."""
    return OutboxRecord.rows.rejected().latest("pk")


def recovered_batch() -> OutboxBatch:
    """Return the batch with the failed attempts."""
    return OutboxBatch.objects.filter(attempts__outcome="in_doubt").latest("pk")
