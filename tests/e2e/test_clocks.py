"""Processes with wrong clocks: whichever of worker, beat and host is wrong, records are delivered within seconds."""

from __future__ import annotations

import shutil
import subprocess
import time
import uuid
from pathlib import Path

import pytest

from evermuse_outbox.sandbox import Sandbox
from tests.e2e.host_processes import HostProcesses, environment, wait_until
from tests.e2e.test_workers import mariadb_rabbitmq, needs, postgres_redis

COMPILER = shutil.which("cc") or shutil.which("gcc")
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        COMPILER is None, reason="no C compiler, which builds the library that shifts a clock"
    ),
]

HOUR = 3_600
MAX_SECONDS = 20.0
"""Time for a delivery on a busy machine. A decision that compared two clocks would take an hour, or never be made."""

POSTGRES = needs("postgres", "redis")
MARIADB = needs("mariadb", "rabbitmq")

CASES = [
    pytest.param(postgres_redis, 15, 0, 0, id="postgres-worker-15-s-ahead", marks=POSTGRES),
    pytest.param(postgres_redis, -HOUR, HOUR, 0, id="postgres-worker-behind-beat-ahead", marks=POSTGRES),
    pytest.param(mariadb_rabbitmq, HOUR, -15, 0, id="mariadb-worker-ahead-beat-behind", marks=MARIADB),
    pytest.param(mariadb_rabbitmq, 0, 0, HOUR, id="mariadb-host-ahead", marks=MARIADB),
]
"""Seconds by which the clocks of worker, beat and host are ahead."""


@pytest.fixture(scope="module")
def shifting_library(tmp_path_factory):
    """Build the library that shifts the wall clock of a process."""
    library = tmp_path_factory.mktemp("clock") / "shifted_clock.so"
    source = Path(__file__).with_name("shifted_clock.c")
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    return library


@pytest.mark.parametrize(("services", "worker", "beat", "host"), CASES)
def test_records_are_delivered_whatever_the_clocks_say(
    services, worker, beat, host, shifting_library, tmp_path
):
    with services(tmp_path) as (variables, arguments), Sandbox(batch_seconds=0.2) as sandbox:
        queue = f"e2e-{uuid.uuid4().hex[:8]}"
        variables |= {"CELERY_TASK_DEFAULT_QUEUE": queue, "EVERMUSE_API_URL": sandbox.url}
        processes = HostProcesses(tmp_path, environment(tmp_path, **variables))
        truth = processes.environment
        processes.manage("migrate", "--verbosity", "0")
        try:
            processes.environment = truth | shifted(shifting_library, beat)
            processes.start_worker("-B", "-c", "1", "-Q", f"{queue}-nothing")
            processes.environment = truth | shifted(shifting_library, worker)
            processes.start_worker(*arguments)
            processes.environment = truth | shifted(shifting_library, host)
            processes.manage("shell", "-c", ENQUEUE)
            started = time.monotonic()
            wait_until(lambda: len(sandbox.records()) == 3, "three records at Evermuse", MAX_SECONDS)
            processes.environment = truth
            wait_until(lambda: processes.status()["records"]["delivered"] == 3, "delivered", MAX_SECONDS)
            assert time.monotonic() - started < 2 * MAX_SECONDS
            if worker:
                processes.environment = truth | shifted(shifting_library, worker)
                assert abs(processes.status()["clocks"]["process"] - worker) < 3
                assert "clock of the database" in processes.manage("outbox_status").stdout
        finally:
            processes.stop()


def shifted(library, seconds):
    """Return the variables that shift the wall clock of a process."""
    return {"LD_PRELOAD": str(library), "CLOCK_SHIFT": str(seconds)} if seconds else {}


ENQUEUE = """
from evermuse_outbox import outbox
for number in range(3):
    outbox.enqueue({
        "_type": "message",
        "_schema_version": "1.0.0",
        "_event_at": "2026-02-24T12:34:56Z",
        "_vendor_ids": {"message_id": f"clock-{number}"},
        "_product_id": "prod-abc",
        "_project_id": "proj-abc",
        "data": {"text": "fine"},
    })
"""
