"""The class ``Sandbox``: arguments, events, reset. The package imports nothing else of ``evermuse_outbox``."""

from __future__ import annotations

import ast
import socket
import time
from pathlib import Path

import pytest

import evermuse_outbox.sandbox as package
from evermuse_outbox.sandbox import Sandbox

from .conftest import BATCHES, Client
from .published import record

SOURCES = sorted(Path(package.__file__).parent.glob("*.py"))


def imported_modules(tree: ast.Module) -> set[str]:
    """Return every module that a file imports, relative ones as ``.name`` or ``..name``."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("." * node.level + (node.module or ""))
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_a_module_imports_neither_django_nor_the_client(path):
    for name in imported_modules(ast.parse(path.read_text(encoding="utf-8"))):
        assert not name.startswith(("django", "evermuse_outbox", "..", "requests")), name


def test_unknown_values_of_arguments_are_errors():
    with pytest.raises(ValueError, match="contract"):
        Sandbox(contract="v2")
    with pytest.raises(ValueError, match="errors_in"):
        Sandbox(errors_in="somewhere")


def test_a_port_in_use_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(OSError, match="in use"):
        Sandbox(port=listener.getsockname()[1]).start()


def test_start_and_stop_can_be_called_twice(serve):
    sandbox = serve()
    assert sandbox.start() is sandbox
    sandbox.stop()
    sandbox.stop()


def test_every_request_is_an_event(serve):
    events = []
    sandbox = serve(on_event=events.append)
    client = Client(sandbox)
    client.post([record(), record(data=5)])
    client.send("GET", BATCHES)
    Client(sandbox, None).send("GET", BATCHES)
    assert events == sandbox.arrivals
    assert [(a.method, a.path, a.status, a.error) for a in events] == [
        ("POST", "/api/v1/ingest", 202, ""),
        ("GET", BATCHES, 200, ""),
        ("GET", BATCHES, 401, "UNAUTHORIZED"),
    ]
    first = events[0]
    assert (first.type, first.records, first.accepted, first.rejected) == ("message", 2, 1, 1)
    assert first.batch_id == sandbox.batches()[0].id
    assert first.size > 100
    assert first.headers["content-type"] == "application/json"


def test_reset_restores_the_initial_state(sandbox, client):
    client.post([record()])
    sandbox.fail_next(status=500)
    sandbox.remove_key("em_sk_sandbox")
    sandbox.reset()
    assert (sandbox.arrivals, sandbox.records(), sandbox.batches(), sandbox.worst_second()) == ([], [], [], 0)
    assert client.post([record()]).status_code == 202


def test_the_default_clock_is_the_system_time():
    with Sandbox() as sandbox:
        client = Client(sandbox)
        batch_id = client.post([record()]).json()["batchId"]
        assert abs(client.status(batch_id)["createdAt"] / 1_000 - time.time()) < 5
