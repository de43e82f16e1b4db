"""The door: arguments, events, reset, and what the package may know."""

from __future__ import annotations

import ast
import socket
from pathlib import Path

import pytest

import evermuse_outbox.sandbox as package
from evermuse_outbox.sandbox import Sandbox

from .conftest import BATCHES, Client
from .published import record

SOURCES = sorted(Path(package.__file__).parent.glob("*.py"))


def imported(tree: ast.Module) -> set[str]:
    """Every module that a file imports, relative ones as `.name` or `..name`."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_knows_neither_django_nor_the_client(path):
    for name in imported(ast.parse(path.read_text(encoding="utf-8"))):
        assert not name.startswith(("django", "evermuse_outbox", "..", "requests")), name


def test_unknown_arguments():
    with pytest.raises(ValueError, match="contract"):
        Sandbox(contract="v2")
    with pytest.raises(ValueError, match="errors_in"):
        Sandbox(errors_in="somewhere")


def test_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        Sandbox(port=taken.getsockname()[1]).start()


def test_start_and_stop_may_be_said_twice(serve):
    sandbox = serve()
    assert sandbox.start() is sandbox
    sandbox.stop()
    sandbox.stop()


def test_every_request_is_an_event(serve):
    seen = []
    sandbox = serve(on_event=seen.append)
    client = Client(sandbox)
    client.post([record(), record(data=5)])
    client.ask("GET", BATCHES)
    Client(sandbox, None).ask("GET", BATCHES)
    assert seen == sandbox.arrivals
    assert [(a.method, a.path, a.status, a.error) for a in seen] == [
        ("POST", "/api/v1/ingest", 202, ""),
        ("GET", BATCHES, 200, ""),
        ("GET", BATCHES, 401, "UNAUTHORIZED"),
    ]
    first = seen[0]
    assert (first.type, first.records, first.accepted, first.rejected) == ("message", 2, 1, 1)
    assert first.batch_id == sandbox.batches()[0].id
    assert first.size > 100
    assert first.headers["content-type"] == "application/json"


def test_reset_forgets_everything_but_the_settings(sandbox, client):
    client.post([record()])
    sandbox.fail_next(status=500)
    sandbox.remove_key("em_sk_sandbox")
    sandbox.reset()
    assert (sandbox.arrivals, sandbox.records(), sandbox.batches(), sandbox.worst_second()) == ([], [], [], 0)
    assert client.post([record()]).status_code == 202


def test_the_default_clock_is_the_time_of_day():
    import time

    with Sandbox() as sandbox:
        client = Client(sandbox)
        batch_id = client.post([record()]).json()["batchId"]
        assert abs(client.status(batch_id)["createdAt"] / 1_000 - time.time()) < 5
