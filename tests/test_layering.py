"""The house as its imports show it: one direction, no cycles, rooms that do not look upward."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "evermuse_outbox"
NAME = PACKAGE.name
MOST_LINES = 400


@cache
def modules():
    """Dotted name → its file, without migrations."""
    return {dotted(path): path for path in PACKAGE.rglob("*.py") if "migrations" not in path.parts}


def dotted(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports(name, *, late=True):
    """What a module imports, by full name; with ``late`` also what its functions import when called."""
    tree = ast.parse(modules()[name].read_text(encoding="utf-8"))
    nodes = ast.walk(tree) if late else at_import(tree)
    return {target for node in nodes for target in targets(name, node)}


def at_import(tree):
    """The nodes that run when the module is imported: not the insides of functions, nor hints for types."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or is_type_checking(node):
            continue
        yield node
        yield from at_import(node)


def is_type_checking(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def targets(name, node):
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if not isinstance(node, ast.ImportFrom):
        return set()
    base = node.module or ""
    if node.level:
        package = name.split(".") if modules()[name].name == "__init__.py" else name.split(".")[:-1]
        here = package[: len(package) - node.level + 1]
        base = ".".join([*here, *([base] if base else [])])
    # `from . import x` may name a module or something in the package itself.
    return {
        found if (found := f"{base}.{alias.name}") in modules() or not base.startswith(NAME) else base
        for alias in node.names
    }


def is_in(target, *rooms):
    return any(target == room or target.startswith(f"{room}.") for room in rooms)


def looking_at(room, *forbidden):
    """Who in ``room`` imports what is forbidden there."""
    return {
        f"{name} → {target}"
        for name in modules()
        if is_in(name, f"{NAME}.{room}")
        for target in imports(name)
        if is_in(target, *forbidden)
    }


def of_ours(*names):
    return tuple(f"{NAME}.{name}" for name in names)


def outside(room, *allowed):
    """Who in ``room`` imports something of this package that is in none of the allowed rooms."""
    return {
        f"{name} → {target}"
        for name in modules()
        if is_in(name, f"{NAME}.{room}")
        for target in imports(name)
        if is_in(target, NAME) and not is_in(target, *of_ours(room, *allowed))
    }


def test_the_reader_of_imports_reads_them():
    assert f"{NAME}.evermuse" in imports(f"{NAME}.conf.options")
    assert f"{NAME}.tasks" in imports(f"{NAME}.wakeup")
    assert f"{NAME}.tasks" not in imports(f"{NAME}.wakeup", late=False)
    assert f"{NAME}.models" in imports(f"{NAME}.insight.status")
    assert "django.db.transaction" in imports(f"{NAME}.wakeup")
    assert len(modules()) > 30


def test_evermuse_knows_nothing_of_the_database_or_of_us():
    assert outside("evermuse", "version") == set()
    assert looking_at("evermuse", "django.db", "django.conf", "celery") == set()


def test_models_know_only_evermuse():
    assert outside("models", "evermuse", "ratelimit") == set()


def test_the_pipeline_is_not_told_who_runs_it():
    upper = of_ours("tasks", "admin", "management", "outbox", "schedule", "status", "explain", "testing")
    assert looking_at("delivery", *upper, "celery") == set()


@pytest.mark.parametrize(
    "name",
    [
        "delivery.sealing.packing",
        "delivery.context.backoff",
        "delivery.scheduling.scheduler",
        "delivery.context.database_errors",
        "delivery.isolation.group_testing",
        "evermuse.api.diagnosis",
    ],
)
def test_pure_code_is_pure(name):
    assert outside(name, "evermuse") == set()
    assert looking_at(name, "django", "time", "datetime") == set()


def test_the_plan_knows_the_scheduler_alone():
    assert outside("delivery.scheduling.run_queue", "delivery.scheduling.scheduler") == set()
    assert looking_at("delivery.scheduling.run_queue", "django", "time") == set()
    assert "now()" not in modules()[f"{NAME}.delivery.scheduling.run_queue"].read_text(encoding="utf-8"), (
        "moments are stored in it, and no clock is asked"
    )


def test_the_sandbox_stands_alone():
    assert outside("sandbox") == set()
    assert looking_at("sandbox", "django") == set()


def test_only_the_sandbox_and_what_starts_it_need_the_sandbox():
    users = {name for name in modules() for target in imports(name) if is_in(target, f"{NAME}.sandbox")}
    doors = of_ours("sandbox", "management.commands.evermuse_sandbox", "testing")
    assert {name for name in users if not is_in(name, *doors)} == set()


def test_nothing_imports_the_rooms_where_people_act():
    for name in modules():
        if not is_in(name, *of_ours("admin", "management")):
            assert not any(is_in(target, *of_ours("admin", "management")) for target in imports(name)), name


def test_there_are_no_cycles():
    graph = {name: imports(name, late=False) & set(modules()) - {name} for name in modules()}
    done: set[str] = set()

    def walk(name, path):
        assert name not in path, " → ".join([*path[path.index(name) :], name])
        if name not in done:
            for target in sorted(graph[name]):
                walk(target, [*path, name])
            done.add(name)

    for name in graph:
        walk(name, [])


@pytest.mark.parametrize("name", sorted(modules()))
def test_a_module_can_be_read_in_one_sitting(name):
    assert len(modules()[name].read_text(encoding="utf-8").splitlines()) < MOST_LINES
