"""Record the SQL statements that Django runs, with the plan that PostgreSQL used for each of them."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WARNING_ROWS = 1_500
"""Rows above which a full scan of a table or index, or a sort, gets a warning. A request has at most 1,000 records."""

WARNING_BLOCKS = 30_000
"""Blocks of 8 KB above which a statement gets a warning.

Writing a thousand rows with their index entries takes half of them. Many more blocks mean that the statement
read dead index entries."""

SCANS = ("Seq Scan", "Index Scan", "Index Only Scan", "Bitmap Heap Scan")


@dataclass
class Statement:
    """A statement that has run.

    ``issued_by`` is the function that ran it. In ``sql``, lists of parameters are shortened. ``rows_read`` counts the
    rows that scans read, and ``blocks`` the blocks of 8 KB. ``warnings`` names what is too expensive in the plan.
    """

    issued_by: str
    sql: str
    seconds: float
    plan: dict[str, Any] | None = None
    nodes: list[str] = field(default_factory=list)
    rows_read: int = 0
    blocks: int = 0
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.plan:
            self._walk(self.plan["Plan"])
            self.blocks = self.plan["Plan"].get("Shared Hit Blocks", 0) + self.plan["Plan"].get(
                "Shared Read Blocks", 0
            )
            if self.blocks > WARNING_BLOCKS:
                self.warnings.append(f"{self.blocks:,} blocks")
            if self.plan.get("JIT"):
                self.warnings.append(f"JIT {self.plan['JIT']['Timing']['Total']:.0f} ms")

    @property
    def ms(self) -> float:
        """Return the duration in milliseconds: the execution time in the plan, else the time until the result."""
        return self.plan["Execution Time"] if self.plan else 1_000 * self.seconds

    def _walk(self, node: dict[str, Any]) -> None:
        kind, index, read = node["Node Type"], node.get("Index Name", ""), _rows_read(node)
        self.nodes.append(f"{kind} {_short(index or node.get('Relation Name', ''))}".strip())
        if kind in SCANS:
            self.rows_read += read
        if read > WARNING_ROWS and (operation := _expensive_operation(node)):
            self.warnings.append(f"{operation} of {read:,} rows{', ' + _short(index) if index else ''}")
        for child in node.get("Plans", ()):
            self._walk(child)


def _rows_read(node: dict[str, Any]) -> int:
    """Return the number of rows that the node read, filtered ones included."""
    names = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
    return int(sum(node.get(name, 0) for name in names) * node["Actual Loops"])


def _expensive_operation(node: dict[str, Any]) -> str:
    """Return the name of an operation that is expensive for many rows, or "".

    These are: a scan of a full table or index, a scan that filters out most of its rows, and a sort.
    """
    kind = node["Node Type"]
    if kind in ("Seq Scan", "Sort"):
        return kind
    if kind in ("Index Scan", "Index Only Scan", "Bitmap Index Scan") and "Index Cond" not in node:
        return f"full {kind}"
    return kind if kind in SCANS and node.get("Rows Removed by Filter", 0) > WARNING_ROWS else ""


class Capture:
    """An ``execute_wrapper`` that records the statements of a Django connection.

    With ``explain``, each statement runs twice. The first run is explained and rolled back. So use the measured
    times only without ``explain``.
    """

    def __init__(self, *, explain: bool) -> None:
        self.statements: list[Statement] = []
        self._explain = explain

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        """Run a statement, and record it. Django calls this for each statement."""
        plan = self._plan(context["connection"], sql, params) if self._explain and not many else None
        started = time.perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            seconds = time.perf_counter() - started
            self.statements.append(Statement(issuer(), shape(sql), seconds, plan))

    def _plan(self, connection: Any, sql: str, params: Any) -> dict[str, Any] | None:
        if not sql.startswith(("SELECT", "UPDATE", "DELETE", "INSERT")):
            return None
        nested = connection.in_atomic_block
        with connection.create_cursor() as cursor:
            cursor.execute("SAVEPOINT explained" if nested else "BEGIN")
            try:
                cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", params)
                plans = cursor.fetchone()[0]
            finally:
                cursor.execute("ROLLBACK TO SAVEPOINT explained" if nested else "ROLLBACK")
        return (json.loads(plans) if isinstance(plans, str) else plans)[0]


@contextmanager
def captured(*, explain: bool = False, using: str = "default") -> Iterator[list[Statement]]:
    """Record the statements on the connection ``using`` inside the ``with`` block."""
    from django.db import connections

    capture = Capture(explain=explain)
    with connections[using].execute_wrapper(capture):
        yield capture.statements


def shape(sql: str) -> str:
    """Return the statement with lists of parameters shortened, so that statements with longer lists are equal."""
    return re.sub(r"\((?:%s(?:::\w+)?(?:, )?)+\)", "(…)", sql).replace('"', "").replace("`", "")


def issuer() -> str:
    """Return the function of the app that ran the statement.

    It is the innermost one in ``delivery/``, because it is more telling than a method of the models. If there is
    none, it is the innermost one anywhere in the app.
    """
    frame, innermost = sys._getframe(2), ""
    while frame:
        path = Path(frame.f_code.co_filename)
        if "evermuse_outbox" in path.parts:
            name = f"{path.stem}.{frame.f_code.co_name}"
            is_wrapper = path.stem == "retries" or frame.f_code.co_name == "run_with_retries"
            if "delivery" in path.parts and not is_wrapper and "<" not in name:
                return name
            innermost = innermost or name
        frame = frame.f_back
    return innermost


def _short(name: str) -> str:
    return name.replace("evermuse_outbox_outbox", "").replace("evermuse_", "")
