"""The router under which all tests run refuses each query of the package that names no database."""

from __future__ import annotations

from pathlib import Path

import django
import pytest
from django.conf import settings as project
from django.db import models

import evermuse_outbox
from evermuse_outbox.models import OutboxBatch, OutboxRecord
from tests.refusing_router import RoutedQuery
from tests.rows import batch_in, record_in

PACKAGE = Path(evermuse_outbox.__file__).parent


def run_in(path, code, **names):
    """Execute ``code`` as if it were in a file of the package; return its variables."""
    exec(compile(code, str(PACKAGE / path), "exec"), names)
    return names


def test_every_test_runs_under_the_router():
    assert project.DATABASE_ROUTERS == ["tests.refusing_router.RefusingRouter"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "code",
    [
        "list(rows)",
        "rows.update(size=1)",
        "rows.in_bulk()",
        "model().save()",
        "record.save()",
        "record.delete()",
        "batch.refresh_from_db()",
        "record.batch",
        "deferred.message",
        "list(batch.records.all())",
    ],
)
def test_a_query_without_a_database_is_refused_and_its_line_named(code):
    row = record_in("default", "in_flight")
    names = {
        "rows": OutboxRecord.rows.all(),
        "model": OutboxBatch,
        "record": OutboxRecord.rows.using("default").get(),
        "deferred": OutboxBatch.objects.using("default").defer("message").get(),
        "batch": OutboxBatch.objects.using("default").get(pk=row.batch_id),
    }
    with pytest.raises(RoutedQuery, match=r"delivery/invented\.py:2, in <module>"):
        run_in("delivery/invented.py", f"\n{code}", **names)


@pytest.mark.django_db
def test_a_query_with_a_database_is_not_refused():
    batch = batch_in("default", "sealed")
    run_in("delivery/invented.py", "list(rows.using('default'))", rows=OutboxRecord.rows.all())
    run_in("delivery/invented.py", "batch.save(using='default')", batch=batch)


@pytest.mark.django_db
def test_the_admin_and_the_code_of_the_host_may_use_the_router():
    assert list(OutboxRecord.rows.all()) == []
    run_in("admin/invented.py", "list(rows)", rows=OutboxRecord.rows.all())


@pytest.mark.django_db
@pytest.mark.skipif(django.VERSION < (6, 1), reason="Django 6.1 has fetch modes")
def test_a_load_at_the_first_use_is_refused_even_without_the_router(settings):
    settings.DATABASE_ROUTERS = []
    record_in("default", "pending")
    row = OutboxRecord.rows.using("default").defer("payload").get()
    with pytest.raises(RoutedQuery, match=r"OutboxRecord\.payload is loaded at its first use"):
        run_in("delivery/invented.py", "row.payload", row=row)
    assert models.FETCH_RAISE
    assert row.payload
