"""Upgrading from each earlier schema keeps every row, and the new version works with them."""

from __future__ import annotations

import re

import pytest
from django.core.management import call_command
from django.db import connections
from django.db.migrations.loader import MigrationLoader
from django.utils import timezone

from evermuse_outbox.evermuse.records import make_identity, validate
from evermuse_outbox.models import OutboxBatch, OutboxRecord, OutboxWorkspace
from tests.records import record

APP = "evermuse_outbox"
NAMES = sorted(name for app, name in MigrationLoader(None).disk_migrations if app == APP)
EARLIER = NAMES[:-1]
"""Every schema except the newest. Each can be that of the version before, because releases skip numbers."""


def migrate(alias, target=None):
    call_command("migrate", APP, *([target] if target else []), database=alias, verbosity=0)


@pytest.fixture
def earlier_schema(alias):
    """Return a function that goes back to an earlier schema; afterwards, the newest one is there again."""
    yield lambda name: migrate(alias, name)
    migrate(alias)


def model_at(alias, migration, name):
    """Return the rows of a model as it was at a migration."""
    apps = MigrationLoader(connections[alias]).project_state((APP, migration)).apps
    return apps.get_model(APP, name).objects.using(alias)


def add_rows(alias, migration):
    """Add a pending record, one in a batch, and a paused workspace, as the version with that schema did."""
    now = timezone.now().replace(microsecond=0)
    envelope = validate(record(1), contract="reference")
    group = {"workspace": "default", "type": "message", "product_id": "p"}
    model_at(alias, migration, "OutboxWorkspace").create(name="north", state="paused", reason="HTTP 401")
    batch = model_at(alias, migration, "OutboxBatch").create(
        **group, contract="reference", body_format="ndjson", key="k1", sha256="0" * 64, record_count=1,
        byte_count=20, state="sealed", sealed_at=now, due_at=now,
    )  # fmt: skip
    identity = make_identity("default", "message", record(1)["_event_at"], record(1)["_vendor_ids"])
    for batch_id in (batch.pk, None):
        model_at(alias, migration, "OutboxRecord").create(
            **group, identity=identity, contract="reference", payload=envelope.line, size=envelope.size,
            enqueued_at=now, batch_id=batch_id,
        )  # fmt: skip
    return envelope


@pytest.mark.commits
@pytest.mark.parametrize("migration", [pytest.param(name, id=re.match(r"\d+", name)[0]) for name in EARLIER])
def test_rows_of_an_earlier_schema_survive_the_upgrade(alias, migration, earlier_schema):
    earlier_schema(migration)
    envelope = add_rows(alias, migration)
    migrate(alias)
    rows = OutboxRecord.objects.using(alias).order_by("pk")
    assert [(row.state, row.payload, row.type) for row in rows] == [
        ("in_flight", envelope.line, "message"),
        ("pending", envelope.line, "message"),
    ]
    assert OutboxBatch.objects.using(alias).get().state == "sealed"
    north = OutboxWorkspace.objects.using(alias).get(name="north")
    assert (north.state, north.reason) == ("paused", "HTTP 401")
