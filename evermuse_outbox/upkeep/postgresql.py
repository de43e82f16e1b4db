"""How PostgreSQL keeps the tables of the outbox: what the migrations ask of it, and what it says of them.

Other databases have nothing of this, and are told nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from django.apps import apps
from django.db import connections

VACUUM = {"autovacuum_vacuum_scale_factor": "0.02", "autovacuum_vacuum_threshold": "10000"}
ANALYZE = {"autovacuum_analyze_scale_factor": "0.02", "autovacuum_analyze_threshold": "5000"}
BRISK = {"autovacuum_vacuum_cost_limit": "2000"}
FEW_ROWS = {"fillfactor": "10"}

STORAGE: dict[str, dict[str, str]] = {
    "OutboxRecord": {"fillfactor": "50"} | VACUUM | ANALYZE | BRISK,
    "OutboxBatch": VACUUM | ANALYZE,
    "OutboxAttempt": VACUUM | ANALYZE,
    "OutboxWorkspace": FEW_ROWS,
    "OutboxThrottle": FEW_ROWS,
}
"""Model → storage parameters. The reasons stand in the migrations that set them, 0002 and 0006."""

UNKNOWN = 10_000
"""Changed rows from which on the planner must know of a table: below, no plan is bad."""


class Kept(NamedTuple):
    """A table as PostgreSQL keeps it: its own storage parameters."""

    table: str
    model: str
    parameters: dict[str, str]

    @property
    def missing(self) -> dict[str, str]:
        """What nobody has set to any value. What somebody has set is theirs."""
        return {
            name: value for name, value in STORAGE.get(self.model, {}).items() if name not in self.parameters
        }

    @property
    def is_left_alone(self) -> bool:
        """Whether autovacuum is off for this table."""
        return self.parameters.get("autovacuum_enabled", "true").lower() in ("false", "off", "no", "0")


def kept(using: str) -> list[Kept]:
    """The tables of ``using`` that are there; none where it is not PostgreSQL."""
    models = _models(using)
    sql = (
        "SELECT relname, coalesce(reloptions, '{}') FROM pg_class "
        "WHERE relname = ANY(%s) AND relkind IN ('r', 'p') AND pg_table_is_visible(oid) ORDER BY relname"
    )
    told = _rows(using, sql, list(models)) if models else []
    return [Kept(table, models[table], dict(o.split("=", 1) for o in options)) for table, options in told]


def is_autovacuum_off(using: str) -> bool:
    """Whether the whole server does without autovacuum."""
    return bool(_models(using)) and _rows(using, "SELECT current_setting('autovacuum') = 'off'")[0][0]


def tables(using: str) -> dict[str, dict[str, Any]]:
    """Table → rows and dead rows (both as PostgreSQL estimates them), bytes with indexes and TOAST, and when it was
    last vacuumed and analyzed, by whomever. Cheap; empty where it is not PostgreSQL."""
    models = _models(using)
    sql = (
        "SELECT relname, n_live_tup, n_dead_tup, pg_total_relation_size(relid), "
        "greatest(last_vacuum, last_autovacuum), greatest(last_analyze, last_autoanalyze) "
        "FROM pg_stat_user_tables WHERE relname = ANY(%s) AND pg_table_is_visible(relid) ORDER BY relname"
    )
    told = _rows(using, sql, list(models)) if models else []
    return {
        table: {
            "rows": rows,
            "dead_rows": dead,
            "bytes": size,
            "vacuumed_at": vacuumed.isoformat() if vacuumed else None,
            "analyzed_at": analyzed.isoformat() if analyzed else None,
        }
        for table, rows, dead, size, vacuumed, analyzed in told
    }


def analyze_unknown(using: str) -> list[str]:
    """Lets PostgreSQL have a look at tables that it knows nothing of, or that have doubled since; returns their names.

    Autovacuum does so too, a minute late at best, or never where it is off. A backlog grows by a million rows in
    that minute. At most once a minute for a table, and only where this user may.
    """
    models = _models(using)
    sql = (
        "SELECT c.relname FROM pg_class c JOIN pg_stat_user_tables s ON s.relid = c.oid "
        "WHERE c.relname = ANY(%s) AND pg_table_is_visible(c.oid) AND pg_has_role(c.relowner, 'USAGE') "
        "AND s.n_mod_since_analyze > greatest(%s, 2 * c.reltuples) "
        "AND coalesce(greatest(s.last_analyze, s.last_autoanalyze), '-infinity') < now() - interval '1 minute'"
    )
    found = [row[0] for row in _rows(using, sql, list(models), UNKNOWN)] if models else []
    for table in found:
        _rows(using, f"ANALYZE (SKIP_LOCKED) {connections[using].ops.quote_name(table)}")
    return found


def alter(table: str, parameters: dict[str, str]) -> str:
    """The statement that sets them."""
    return (
        f'ALTER TABLE "{table}" SET ({", ".join(f"{name} = {value}" for name, value in parameters.items())});'
    )


def _models(using: str) -> dict[str, str]:
    """Table → model, on PostgreSQL."""
    if connections[using].vendor != "postgresql":
        return {}
    models = apps.get_app_config("evermuse_outbox").get_models()
    return {model._meta.db_table: model.__name__ for model in models}


def _rows(using: str, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with connections[using].cursor() as cursor:
        cursor.execute(sql, parameters or None)
        return cursor.fetchall() if cursor.description else []
