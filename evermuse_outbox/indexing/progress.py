"""Read how far the build of an index is. The ORM has no access to these views, so the queries are raw SQL."""

from __future__ import annotations

from typing import Any, NamedTuple

from django.db import connections

POSTGRESQL = """
    SELECT pid, phase, blocks_done, blocks_total, tuples_done, tuples_total, current_locker_pid
    FROM pg_stat_progress_create_index
    WHERE datname = current_database() AND relid = to_regclass(%s)"""

MARIADB = """
    SELECT p.id, p.state, s.variable_value FROM information_schema.processlist p
    LEFT JOIN information_schema.global_status s ON s.variable_name = 'INNODB_ONLINEDDL_PCT_PROGRESS'
    WHERE p.db = DATABASE() AND p.id <> CONNECTION_ID() AND p.info LIKE %s"""
"""InnoDB counts hundredths of a percent of the build that runs now, or of the last one."""

WAITING = "waiting"
"""Beginning of the name of a phase in which PostgreSQL waits for transactions that began before it."""

PHASES = {
    "building index: scanning table": (0, 50),
    "building index: sorting live tuples": (50, 55),
    "building index: loading tuples in tree": (55, 80),
    "waiting for writers before validation": (80, 80),
    "index validation: scanning index": (80, 87),
    "index validation: sorting tuples": (87, 88),
    "index validation: scanning table": (88, 99),
    "waiting for old snapshots": (99, 99),
}
"""Phase of PostgreSQL → its begin and end in percent of the build. The shares are rough; each phase is exact."""


class BuildProgress(NamedTuple):
    """How far a build is, in percent, and what it does now. ``percent`` is None if the database does not say it."""

    process: int
    percent: float | None
    phase: str


def read_progress(using: str, table: str) -> BuildProgress | None:
    """Return how far the build of an index of a table is, in any process; None if there is none."""
    connection: Any = connections[using]
    if connection.vendor == "postgresql":
        rows = _fetch(using, POSTGRESQL, connection.ops.quote_name(table))
        return _of_postgresql(rows[0]) if rows else None
    if connection.vendor == "mysql" and connection.mysql_is_mariadb:
        rows = _fetch(using, MARIADB, f"CREATE INDEX %{table}%")
        return _of_mariadb(*rows[0]) if rows else None
    return None


def _of_postgresql(row: tuple[Any, ...]) -> BuildProgress:
    pid, phase, blocks, all_blocks, tuples, all_tuples, locker = row
    text = f"{phase}: process {locker}" if phase.startswith(WAITING) and locker else phase
    if phase not in PHASES:
        return BuildProgress(pid, None, text)
    begin, end = PHASES[phase]
    done, total = (tuples, all_tuples) if "tuples" in phase else (blocks, all_blocks)
    return BuildProgress(pid, begin + (end - begin) * (min(done / total, 1.0) if total else 0.0), text)


def _of_mariadb(pid: int, state: str | None, hundredths: Any) -> BuildProgress:
    return BuildProgress(pid, None if hundredths is None else float(hundredths) / 100, state or "")


def _fetch(using: str, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with connections[using].cursor() as cursor:
        cursor.execute(sql, parameters)
        return list(cursor.fetchall())
