"""Many faults at once: an API with faults, and workers that are killed while versions are written."""

from __future__ import annotations

import random
import subprocess
import sys
import uuid
from dataclasses import dataclass, field

import pytest

from benchmarks.common.databases import fresh_database
from evermuse_outbox.sandbox import Fault, Sandbox
from tests.e2e.host_processes import ROOT, HostProcesses, environment, wait_until
from tests.e2e.test_workers import needs
from tests.services import POSTGRES_URL, REDIS_URL

pytestmark = [pytest.mark.e2e, *needs("postgres", "redis")]

SEED = 20260224
KILLS = 4


@dataclass
class Host(HostProcesses):
    """Writers, and two workers that both run beat. For each killed worker, another one starts."""

    writers: list[subprocess.Popen] = field(default_factory=list)

    def start_writer(self, seed: int) -> None:
        command = [sys.executable, "-m", "tests.e2e.writer", str(seed)]
        self.writers.append(
            subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, text=True)
        )

    def start_beating_worker(self) -> None:
        self.start_worker("-c", "2", "-B", "-s", str(self.home / uuid.uuid4().hex))

    def kill_random_worker(self, rng: random.Random) -> None:
        self.kill_worker(self.workers.pop(rng.randrange(len(self.workers))))

    def end_writers(self) -> dict[str, str]:
        """End the writers. Return message id → text of its last committed version, in the order of enqueueing."""
        for writer in self.writers:
            writer.terminate()
        lines = [
            line.split() for writer in self.writers for line in writer.communicate(timeout=60)[0].splitlines()
        ]
        versions = sorted((int(pk), number, text) for pk, number, text in lines)
        return {f"msg-{number}": text for _, number, text in versions}

    def stop(self) -> None:
        super().stop()
        for writer in self.writers:
            writer.kill()
            writer.communicate()


@pytest.fixture
def sandbox():
    with Sandbox(batch_seconds=0.3, fail_percent=20, seed=SEED) as running:
        for fault in (Fault.garbage(), Fault.slow(1.5), Fault.failed_batch()) * 3:
            running.fail_next(fault)
        yield running


@pytest.fixture
def host(tmp_path, sandbox):
    with fresh_database(POSTGRES_URL, tmp_path, "e2e") as url:
        variables = {
            "DJANGO_SETTINGS_MODULE": "tests.e2e.short_timeouts",
            "DATABASE_URL": url,
            "CELERY_BROKER_URL": REDIS_URL,
            "REDIS_URL": REDIS_URL,
            "CELERY_TASK_DEFAULT_QUEUE": f"e2e-{uuid.uuid4().hex[:8]}",
            "EVERMUSE_API_URL": sandbox.url,
        }
        running = Host(tmp_path, environment(tmp_path, **variables))
        running.manage("migrate", "--verbosity", "0")
        try:
            yield running
        finally:
            running.stop()


def test_the_last_committed_version_of_each_identity_arrives(host, sandbox):
    rng = random.Random(SEED)
    for number in range(2):
        host.start_writer(number)
        host.start_beating_worker()
    for _ in range(KILLS):
        wait_for_arrivals(sandbox, rng.randrange(2, 10))
        host.kill_random_worker(rng)
        host.start_beating_worker()
    last_texts = host.end_writers()
    host.manage("outbox_drain", "--timeout", "90")

    arrived = {dict(s.identity.vendor_ids)["message_id"]: s.record["data"]["text"] for s in sandbox.records()}
    assert arrived == last_texts
    assert sandbox.violations == []
    assert sandbox.worst_second() <= 10
    figures = host.status()
    assert figures["records"]["rejected"] == 0
    # The last answer may have been a 429 to a read of the listing.
    assert figures["workspaces"]["default"]["state"] in ("active", "throttled")


def wait_for_arrivals(sandbox, count):
    target = len(sandbox.arrivals) + count
    wait_until(lambda: len(sandbox.arrivals) >= target, "new requests")
