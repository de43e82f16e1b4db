"""Find the write sites: the places in the code that change something outside the process.

A write site is a call that writes to the database, a transaction that commits, or a function that calls Evermuse. The
source is parsed, so a new write site is found without an entry in a list.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import NamedTuple

from .steps import PACKAGE

SEARCHED = (
    "outbox.py",
    "models/*.py",
    "models/insert/*.py",
    "models/keys/*.py",
    "models/rules/*.py",
    "models/deferral/*.py",
    "timing/*.py",
    "models/transitions/*.py",
    "delivery/*/*.py",
    "operations/*.py",
    "operations/*/*.py",
    "jobs/*.py",
    "models/history/operation.py",
)
"""The modules that change records, batches, groups or workspaces."""

DJANGO_WRITES = {
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
}
"""Methods of Django that write, on whatever object they are called."""

MANAGERS = {"objects", "rows", "_base_manager"}

THROTTLE = "throttle"
"""Attribute that holds a throttle backend. It has the methods of ``ThrottleQuerySet``, and each of them writes."""

RARE_WRITES = {"ensure_row", "lock_for_sealing"}
"""State changes that nearly always only read. Their bodies are write sites, their callers are not."""

NOT_REACHED = {
    # A hash in memory.
    ("operations/importing/lines.py", "self._hash.update(block)"),
    # A dictionary in memory.
    ("delivery/context/throttles.py", "_prepared_at.update(dict.fromkeys(due, now))"),
    ("delivery/context/throttles.py", "_prepared_at.update(dict.fromkeys(later, now))"),
    # A set in memory.
    ("delivery/sealing/pages.py", "read.update(chosen)"),
    # A SELECT of fair shares and newest first.
    ("delivery/ordering/sql_portions.py", "cursor.execute(statement, parameters)"),
    # A SELECT of `outbox_relay`, which looks whether there is anything to do.
    ("delivery/scanning/workspaces.py", "cursor.execute(pending_query(connections[using].vendor))"),
    # Writes only if another connection commits between two reads, and then in a transaction that scenarios reach.
    ("delivery/sealing/versions.py", "OutboxRecord.rows.using(context.using).supersede(older)"),
    # Only on a SQLite whose transactions do not begin with the write lock. It changes nothing.
    ("models/workspace.py", "self._lock(name)"),
    ("models/workspace.py", "self.filter(pk=name).update(seal_count=F('seal_count'))"),
    # Opens a client of another key, and sends nothing.
    ("delivery/context/context.py", "def with_key: calls Evermuse"),
    # Only for a batch in doubt whose key was removed ten minutes before. The lease is renewed by the same UPDATE as for
    # URLs, which a scenario reaches; tests/delivery/test_key_pool.py tests this one.
    (
        "delivery/sending/lease.py",
        "context.run_with_retries(rows.renew_lease, sealed.batch, until, api_key=key)",
    ),
    # Only for records with a deferral, and in the transaction of a retry or a discard, which scenarios reach.
    ("jobs/records.py", "OutboxDeferral.objects.using(using).forget_passed_expiry(reopened)"),
    ("operations/retry.py", "OutboxDeferral.objects.using(using).forget_passed_expiry(reopened)"),
    ("models/record.py", "OutboxDeferral.objects.using(self.db).forget_closed(chunk, discarded)"),
    ("models/deferral/deferral.py", "self.filter(pk__in=gone).delete()"),
    ("models/deferral/deferral.py", "self.filter(pk__in=passed).delete()"),
    # Takes a lock, and changes nothing.
    ("delivery/rules/lock.py", "transaction.atomic(using=using)"),
    # Sets an option of one PostgreSQL transaction, which ends with the process.
    ("models/query_hints.py", "cursor.execute('SET LOCAL jit = off')"),
    # Only on PostgreSQL. The scenarios of a host run there too, but this list is compared with runs on SQLite.
    (
        "models/insert/postgresql.py",
        "cursor.execute(f'{statement} RETURNING \"id\"' if returns_ids else statement, (*values, *numbers))",
    ),
    ("models/insert/postgresql.py", "cursor.execute(_insert_one(extra), [*map(str, row)])"),
    # Only on MySQL, and only on MySQL and MariaDB.
    ("models/insert/values.py", "cursor.execute(statement, row)"),
    (
        "models/insert/values.py",
        "cursor.execute(f'{statement} RETURNING id' if has_returning else statement, parameters)",
    ),
    # Only read.
    ("models/insert/values.py", "cursor.execute('SELECT last_insert_rowid()')"),
    ("models/insert/values.py", "cursor.execute('SELECT @@SESSION.auto_increment_increment')"),
    # Only with Redis. The scenarios keep the epochs in files.
    ("delivery/context/epochs.py", "pipeline.execute()"),
    # Only on databases other than Django's own.
    ("models/insert/orm.py", "record.save(using=using, force_insert=True)"),
    ("models/insert/orm.py", "OutboxRecord.rows.using(using).bulk_create(records)"),
}
"""Write sites that no scenario reaches on SQLite, each with the reason."""


class WriteSite(NamedTuple):
    """Lines ``first`` to ``last`` of a file below ``evermuse_outbox``."""

    file: str
    first: int
    last: int
    code: str

    def is_reached(self, lines: Iterable[tuple[str, int]]) -> bool:
        """Return whether one of these lines is in the site."""
        return any(file == self.file and self.first <= line <= self.last for file, line in lines)

    def __str__(self) -> str:
        return f"evermuse_outbox/{self.file}:{self.first}  {self.code[:80]}"


class Module:
    """One parsed module, and which of its expressions may be QuerySets.

    An expression is recognised by the start of its chain:

    * a manager, or ``self`` of a QuerySet class;
    * a function or parameter that is annotated with a QuerySet class;
    * a variable or attribute that such an expression was assigned to.
    """

    def __init__(self, file: str, tree: ast.Module) -> None:
        self.file = file
        self.tree = tree
        self._parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        self._functions_and_attributes = {
            node.name for node in self._functions if _is_query_set_class(node.returns)
        }
        self._variables = self._annotated_parameters()
        if self.query_set_classes:
            self._variables.add("self")
        self._add_assigned_names()

    @cached_property
    def query_set_classes(self) -> list[ast.ClassDef]:
        """The QuerySet classes that the module defines."""
        return [
            node
            for node in ast.walk(self.tree)
            if isinstance(node, ast.ClassDef) and node.name.endswith("QuerySet")
        ]

    @cached_property
    def _functions(self) -> list[ast.FunctionDef]:
        return [node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef)]

    def _annotated_parameters(self) -> set[str]:
        parameters = (arg for node in self._functions for arg in (*node.args.args, *node.args.kwonlyargs))
        return {arg.arg for arg in parameters if _is_query_set_class(arg.annotation)}

    def _add_assigned_names(self) -> None:
        """Add the variables and attributes that hold QuerySets. All functions share one namespace here."""
        known = -1
        while (
            len(self._variables) + len(self._functions_and_attributes) > known
        ):  # one may be assigned from another
            known = len(self._variables) + len(self._functions_and_attributes)
            for node in ast.walk(self.tree):
                if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr) and node.value:
                    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                    if self.is_query_set(node.value):
                        self._add_names(targets)

    def _add_names(self, targets: list[ast.expr]) -> None:
        for target in targets:
            match target:
                case ast.Name(name):
                    self._variables.add(name)
                case ast.Attribute(_, name):
                    self._functions_and_attributes.add(name)

    def is_query_set(self, node: ast.expr) -> bool:
        """Return whether an expression may be a QuerySet, or was read from one."""
        match node:
            case ast.Name(name):
                return name in self._variables
            case ast.Attribute(value, name):
                known = MANAGERS | self._functions_and_attributes | {THROTTLE}
                return name in known or self.is_query_set(value)
            case ast.Call(ast.Name(name)):
                return name in self._functions_and_attributes
            case ast.Call(callee):
                return self.is_query_set(callee)
            case ast.IfExp(_, body, orelse):
                return self.is_query_set(body) or self.is_query_set(orelse)
            case ast.BinOp(left, _, right):
                return self.is_query_set(left) or self.is_query_set(right)
            case ast.BoolOp(_, values):
                return any(map(self.is_query_set, values))
            case ast.Subscript(value) | ast.NamedExpr(_, value):
                return self.is_query_set(value)
        return False

    def is_write(self, node: ast.AST, state_changes: set[str]) -> bool:
        """Return whether ``node`` names a method that writes, to call it or to pass it on."""
        if not isinstance(node, ast.Attribute):
            return False
        return node.attr in DJANGO_WRITES or (node.attr in state_changes and self.is_query_set(node.value))

    def write_sites(self, state_changes: set[str]) -> Iterator[WriteSite]:
        """Find the write sites of the module."""
        for node in ast.walk(self.tree):
            if self.is_write(node, state_changes):
                yield self._site(self._caller(node))
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "transaction.atomic":
                yield self._site(node)
            elif isinstance(node, ast.FunctionDef) and any(map(_is_request, ast.walk(node))):
                yield self._site(node, f"def {node.name}: calls Evermuse")

    def _caller(self, node: ast.AST) -> ast.AST:
        """Return the call that ``node`` is a part of; the function, if a variable holds the method."""
        while not isinstance(node, ast.Call | ast.FunctionDef):
            node = self._parents[node]
        return node

    def _site(self, node: ast.AST, code: str = "") -> WriteSite:
        assert isinstance(node, ast.Call | ast.FunctionDef)
        if isinstance(node, ast.FunctionDef):
            code = code or f"def {node.name}: holds a method that writes"
        return WriteSite(self.file, node.lineno, node.end_lineno or node.lineno, code or ast.unparse(node))


def find_write_sites() -> list[WriteSite]:
    """Return all write sites, without those of ``NOT_REACHED``."""
    modules = _parse()
    state_changes = find_state_changes(modules) - RARE_WRITES
    sites = {site for module in modules for site in module.write_sites(state_changes)}
    unknown = NOT_REACHED - {(site.file, site.code) for site in sites}
    assert not unknown, f"NOT_REACHED names places that are no write sites any more: {unknown}"
    return sorted(site for site in sites if (site.file, site.code) not in NOT_REACHED)


def find_state_changes(modules: list[Module] | None = None) -> set[str]:
    """Return the names of the QuerySet methods that write, themselves or through another of them."""
    methods = [
        (module, method)
        for module in modules or _parse()
        for owner in module.query_set_classes
        for method in owner.body
        if isinstance(method, ast.FunctionDef)
    ]
    state_changes: set[str] = set()
    known = -1
    while len(state_changes) > known:
        known = len(state_changes)
        state_changes |= {
            method.name
            for module, method in methods
            if any(module.is_write(node, state_changes) for node in ast.walk(method))
        }
    return state_changes


def _parse() -> list[Module]:
    return [
        Module(str(path.relative_to(PACKAGE)), ast.parse(path.read_text()))
        for pattern in SEARCHED
        for path in sorted(PACKAGE.glob(pattern))
    ]


def _is_query_set_class(annotation: ast.expr | None) -> bool:
    return annotation is not None and ast.unparse(annotation).split("[")[0].endswith("QuerySet")


def _is_request(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Attribute)
        and node.value.attr == "client"
        and not node.attr.startswith("_")
    )
