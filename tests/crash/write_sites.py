"""The places in the code where the world outside is changed, found by reading the code.

A place is a call that writes to the database, a transaction that commits, or a function that calls Evermuse.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .steps import HOUSE

ROOMS = ("outbox.py", "models/*.py", "models/insert/*.py", "delivery/*/*.py")
"""What happens to a record happens here."""

WRITES = {
    "abulk_create",
    "acreate",
    "asave",
    "aupdate",
    "bulk_create",
    "bulk_update",
    "create",
    "delete",
    "execute",
    "executemany",
    "get_or_create",
    "save",
    "update",
    "update_or_create",
    "_raw_delete",
    "_block",
    "_change_locked",
    "_change_state",
    "_end_accepted",
    "_settle",
}


SELDOM = {"ensure_row"}
"""Changes that nearly always only read: they are walked where the row is made."""

NOT_TO_BE_WALKED = {
    # It only reads.
    ("delivery/scanning/group_scan.py", "cursor.execute(statement, parameters)"),
    # Only where another connection commits between two reads; and then in a transaction that others walk.
    ("delivery/sealing/versions.py", "OutboxRecord.rows.using(context.using).supersede(older)"),
    # Changes nothing that lasts, and is said to PostgreSQL alone.
    ("models/query_hints.py", "cursor.execute('SET LOCAL jit = off')"),
    # Only on PostgreSQL: the scenarios of a host are played there too, but what is walked is looked at on SQLite.
    (
        "models/insert/postgresql.py",
        "cursor.execute(_insert_many(), _columns(workspace, contract, envelopes, at))",
    ),
    (
        "models/insert/postgresql.py",
        "cursor.execute(_insert_one(), adapt_row(row, connection, adapt_timestamp(row[-1], connection)))"[
            :80
        ],
    ),
    # Only on databases that are none of Django's own.
    ("models/insert/orm.py", "record.save(using=using, force_insert=True)"),
    ("models/insert/orm.py", "OutboxRecord.rows.using(using).bulk_create(records)"),
}


class Site(NamedTuple):
    """Lines ``first`` to ``last`` of a file below ``evermuse_outbox``."""

    file: str
    first: int
    last: int
    code: str

    def is_on(self, lines: Iterable[tuple[str, int]]) -> bool:
        """Whether somebody was here."""
        return any(file == self.file and self.first <= line <= self.last for file, line in lines)

    def __str__(self) -> str:
        return f"evermuse_outbox/{self.file}:{self.first}  {self.code}"


def sites() -> list[Site]:
    """All of them."""
    trees = {
        str(path.relative_to(HOUSE)): ast.parse(path.read_text())
        for room in ROOMS
        for path in sorted(HOUSE.glob(room))
    }
    changes = set().union(*(_changes(tree) for tree in trees.values())) - SELDOM
    found = {site for file, tree in trees.items() for site in _sites(file, tree, changes)}
    return sorted(site for site in found if (site.file, site.code) not in NOT_TO_BE_WALKED)


def _changes(tree: ast.Module) -> Iterator[str]:
    """The methods of QuerySets that write: the changes of state, by whatever name."""
    for owner in ast.walk(tree):
        if isinstance(owner, ast.ClassDef) and owner.name.endswith("QuerySet"):
            yield from (
                method.name
                for method in owner.body
                if isinstance(method, ast.FunctionDef)
                and not method.name.startswith("_")
                and any(_calls(node, WRITES) for node in ast.walk(method))
            )


def _sites(file: str, tree: ast.Module, changes: set[str]) -> Iterator[Site]:
    names = WRITES if file.startswith("models/") else WRITES | changes
    for node in ast.walk(tree):
        if _calls(node, names) or _is_transaction(node):
            yield _site(file, node)
        if isinstance(node, ast.FunctionDef) and any(_is_request(part) for part in ast.walk(node)):
            yield Site(file, node.lineno, node.end_lineno or node.lineno, f"def {node.name}: calls Evermuse")


def _site(file: str, node: ast.AST) -> Site:
    assert isinstance(node, ast.Call)
    return Site(file, node.lineno, node.end_lineno or node.lineno, ast.unparse(node)[:80])


def _calls(node: ast.AST, names: set[str]) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in names


def _is_transaction(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "transaction.atomic"


def _is_request(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Attribute)
        and node.value.attr == "client"
        and not node.attr.startswith("_")
    )
