"""Examine one database: its migrations and tables, the workers, and the clocks."""

from __future__ import annotations

from collections.abc import Iterator

from django.db import DatabaseError, connections
from django.db.migrations.executor import MigrationExecutor

from ...database_clock import database_now
from ...foreign_text import describe_error
from ...models import OutboxWorker
from ...monitoring import (
    CLOCK_NAMES,
    MISSING_AFTER,
    describe_drift,
    describe_versions,
    is_drifting,
    measure_drift,
    unknown_features,
    versions_at_work,
    worker_silence,
)
from .finding import Finding
from .schema import examine_schema

APP = "evermuse_outbox"

START_WORKERS = (
    "Start a Celery worker and one beat with the schedule of evermuse_outbox.schedule, or manage.py outbox_relay. If "
    "they run, look for errors in their logs, and compare their database and their queue with the settings."
)


def examine_database(using: str) -> list[Finding]:
    """Return everything that is wrong in a database. If it does not answer, that is the only finding."""
    try:
        unapplied = _unapplied_migrations(using)
        if unapplied:  # the other findings would only follow from it
            return unapplied
        return [*examine_schema(using), *_workers(using), *_versions(using), *_clocks(using)]
    except DatabaseError as error:
        return [
            Finding(
                "schema", using, f"The database cannot be read: {describe_error(error)}", "Correct it first."
            )
        ]


def is_relay_at_work(using: str) -> bool:
    """Return whether ``manage.py outbox_relay`` delivers from this database; then no beat is needed."""
    try:
        recent = OutboxWorker.objects.using(using).seen_since(database_now(using) - MISSING_AFTER)
        return recent.filter(command="outbox_relay").exists()
    except DatabaseError:
        return False


def _unapplied_migrations(using: str) -> list[Finding]:
    executor = MigrationExecutor(connections[using])
    targets = [node for node in executor.loader.graph.leaf_nodes() if node[0] == APP]
    names = [
        migration.name for migration, _ in executor.migration_plan(targets) if migration.app_label == APP
    ]
    if not names:
        return []
    problem = f"Migrations are not applied: {', '.join(names)}. The tables were not compared."
    return [Finding("migrations", using, problem, f"manage.py migrate {APP} --database {using}")]


def _workers(using: str) -> Iterator[Finding]:
    silence = worker_silence(using)
    if silence.is_missing:
        last = silence.last_seen_at
        seen = f"The last one was seen at {last:%Y-%m-%d %H:%M:%S %Z}." if last else "None was ever seen."
        yield Finding(
            "workers", using, f"No worker was seen for 3 minutes, so nothing is sent. {seen}", START_WORKERS
        )


def _versions(using: str) -> Iterator[Finding]:
    versions = versions_at_work(using)
    if features := unknown_features(using, versions):
        problem = (
            f"Workers of an old version were seen in the last 3 minutes: {describe_versions(versions)}. They do not "
            f"know these features, which are in use: {', '.join(features)}."
        )
        yield Finding("workers", using, problem, "End the old workers. See docs/how-to/upgrade.md.")


def _clocks(using: str) -> Iterator[Finding]:
    for name, seconds in measure_drift(using).items():
        if is_drifting(seconds):
            problem = f"The clock of this {CLOCK_NAMES[name]} is {describe_drift(using, seconds or 0.0)}."
            yield Finding("clocks", using, problem, "Repair NTP there.")
