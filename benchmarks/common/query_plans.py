"""What the database does for each statement of ours: plans of PostgreSQL, taken while the statement runs."""

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

MANY = 1_500
"""Rows from which on a scan of a whole table, of a whole index, or a sort is told of: more than a request holds."""

BLOCKS = 30_000
"""Blocks of 8 KB from which on it is told of: a thousand rows and their index entries are written with half of them.
More are dead entries that were passed over."""

SCANS = ("Seq Scan", "Index Scan", "Index Only Scan", "Bitmap Heap Scan")


@dataclass
class Statement:
    """One statement as it ran: who issued it, its text with lists cut short, its time, and its plan."""

    issued_by: str
    sql: str
    seconds: float
    plan: dict[str, Any] | None = None
    nodes: list[str] = field(default_factory=list)
    rows_read: int = 0
    blocks: int = 0
    bad: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.plan:
            self._walk(self.plan["Plan"])
            self.blocks = self.plan["Plan"].get("Shared Hit Blocks", 0) + self.plan["Plan"].get(
                "Shared Read Blocks", 0
            )
            if self.blocks > BLOCKS:
                self.bad.append(f"{self.blocks:,} blocks")
            if self.plan.get("JIT"):
                self.bad.append(f"JIT {self.plan['JIT']['Timing']['Total']:.0f} ms")

    @property
    def ms(self) -> float:
        """Its time: in the plan, where there is one, without the way there and back."""
        return self.plan["Execution Time"] if self.plan else 1_000 * self.seconds

    def _walk(self, node: dict[str, Any]) -> None:
        kind, index, read = node["Node Type"], node.get("Index Name", ""), _rows_read(node)
        self.nodes.append(f"{kind} {_short(index or node.get('Relation Name', ''))}".strip())
        if kind in SCANS:
            self.rows_read += read
        if read > MANY and (told := _is_bad(node)):
            self.bad.append(f"{told} of {read:,} rows{', ' + _short(index) if index else ''}")
        for part in node.get("Plans", ()):
            self._walk(part)


def _rows_read(node: dict[str, Any]) -> int:
    """What the node looked at, whatever it then passed on."""
    names = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
    return int(sum(node.get(name, 0) for name in names) * node["Actual Loops"])


def _is_bad(node: dict[str, Any]) -> str:
    """What should not be done to many rows: a whole table, a whole index, an index as good as whole, a sort."""
    kind = node["Node Type"]
    if kind in ("Seq Scan", "Sort"):
        return kind
    if kind in ("Index Scan", "Index Only Scan", "Bitmap Index Scan") and "Index Cond" not in node:
        return f"whole {kind}"
    return kind if kind in SCANS and node.get("Rows Removed by Filter", 0) > MANY else ""


class Capture:
    """The statements that Django ran while this was open. With ``explain`` each one runs twice, and is rolled back
    once: use its times only without."""

    def __init__(self, *, explain: bool) -> None:
        self.statements: list[Statement] = []
        self._explain = explain

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        plan = self._plan(context["connection"], sql, params) if self._explain and not many else None
        started = time.perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            took = time.perf_counter() - started
            self.statements.append(Statement(_issuer(), shape(sql), took, plan))

    def _plan(self, connection: Any, sql: str, params: Any) -> dict[str, Any] | None:
        if not sql.startswith(("SELECT", "UPDATE", "DELETE", "INSERT")):
            return None
        nested = connection.in_atomic_block
        with connection.create_cursor() as cursor:
            cursor.execute("SAVEPOINT explained" if nested else "BEGIN")
            try:
                cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", params)
                told = cursor.fetchone()[0]
            finally:
                cursor.execute("ROLLBACK TO SAVEPOINT explained" if nested else "ROLLBACK")
        return (json.loads(told) if isinstance(told, str) else told)[0]


@contextmanager
def captured(*, explain: bool = False, using: str = "default") -> Iterator[list[Statement]]:
    """The statements on Django's connection of that alias while this is open."""
    from django.db import connections

    capture = Capture(explain=explain)
    with connections[using].execute_wrapper(capture):
        yield capture.statements


def shape(sql: str) -> str:
    """The statement with its lists of parameters cut to one, so that those of all lengths are alike."""
    return re.sub(r"\((?:%s(?:::\w+)?(?:, )?)+\)", "(…)", sql).replace('"', "").replace("`", "")


def _issuer() -> str:
    """The function of ours that asked: the innermost one in ``pipeline/``, or else anywhere in the app."""
    frame, found = sys._getframe(2), ""
    while frame:
        path = Path(frame.f_code.co_filename)
        if "evermuse_outbox" in path.parts:
            name = f"{path.stem}.{frame.f_code.co_name}"
            if "delivery" in path.parts and path.stem != "retries" and "<" not in name:
                return name
            found = found or name
        frame = frame.f_back
    return found


def _short(name: str) -> str:
    return name.replace("evermuse_outbox_outbox", "").replace("evermuse_", "")
