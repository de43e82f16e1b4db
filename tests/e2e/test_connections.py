"""Slow answers occupy no database connections: more requests are under way than connections are open."""

from __future__ import annotations

import uuid

import pytest

from benchmarks.common.databases import count_connections, fresh_database
from evermuse_outbox.sandbox import Fault, Sandbox
from tests.e2e.host_processes import HostProcesses, environment, wait_until
from tests.e2e.test_workers import needs
from tests.services import MARIADB_URL, POSTGRES_URL, REDIS_URL

pytestmark = pytest.mark.e2e

SLOW = 3.0
"""Seconds of each answer of Evermuse."""

RECORDS = 400
"""Enough for half a minute at the rate limit, with one record in a request."""


@pytest.fixture(
    params=[
        pytest.param(
            (POSTGRES_URL, {"POOL_SIZE": "3"}), id="postgres-pool", marks=needs("postgres", "redis")
        ),
        pytest.param((POSTGRES_URL, {}), id="postgres", marks=needs("postgres", "redis")),
        pytest.param((MARIADB_URL, {}), id="mariadb", marks=needs("mariadb", "redis")),
    ]
)
def host(request, tmp_path):
    server_url, variables = request.param
    with fresh_database(server_url, tmp_path, "connections") as url, Sandbox(batch_seconds=0.5) as sandbox:
        variables = variables | {
            "DATABASE_URL": url,
            "DJANGO_SETTINGS_MODULE": "tests.e2e.few_connections",
            "EVERMUSE_API_URL": sandbox.url,
            "CELERY_BROKER_URL": REDIS_URL,
            "CELERY_TASK_DEFAULT_QUEUE": f"connections-{uuid.uuid4().hex[:8]}",
        }
        running = HostProcesses(tmp_path, environment(tmp_path, **variables))
        running.manage("migrate", "--verbosity", "0")
        enqueue = f"outbox.enqueue_many([record(number) for number in range({RECORDS})])"
        running.manage(
            "shell", "-c", f"from evermuse_outbox import outbox; from tests.records import record; {enqueue}"
        )
        sandbox.fail_next(Fault.slow(SLOW), count=None)
        try:
            yield running, sandbox, url
        finally:
            running.stop()


@pytest.mark.parametrize("start", ["celery", "relay"])
def test_more_requests_are_under_way_than_connections_are_open(host, start):
    running, sandbox, url = host
    if start == "celery":
        running.start_worker("-B", "-c", "1")
    else:
        running.start_relay()
    seen = []

    def has_more_requests_than_connections():
        seen.append((_under_way(sandbox), count_connections(url)))
        requests, open_connections = seen[-1]
        return requests >= 10 and open_connections <= 5

    wait_until(has_more_requests_than_connections, f"ten requests and few connections: {seen}")
    logs = "".join(log.read_text(errors="replace") for log in running.home.glob("*.log"))
    assert "PoolTimeout" not in logs


def _under_way(sandbox):
    """Return how many requests have arrived and have no answer yet."""
    return sum(arrival.answered_at is None for arrival in sandbox.arrivals)
