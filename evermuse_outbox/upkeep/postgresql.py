"""What PostgreSQL knows about the tables of the outbox: storage parameters, sizes and statistics.

The ORM has no access to PostgreSQL's catalogue and cannot run ANALYZE or ALTER TABLE … SET, so this module is raw SQL.
On other databases every function returns an empty result.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from django.apps import apps
from django.db import connections

# The migrations set these storage parameters; the initial one gives the reason for each.
VACUUM = {"autovacuum_vacuum_scale_factor": "0.02", "autovacuum_vacuum_threshold": "10000"}
ANALYZE = {"autovacuum_analyze_scale_factor": "0.02", "autovacuum_analyze_threshold": "5000"}
FAST_VACUUM = {"autovacuum_vacuum_cost_limit": "2000"}
ONE_ROW_PER_PAGE = {"fillfactor": "10"}

STORAGE: dict[str, dict[str, str]] = {
    "OutboxRecord": {"fillfactor": "50"} | VACUUM | ANALYZE | FAST_VACUUM,
    "OutboxBatch": VACUUM | ANALYZE,
    "OutboxAttempt": VACUUM | ANALYZE,
    "OutboxWorkspace": ONE_ROW_PER_PAGE,
    "OutboxThrottle": ONE_ROW_PER_PAGE,
    "OutboxTerm": VACUUM | ANALYZE,
}
"""Model → its storage parameters."""

MIN_CHANGED_ROWS = 10_000
"""A table with fewer changed rows is not analyzed, because even a bad query plan is fast there."""

TABLE_OPTIONS = """
    SELECT relname, coalesce(reloptions, '{}') FROM pg_class
    WHERE relname = ANY(%s) AND relkind IN ('r', 'p') AND pg_table_is_visible(oid) ORDER BY relname"""

TABLE_STATISTICS = """
    SELECT relname, n_live_tup, n_dead_tup, pg_total_relation_size(relid),
           greatest(last_vacuum, last_autovacuum), greatest(last_analyze, last_autoanalyze)
    FROM pg_stat_user_tables WHERE relname = ANY(%s) AND pg_table_is_visible(relid) ORDER BY relname"""

UNKNOWN_TABLES = """
    SELECT c.relname FROM pg_class c JOIN pg_stat_user_tables s ON s.relid = c.oid
    WHERE c.relname = ANY(%s) AND pg_table_is_visible(c.oid) AND pg_has_role(c.relowner, 'USAGE')
      AND s.n_mod_since_analyze > greatest(%s, 2 * c.reltuples)
      AND coalesce(greatest(s.last_analyze, s.last_autoanalyze), '-infinity') < now() - interval '1 minute'"""


class TableOptions(NamedTuple):
    """A table and its storage parameters."""

    table: str
    model: str
    parameters: dict[str, str]

    @property
    def missing(self) -> dict[str, str]:
        """Parameters of ``STORAGE`` that are not set. A value that the host has set counts as set."""
        expected = STORAGE.get(self.model, {})
        return {name: value for name, value in expected.items() if name not in self.parameters}

    @property
    def is_autovacuum_disabled(self) -> bool:
        """Whether autovacuum is off for this table."""
        return self.parameters.get("autovacuum_enabled", "true").lower() in ("false", "off", "no", "0")


def read_table_options(using: str) -> list[TableOptions]:
    """Return the tables that exist, with their storage parameters."""
    models = _models_by_table(using)
    rows = _fetch(using, TABLE_OPTIONS, list(models)) if models else []
    return [
        TableOptions(table, models[table], dict(option.split("=", 1) for option in options))
        for table, options in rows
    ]


def is_autovacuum_off(using: str) -> bool:
    """Return whether autovacuum is off for the complete server."""
    return (
        bool(_models_by_table(using)) and _fetch(using, "SELECT current_setting('autovacuum') = 'off'")[0][0]
    )


def read_table_statistics(using: str) -> dict[str, dict[str, Any]]:
    """Return table → rows, dead rows, bytes, and the times of the last vacuum and analyze, manual or automatic.

    Rows and dead rows are estimates. Bytes include indexes and TOAST. Reading them is cheap.
    """
    models = _models_by_table(using)
    rows = _fetch(using, TABLE_STATISTICS, list(models)) if models else []
    return {
        table: {
            "rows": live,
            "dead_rows": dead,
            "bytes": size,
            "vacuumed_at": vacuumed.isoformat() if vacuumed else None,
            "analyzed_at": analyzed.isoformat() if analyzed else None,
        }
        for table, live, dead, size, vacuumed, analyzed in rows
    }


def analyze_unknown_tables(using: str) -> list[str]:
    """Run ANALYZE on tables whose statistics are missing or far out of date; return their names.

    They are far out of date if twice as many rows have changed as the table had then. Autovacuum does it up to a minute
    later, or never if it is off. In a minute, a backlog may grow by a million rows. A table is analyzed once a
    minute at most, and only if the database user has the right to do it.
    """
    models = _models_by_table(using)
    rows = _fetch(using, UNKNOWN_TABLES, list(models), MIN_CHANGED_ROWS) if models else []
    tables = [table for (table,) in rows]
    for table in tables:
        _fetch(using, f"ANALYZE (SKIP_LOCKED) {connections[using].ops.quote_name(table)}")
    return tables


def alter_table(table: str, parameters: dict[str, str]) -> str:
    """Return the statement that sets storage parameters of a table."""
    assignments = ", ".join(f"{name} = {value}" for name, value in parameters.items())
    return f'ALTER TABLE "{table}" SET ({assignments});'


def _models_by_table(using: str) -> dict[str, str]:
    """Return table → name of the model; empty if the database is not PostgreSQL."""
    if connections[using].vendor != "postgresql":
        return {}
    models = apps.get_app_config("evermuse_outbox").get_models()
    return {model._meta.db_table: model.__name__ for model in models if not model._meta.proxy}


def _fetch(using: str, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with connections[using].cursor() as cursor:
        cursor.execute(sql, parameters or None)
        return cursor.fetchall() if cursor.description else []
