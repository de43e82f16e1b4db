"""The SQL that finds the workspaces with pending records, unsent batches, polled batches, and deferrals that are due.

Each of the first three is a skip scan of a partial index: one step for each workspace in it. So the statement costs
nothing for a workspace without work, however many there are. The steps go backwards: at the newest end of an index lie
fewer dead tuples of sealed records. Deferrals that are due are few, so those are read from their index.
"""

from __future__ import annotations

from typing import NamedTuple

from django.db import NotSupportedError

from ...models import SENDABLE, OutboxBatch, OutboxDeferral
from .sql import NOT_SUPPORTED
from .sql_common import INDEX, TABLE

BATCHES = OutboxBatch._meta.db_table

DEFERRALS = OutboxDeferral._meta.db_table

MAX_DUE = 1_000
"""Deferrals that are due and that one statement reads. It may miss a workspace; then the next one finds it."""

SENDABLE_STATES = ", ".join(f"'{state.value}'" for state in SENDABLE)


class Source(NamedTuple):
    """Where workspaces with one kind of work are found."""

    table: str
    condition: str
    """That of the partial index."""
    index_name: str
    columns: tuple[str, ...]
    """The columns of the index behind the workspace."""


SOURCES = {
    "pending": Source(
        TABLE, "batch_id IS NULL AND closed_as IS NULL", INDEX, ("type", "product_id", "enqueued_at", "id")
    ),
    "unsent": Source(BATCHES, f"state IN ({SENDABLE_STATES})", "evermuse_batch_due", ("due_at", "id")),
    "polled": Source(BATCHES, "next_poll_at IS NOT NULL", "evermuse_batch_poll", ("next_poll_at", "id")),
}


DUE = f"""
SELECT 'deferred', workspace FROM (
  SELECT workspace FROM {DEFERRALS} WHERE due_at <= %s ORDER BY due_at LIMIT {MAX_DUE}) AS due
"""


def _recursive_query(hint: str = "") -> str:
    """Return the query for databases that have no skip scan for DISTINCT. ``hint`` names the index."""
    scans = [_skip_scan(name, source, hint.format(source.index_name)) for name, source in SOURCES.items()]
    results = [f"SELECT '{name}', workspace FROM {name} WHERE workspace IS NOT NULL" for name in SOURCES]
    return f"WITH RECURSIVE {', '.join(scans)} {' UNION ALL '.join([*results, DUE])}"


def _skip_scan(name: str, source: Source, hint: str) -> str:
    rows = f"SELECT workspace FROM {source.table} {hint} WHERE {source.condition}"
    order = ", ".join(f"{column} DESC" for column in ("workspace", *source.columns))
    return f"""{name}(workspace) AS (
  SELECT ({rows} ORDER BY {order} LIMIT 1)
  UNION ALL
  SELECT ({rows} AND workspace < {name}.workspace ORDER BY {order} LIMIT 1) FROM {name} WHERE workspace IS NOT NULL)"""


# DISTINCT over a prefix of an index is a skip scan there. The index of polled batches has no condition, so it contains
# all batches. The index of finished batches begins with the column.
DISTINCT = f"""
SELECT 'pending', workspace FROM (
  SELECT DISTINCT batch_id, closed_as, workspace FROM {TABLE} FORCE INDEX ({INDEX})
  WHERE {SOURCES["pending"].condition}) AS pending
UNION ALL
SELECT DISTINCT 'unsent', workspace FROM (
  SELECT DISTINCT state, workspace FROM {BATCHES} FORCE INDEX (evermuse_batch_due)
  WHERE {SOURCES["unsent"].condition}) AS unsent
UNION ALL
SELECT DISTINCT 'polled', workspace FROM {BATCHES} FORCE INDEX (evermuse_batch_over)
WHERE {SOURCES["polled"].condition}
UNION ALL
{DUE}"""


def pending_query(vendor: str) -> str:
    """Return the query for the newest pending record of any workspace: the first step of the skip scan."""
    source, hint = SOURCES["pending"], f"FORCE INDEX ({INDEX})" if vendor == "mysql" else ""
    order = ", ".join(f"{column} DESC" for column in ("workspace", *source.columns))
    return f"SELECT 1 FROM {TABLE} {hint} WHERE {source.condition} ORDER BY {order} LIMIT 1"


def workspaces_query(vendor: str) -> str:
    """Return the query for the workspaces with work. Its parameter is the time now.

    It gives rows of a name in ``SOURCES``, or "deferred", and a workspace.
    """
    match vendor:
        case "postgresql":
            return _recursive_query()
        case "sqlite":  # without statistics, it would choose another index and sort
            return _recursive_query("INDEXED BY {}")
        case "mysql":
            return DISTINCT
        case _:
            raise NotSupportedError(NOT_SUPPORTED.format(vendor))
