"""The structure of the package as its imports show it: one direction, no cycles, interfaces instead of modules."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent / "evermuse_outbox"
NAME = ROOT.name
MAX_FILES = 10
"""Python files in a package, its ``__init__`` included: as many as a reader can overlook."""

MAX_LINES = 400
"""Lines of a module: as many as can be read in one sitting."""

LAYERS = [
    {"version", "foreign_text"},
    {"evermuse", "sandbox"},
    {"records"},
    {"ratelimit"},
    {"conf", "database_clock", "signals", "tracing"},
    {"encryption"},
    {"models"},
    {"search", "indexing", "runs", "timing"},
    {"delivery"},
    {"monitoring"},
    {"pressure"},
    {"upkeep"},
    {"operations"},
    {"jobs"},
    {"insight"},
    {"metrics"},
    {"messages"},
    {"tasks"},
    {"wakeup"},
    {"outbox", "schedule", "checks", "testing", "health"},
    {"model_records"},
    {"backfill"},
    {"admin", "management", "apps", "pytest_plugin"},
]
"""What stands directly below the package, from the lowest layer to the highest. A layer imports only lower ones."""

DELIVERY = [
    "connections",
    "context",
    "gates",
    "scheduling",
    "deferral",
    "rules",
    "scanning",
    "ordering",
    "sealing",
    "isolation",
    "settling",
    "polling",
    "sending",
    "loop",
]
"""The chain of the delivery. A package imports only those before it."""

PURE = [
    "delivery.context.backoff",
    "delivery.context.database_errors",
    "delivery.isolation.group_testing",
    "delivery.ordering.portions",
    "delivery.rules.matching",
    "delivery.scheduling.run_queue",
    "delivery.scheduling.scheduler",
    "delivery.sealing.packing",
    "evermuse.api.answers",
    "evermuse.api.diagnosis",
    "evermuse.api.outcomes",
    "evermuse.api.statuses",
    "evermuse.body",
    "evermuse.limits",
    "evermuse.records.identity",
    "evermuse.records.translation",
    "foreign_text.text",
    "foreign_text.values",
    "ratelimit.algorithm",
    "search.terms",
]
"""Modules without Django, without a clock and without I/O."""


class Import(NamedTuple):
    """An import statement's target: a module or package of ours, or a name from outside."""

    target: str
    name: str
    is_late: bool
    """Whether it runs only when a function is called."""


@cache
def modules():
    """Return the dotted name and the file of each module, without migrations."""
    return {
        dotted(path): path
        for path in sorted(ROOT.rglob("*.py"))
        if not {"migrations", "prerelease_migrations"} & set(path.parts)
    }


def dotted(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def packages():
    return {name for name, path in modules().items() if path.name == "__init__.py" and name != NAME}


def package_of(name):
    """Return the package that a module belongs to. A package belongs to itself."""
    return name if modules()[name].name == "__init__.py" else name.rpartition(".")[0]


@cache
def imports(name):
    """Return everything that a module imports, type-only and late imports included."""
    tree = ast.parse(modules()[name].read_text(encoding="utf-8"))
    late = {
        node
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    return {found for node in ast.walk(tree) for found in targets(name, node, node in late)}


def targets(name, node, is_late):
    if isinstance(node, ast.Import):
        return {Import(alias.name, "", is_late) for alias in node.names}
    if not isinstance(node, ast.ImportFrom):
        return set()
    base = node.module or ""
    if node.level:
        parents = package_of(name).split(".")
        base = ".".join([*parents[: len(parents) - node.level + 1], *([base] if base else [])])
    # `from . import x` may name a module, or a name of the package.
    return {
        Import(base, alias.name, is_late)
        if alias.name in exported(base) or f"{base}.{alias.name}" not in modules()
        else Import(f"{base}.{alias.name}", "", is_late)
        for alias in node.names
    }


@cache
def exported(name):
    """Return the names in ``__all__`` of a package."""
    if name not in packages():
        return set()
    tree = ast.parse(modules()[name].read_text(encoding="utf-8"))
    return {
        element.value
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"
        for element in node.value.elts
    }


def ours(name):
    return {found for found in imports(name) if found.target in modules() and found.target != name}


def is_in(target, *places):
    return any(target == place or target.startswith(f"{place}.") for place in places)


def top_of(name):
    """Return what stands directly below the package: ``evermuse_outbox.models.batch`` → ``models``."""
    return name.removeprefix(f"{NAME}.").split(".")[0]


def test_imports_are_read():
    assert Import(f"{NAME}.delivery.gates", "acquire_permit", is_late=False) in imports(
        f"{NAME}.delivery.loop.relay"
    )
    assert Import(f"{NAME}.tasks", "relay", is_late=True) in imports(f"{NAME}.wakeup")
    assert Import("celery", "shared_task", is_late=False) in imports(f"{NAME}.tasks")
    assert Import(f"{NAME}.delivery.scanning.sql_mysql", "", is_late=False) in imports(
        f"{NAME}.delivery.scanning.sql"
    )
    assert len(modules()) > 80


def test_each_layer_imports_only_lower_ones():
    level = {name: number for number, names in enumerate(LAYERS) for name in names}
    assert {top_of(name) for name in modules() if name != NAME} == set(level), "LAYERS names everything"
    upward = {
        f"{name} → {found.target}"
        for name in modules()
        if name != NAME
        for found in ours(name)
        if found.target != NAME
        and top_of(found.target) != top_of(name)
        and level[top_of(found.target)] >= level[top_of(name)]
    }
    # The wake-up names a task, late, so that a host that only enqueues does not import Celery.
    assert upward == set()


def test_the_delivery_is_one_chain():
    level = {name: number for number, name in enumerate(DELIVERY)}
    prefix = f"{NAME}.delivery."
    inside = [name for name in modules() if name.startswith(prefix)]
    step = {name: name.removeprefix(prefix).split(".")[0] for name in inside}
    assert set(step.values()) == set(DELIVERY)
    backward = {
        f"{name} → {found.target}"
        for name in inside
        for found in ours(name)
        if found.target in step and level[step[found.target]] > level[step[name]]
    }
    assert backward == set()


def test_packages_import_interfaces_and_not_modules_of_other_packages():
    """A module may import the modules of its own package and of the packages around it."""
    around = {
        f"{name} → {found.target}"
        for name in modules()
        for found in ours(name)
        if found.target not in packages() and package_of(found.target) not in (package_of(name), NAME)
    }
    assert around == set()


@pytest.mark.parametrize("name", sorted(packages()))
def test_a_package_names_its_interface(name):
    path = modules()[name]
    if is_in(name, f"{NAME}.management"):
        return  # Django finds commands by their file names
    tree = ast.parse(path.read_text(encoding="utf-8"))
    sentences = re.findall(r"[.:](?=\s|$)", ast.get_docstring(tree) or "")
    assert len(sentences) >= 3, "responsibility, what it must not do, and its interface"
    used = {
        found.name
        for other in modules()
        if other != name and package_of(other) != name
        for found in imports(other)
        if found.target == name and found.name
    }
    assert used <= exported(name), "used by others, but not in __all__"


@pytest.mark.parametrize("name", sorted({NAME, *packages()}))
def test_a_package_has_few_files(name):
    if is_in(name, f"{NAME}.management.commands"):
        return  # Django looks for commands in this folder only, one file for each
    files = list(modules()[name].parent.glob("*.py"))
    assert len(files) <= MAX_FILES


@pytest.mark.parametrize("name", sorted(modules()))
def test_a_module_can_be_read_in_one_sitting(name):
    assert len(modules()[name].read_text(encoding="utf-8").splitlines()) < MAX_LINES


def test_there_are_no_import_cycles():
    """Type-only imports count. Late imports count, too: they only hide a cycle."""
    graph = {name: sorted({found.target for found in ours(name)}) for name in modules()}
    done: set[str] = set()

    def visit(name, path):
        assert name not in path, " → ".join([*path[path.index(name) :], name])
        if name not in done:
            for target in graph[name]:
                # A module belongs to its package; importing a neighbour is no import of the package.
                visit(target, [*path, name])
            done.add(name)

    for name in graph:
        visit(name, [])


def test_there_are_no_cycles_between_packages():
    graph: dict[str, set[str]] = {}
    for name in modules():
        home = package_of(name)
        graph.setdefault(home, set()).update(package_of(found.target) for found in ours(name))
    for home, used in graph.items():
        # A package and the packages inside of it may import each other only downward: the parent imports the child.
        used.discard(home)
    done: set[str] = set()

    def visit(name, path):
        assert name not in path, " → ".join([*path[path.index(name) :], name])
        if name not in done:
            for target in sorted(graph.get(name, ())):
                if target != NAME:
                    visit(target, [*path, name])
            done.add(name)

    for name in sorted(graph):
        if name != NAME:
            visit(name, [])


@pytest.mark.parametrize("name", PURE)
def test_pure_code_is_pure(name):
    impure = ("django", "time", "celery", "redis", "requests", "socket", "threading")
    assert not {found for found in imports(f"{NAME}.{name}") if is_in(found.target, *impure)}
    text = modules()[f"{NAME}.{name}"].read_text(encoding="utf-8")
    assert "now()" not in text, "times are arguments"


def test_evermuse_and_the_sandbox_know_nothing_of_the_database():
    for name in modules():
        if is_in(name, f"{NAME}.evermuse", f"{NAME}.ratelimit"):
            forbidden = ("django.db", "django.conf", "celery")
            assert not {found for found in imports(name) if is_in(found.target, *forbidden)}, name
        if is_in(name, f"{NAME}.sandbox"):
            assert not {found for found in imports(name) if is_in(found.target, "django")}, name
            assert not {found for found in ours(name) if not is_in(found.target, f"{NAME}.sandbox")}, name


def test_the_delivery_does_not_know_celery():
    for name in modules():
        if is_in(name, f"{NAME}.delivery", f"{NAME}.upkeep", f"{NAME}.operations", f"{NAME}.insight"):
            assert not {found for found in imports(name) if is_in(found.target, "celery")}, name


def test_only_the_command_and_the_testing_helpers_use_the_sandbox():
    users = {name for name in modules() for found in ours(name) if is_in(found.target, f"{NAME}.sandbox")}
    allowed = (f"{NAME}.sandbox", f"{NAME}.management.commands.evermuse_sandbox", f"{NAME}.testing")
    assert {name for name in users if not is_in(name, *allowed)} == set()


WALL_CLOCK = {
    "database_clock": "measures how far this machine's clock is from the database's; no decision depends on it",
    "models.insert.values": "the offset of a time zone from UTC, for a connection that does not use UTC",
}
"""Modules that may read the wall clock of the machine, each with the reason. All others use the database's clock."""

WALL_CLOCK_CALLS = re.compile(
    r"\b(?:timezone\.(?:now|localdate)|time\.time(?:_ns)?|datetime\.(?:now|utcnow|today)|date\.today)$|^localtime$"
)


def test_no_module_decides_by_the_clock_of_its_machine():
    readers = {
        name.removeprefix(f"{NAME}.")
        for name, path in modules().items()
        if ".sandbox" not in name and reads_wall_clock(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert readers == set(WALL_CLOCK)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("timezone.now()", True),
        ("f(default=timezone.now)", True),
        ("from time import time", True),
        ("datetime.datetime.now(UTC)", True),
        ("time.monotonic()", False),
        ("clock.now()", False),
    ],
)
def test_reads_of_the_wall_clock_are_found(code, expected):
    assert reads_wall_clock(ast.parse(code)) is expected


def reads_wall_clock(tree):
    names = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    imported = [
        f"{node.module.rpartition('.')[2]}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    ]
    return any(WALL_CLOCK_CALLS.search(name) for name in names + imported)
