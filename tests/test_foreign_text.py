"""Every place that logs, prints or raises foreign text uses the gate: the source code shows it."""

from __future__ import annotations

import ast
from importlib import import_module

import pytest

from evermuse_outbox.management import CommandWithExamples
from tests.test_layering import ROOT, modules

GATE = "evermuse_outbox.foreign_text"

NOT_IN_THE_OUTBOX = "evermuse_outbox.sandbox"
"""The sandbox is for development. It has no secrets, and its command has a gate for the terminal of its own."""

TEXT_OF_AN_ERROR = {
    **dict.fromkeys(
        (
            "evermuse_outbox.admin.jobs.edit",
            "evermuse_outbox.encryption.keys",
            "evermuse_outbox.jobs.encrypt",
            "evermuse_outbox.jobs.fix",
            "evermuse_outbox.management.commands.outbox_erase",
            "evermuse_outbox.models.payloads.data_key",
            "evermuse_outbox.models.payloads.keyring",
        ),
        "an error of ours about a payload or a key that cannot be read; it names ids",
    ),
    "evermuse_outbox.backfill.pace": "ThrottleUnavailable: our text",
    "evermuse_outbox.backfill.rows": "InvalidRecord: its texts passed the gate",
    "evermuse_outbox.checks": "ImproperlyConfigured: our text",
    "evermuse_outbox.checks.workspaces": "KeyUnavailable: our text",
    "evermuse_outbox.conf.keys": "KeyUnavailable: our text",
    "evermuse_outbox.conf.workspace": "KeyUnavailable: our text",
    "evermuse_outbox.delivery.gates.workspace_breaker": "ThrottleUnavailable: our text",
    "evermuse_outbox.delivery.sealing.contract": "Untranslatable: our text, into a column with the gate",
    "evermuse_outbox.delivery.sending.lease": "BodyChanged: our text, into a column with the gate",
    "evermuse_outbox.delivery.sending.renewal": "ImproperlyConfigured: our text, into a column with the gate",
    "evermuse_outbox.evermuse.api.outcomes": "TransportError: its text passed the gate",
    "evermuse_outbox.evermuse.errors": "FieldError: its texts passed the gate",
    "evermuse_outbox.evermuse.records.json_values": "ValueError of Django: into a FieldError, which has the gate",
    "evermuse_outbox.evermuse.records.timestamps": "ValueError of datetime: into a FieldError, which has the gate",
    "evermuse_outbox.evermuse.records.validation": "InvalidTimestamp: our text, into a FieldError with the gate",
    "evermuse_outbox.management.commands.evermuse_sandbox": "the sandbox",
    "evermuse_outbox.management.commands.outbox_indexes": "Busy: our text",
    "evermuse_outbox.management.commands.outbox_schema": "ImproperlyConfigured: our text",
}
"""Modules that take the text of an exception, each with the reason why it needs no gate there."""

FOREIGN_NAMES = {
    "message",
    "reason",
    "detail",
    "text",
    "body",
    "answer",
    "payload",
    "line",
    "remote_id",
    "cursor",
}


def outbox_modules():
    names = [name for name in modules() if not name.startswith((NOT_IN_THE_OUTBOX, GATE))]
    return sorted(name for name in names if name != "evermuse_outbox.management.commands.evermuse_sandbox")


def calls(name):
    tree = ast.parse(modules()[name].read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def called(node):
    return ast.unparse(node.func)


def is_log_call(node):
    return isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) in (
        "logger",
        "log",
        "logging",
    )


@pytest.mark.parametrize("name", outbox_modules())
def test_every_logger_has_the_gate(name):
    source = modules()[name].read_text(encoding="utf-8")
    assert "getLogger" not in source, "use foreign_text.get_logger"
    assert "warnings.warn" not in source


@pytest.mark.parametrize("name", outbox_modules())
def test_a_log_call_has_a_constant_template_and_no_foreign_text(name):
    for node in filter(is_log_call, calls(name)):
        arguments = node.args[1:] if called(node).endswith(".log") else node.args
        template, *values = arguments
        assert isinstance(template, ast.Constant), f"{name}:{node.lineno}: the template is not a constant"
        for value in values:
            last = ast.unparse(value).rpartition(".")[2]
            assert not isinstance(value, ast.JoinedStr), f"{name}:{node.lineno}"
            assert last not in FOREIGN_NAMES, f"{name}:{node.lineno}: log headline({last})"


NO_IDS = {
    "evermuse_outbox.management.commands.outbox_relay": "one thread of a process, for all databases and workspaces",
}
"""Modules whose log records concern no database, workspace or batch."""


@pytest.mark.parametrize("name", [name for name in outbox_modules() if name not in NO_IDS])
def test_a_log_call_has_ids(name):
    for node in filter(is_log_call, calls(name)):
        assert "extra" in {keyword.arg for keyword in node.keywords}, f"{name}:{node.lineno}: use log_ids"


def errors_as_text(name):
    """Yield the lines in which an exception of an ``except`` clause becomes text."""
    tree = ast.parse(modules()[name].read_text(encoding="utf-8"))
    for handler in (node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler) and node.name):
        for node in ast.walk(handler):
            is_str = isinstance(node, ast.Call) and called(node) in ("str", "repr", "format")
            values = node.args if is_str else [node.value] if isinstance(node, ast.FormattedValue) else []
            if any(ast.unparse(value) == handler.name for value in values):
                yield f"{name}:{node.lineno}"


def test_the_text_of_an_exception_passes_the_gate_or_has_a_reason():
    found = {
        name: [*errors_as_text(name)] for name in modules() if not name.startswith((NOT_IN_THE_OUTBOX, GATE))
    }
    without_reason = [line for name, lines in found.items() if name not in TEXT_OF_AN_ERROR for line in lines]
    assert not without_reason, f"use describe_error or summarise_error: {without_reason}"


@pytest.mark.parametrize("name", [name for name in outbox_modules() if ".management.commands." in name])
def test_a_command_writes_through_the_gate(name):
    source = modules()[name].read_text(encoding="utf-8")
    if "class Command" in source:
        assert issubclass(import_module(name).Command, CommandWithExamples)
    for node in calls(name):
        assert called(node) not in ("sys.stdout.write", "sys.stderr.write", "self.stderr.write"), node.lineno
        if called(node) == "self.stdout.write":
            # A style around the text would be removed by the gate: it is the second argument.
            assert "self.style" not in ast.unparse(node.args[0]), f"{name}:{node.lineno}"


def test_no_text_is_cut_without_the_gate():
    cuts = {}
    for name in outbox_modules():
        tree = ast.parse(modules()[name].read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Subscript)
                and isinstance(node.slice, ast.Slice)
                and node.slice.lower is None
            ):
                last = ast.unparse(node.value).rpartition(".")[2]
                if last in FOREIGN_NAMES - {"payload"}:
                    cuts[f"{name}:{node.lineno}"] = ast.unparse(node)
    allowed = {"text[:MAX_SHOWN]"}  # the payload on a page of the admin
    assert {line: cut for line, cut in cuts.items() if cut not in allowed} == {}


def test_the_gate_imports_nothing_of_ours():
    assert not {
        path.name for path in (ROOT / "foreign_text").glob("*.py") if "from .." in path.read_text("utf-8")
    }
