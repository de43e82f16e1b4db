"""Several API keys in real worker processes: a killed process, answers that are lost, and a key that is revoked."""

from __future__ import annotations

import json

import pytest

from evermuse_outbox.sandbox import Fault, Sandbox
from tests.e2e.host_processes import HostProcesses, environment, wait_until
from tests.records import record

pytestmark = pytest.mark.e2e

KEYS = ["em_sk_sandbox_first", "em_sk_sandbox_second", "em_sk_sandbox_third"]
RECORDS = 300
LOST_ANSWERS = 3


@pytest.fixture
def sandbox():
    """A sandbox that assumes the worse: keys share neither the listing nor idempotency keys."""
    keys = dict.fromkeys(KEYS, ("api:write", "api:read"))
    with Sandbox(keys=keys, batch_seconds=0.3, listing_scope="key", idempotency_scope="key") as running:
        yield running


@pytest.fixture
def host(tmp_path, sandbox):
    variables = {
        "DJANGO_SETTINGS_MODULE": "tests.e2e.several_keys",
        "EVERMUSE_API_KEYS": ",".join(KEYS),
        "EVERMUSE_API_URL": sandbox.url,
        "CELERY_BROKER_URL": "memory://",
    }
    running = HostProcesses(tmp_path, environment(tmp_path, **variables))
    running.manage("migrate", "--verbosity", "0")
    try:
        yield running
    finally:
        running.stop()


def import_records(host, numbers):
    file = host.home / f"records-{numbers.start}.ndjson"
    file.write_text("".join(json.dumps(record(number)) + "\n" for number in numbers))
    host.manage("outbox_import", str(file))


def test_records_arrive_once_with_the_keys_that_work(host, sandbox):
    import_records(host, range(RECORDS))
    sandbox.fail_next(Fault.drop_after(), count=LOST_ANSWERS)
    first, _ = host.start_relay(), host.start_relay()
    wait_until(lambda: len(sandbox.batches()) >= 10, "the first requests")
    first.kill()  # a batch under way becomes in doubt, and keeps its key
    host.manage("outbox_drain", "--timeout", "60")
    assert {arrival.key for arrival in sandbox.arrivals} == set(KEYS)

    sandbox.remove_key(KEYS[1])
    import_records(host, range(RECORDS, RECORDS + 60))
    host.manage("outbox_drain", "--timeout", "60")

    figures = host.status()
    assert {state: n for state, n in figures["records"].items() if n} == {"delivered": RECORDS + 60}
    assert figures["workspaces"]["default"]["state"] == "active"
    # With another key, a batch that was sent before would be stored again.
    assert {stored.times for stored in sandbox.records()} == {1}
    assert len(sandbox.records()) == RECORDS + 60
    assert all(sandbox.worst_second(key) <= 10 for key in KEYS)
    assert {arrival.status for arrival in sandbox.violations} <= {401}
    host.stop()
    assert not [
        file.name
        for file in host.home.rglob("*")
        if file.is_file() and any(key.encode() in file.read_bytes() for key in KEYS)
    ]
