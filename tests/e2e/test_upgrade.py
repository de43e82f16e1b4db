"""The rehearsal of an upgrade: both versions work on the same tables under load, and nothing is lost or sent twice."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.common.databases import fresh_database
from evermuse_outbox.sandbox import Sandbox
from tests.e2e.host_processes import ROOT, HostProcesses, environment, wait_until
from tests.e2e.previous_version import USER_AGENT, copy_previous_version
from tests.e2e.test_workers import needs
from tests.services import MARIADB_URL, POSTGRES_URL, REDIS_URL

pytestmark = [pytest.mark.e2e, pytest.mark.long]

POSTS = 4
"""Requests that a version sends before the next step begins."""

CLOSED_ROWS = 5_100
"""Rows that make the table of records large: a migration leaves its indexes to ``outbox_indexes``."""

NUMBER = 40
"""Records of each new kind, which the version before does not know: with labels, and to be sent later."""

ADD_CLOSED_ROWS = f"""
from django.utils import timezone
from evermuse_outbox.models import OutboxRecord
import uuid
OutboxRecord.objects.bulk_create([
    OutboxRecord(
        workspace="default", type="message", product_id="old", identity=uuid.uuid4(), contract="reference",
        payload="{{}}", size=2, enqueued_at=timezone.now(), closed_as="discarded",
    )
    for _ in range({CLOSED_ROWS})
], batch_size=500)
"""


ENQUEUE_WITH_NEW_FEATURES = f"""
from datetime import timedelta
from evermuse_outbox import outbox
from tests.records import record
for number in range({NUMBER}):
    outbox.enqueue(record(f"labelled-{{number}}"), labels={{"customer": "north"}})
    outbox.enqueue(record(f"later-{{number}}"), send_after=timedelta(seconds=2))
"""

MIGRATE = "Run manage.py migrate evermuse_outbox"
"""What a worker logs if the tables are older than its code."""


class Side(HostProcesses):
    """The processes of one version: a relay or Celery workers, and writers of the host."""

    def __init__(self, home: Path, variables: dict[str, str], root: Path) -> None:
        home.mkdir()
        super().__init__(home, environment(home, PYTHONPATH=str(root), **variables), root=root)
        self.writers: list[subprocess.Popen] = []
        self.versions: list[tuple[int, str, str]] = []

    def start_writer(self, seed: int) -> None:
        """Start a process that writes versions until it is ended."""
        command = [sys.executable, "-m", "tests.e2e.writer", str(seed)]
        log = (self.home / f"writer-{seed}.log").open("w+")
        self.writers.append(
            subprocess.Popen(command, cwd=self.root, env=self.environment, stdout=log, stderr=subprocess.PIPE)
        )
        self.writers[-1].log = log

    def has_committed(self) -> bool:
        """Return whether the writers have committed a version."""
        return any((self.home / path).stat().st_size for path in self.home.glob("writer-*.log"))

    def logs(self) -> str:
        """Return what the processes have written."""
        return "".join(path.read_text(errors="replace") for path in sorted(self.home.glob("*.log")))

    def end_writers(self) -> None:
        """End the writers, and remember the versions that they have committed."""
        for writer in self.writers:
            writer.terminate()
            _, errors = writer.communicate(timeout=60)
            assert writer.returncode == 0, errors.decode()
            with writer.log as log:
                log.seek(0)
                for line in log:
                    pk, number, text = line.split()
                    self.versions.append((int(pk), f"msg-{number}", text))
        self.writers.clear()

    def stop(self) -> None:
        """End all processes."""
        for writer in self.writers:
            writer.kill()
            writer.communicate()
            writer.log.close()
        super().stop()


class Upgrade:
    """Two versions of one host: they share the database, the broker and Evermuse."""

    def __init__(self, old: Side, new: Side, sandbox: Sandbox, *, has_celery: bool) -> None:
        self.old, self.new, self.sandbox, self.has_celery = old, new, sandbox, has_celery

    def start(self, side: Side, seed: int) -> None:
        """Start what delivers, and a writer."""
        if self.has_celery:
            side.start_worker("-B", "-c", "2", "-s", str(side.home / "schedule"))
        else:
            side.start_relay()
        side.start_writer(seed)

    def count_posts(self, *, by_old: bool) -> int:
        """Return how many requests a version has sent."""
        posts = [arrival for arrival in self.sandbox.arrivals if arrival.method == "POST"]
        return sum((arrival.headers["User-Agent"] == USER_AGENT) == by_old for arrival in posts)

    def wait_for_posts(self, *, by_old: bool) -> None:
        """Wait until a version has sent more requests."""
        target = self.count_posts(by_old=by_old) + POSTS
        version = "previous" if by_old else "new"
        wait_until(lambda: self.count_posts(by_old=by_old) >= target, f"requests of the {version} version")

    def logs(self) -> str:
        """Return what the processes have written."""
        return self.old.logs() + self.new.logs()


@pytest.fixture(scope="module")
def previous(tmp_path_factory):
    """The code of the version before."""
    return copy_previous_version(tmp_path_factory.mktemp("previous"))


CASES = [
    pytest.param("sqlite://", False, id="sqlite"),
    pytest.param(MARIADB_URL, False, id="mariadb", marks=needs("mariadb")),
    pytest.param(POSTGRES_URL, True, id="postgres-celery", marks=needs("postgres", "redis")),
]


@contextmanager
def running_upgrade(url: str, has_celery: bool, home: Path, previous: Path):
    """Open a database with the tables of the version before, and the two sides."""
    with fresh_database(url, home, "upgrade") as database, Sandbox(batch_seconds=0.2) as sandbox:
        variables = {
            "DJANGO_SETTINGS_MODULE": "tests.e2e.short_timeouts",
            "DATABASE_URL": database,
            "EVERMUSE_API_URL": sandbox.url,
            "CELERY_BROKER_URL": REDIS_URL if has_celery else "memory://",
            "CELERY_TASK_DEFAULT_QUEUE": f"upgrade-{uuid.uuid4().hex[:8]}",
        }
        old, new = Side(home / "old", variables, previous), Side(home / "new", variables, ROOT)
        try:
            yield Upgrade(old, new, sandbox, has_celery=has_celery)
        finally:
            old.stop()
            new.stop()


@pytest.mark.parametrize(("url", "has_celery"), CASES)
def test_both_versions_work_on_the_same_tables_under_load(url, has_celery, tmp_path, previous):
    with running_upgrade(url, has_celery, tmp_path, previous) as upgrade:
        old, new = upgrade.old, upgrade.new
        old.manage("migrate", "--verbosity", "0")
        old.manage("shell", "-c", ADD_CLOSED_ROWS)
        upgrade.start(old, 1)
        upgrade.wait_for_posts(by_old=True)

        # New code on the old tables: it enqueues, and its workers deliver or log what to do.
        upgrade.start(new, 2)
        wait_until(new.has_committed, "a version that the new code has enqueued")
        wait_until(
            lambda: MIGRATE in new.logs() or upgrade.count_posts(by_old=False),
            "a request, or its cause in the logs",
        )
        upgrade.wait_for_posts(by_old=True)

        new.manage("migrate", "--verbosity", "0")
        upgrade.wait_for_posts(by_old=True)
        upgrade.wait_for_posts(by_old=False)
        new.manage("shell", "-c", ENQUEUE_WITH_NEW_FEATURES)
        assert "2 versions at work: 0.1.0 (" in new.manage("outbox_status", "--overview").stdout
        upgrade.wait_for_posts(by_old=True)

        old.end_writers()
        old.stop()
        built = new.manage("outbox_indexes").stdout
        assert "builds the index evermuse_record_labels" in built
        upgrade.wait_for_posts(by_old=False)
        new.end_writers()
        new.manage("outbox_drain", "--timeout", "60")
        assert new.manage("outbox_indexes", "--check").returncode == 0
        check_deliveries(upgrade)


def check_deliveries(upgrade):
    """Check that each version was sent once at most, and that the last one of each identity has arrived."""
    versions = sorted(upgrade.old.versions + upgrade.new.versions)
    sandbox = upgrade.sandbox
    arrived = {dict(stored.identity.vendor_ids)["message_id"]: stored for stored in sandbox.records()}
    texts = {number: stored.record["data"]["text"] for number, stored in arrived.items()}
    new = {f"msg-{kind}-{n}": f"Hello {kind}-{n}" for kind in ("labelled", "later") for n in range(NUMBER)}
    assert texts == new | {number: text for _, number, text in versions}
    written = Counter([*new, *(number for _, number, _ in versions)])
    assert {number for number, stored in arrived.items() if stored.times > written[number]} == set()
    records = upgrade.new.status()["records"]
    counts = {state: count for state, count in records.items() if count}
    assert set(counts) <= {"delivered", "superseded", "discarded"}
    assert sum(stored.times for stored in arrived.values()) == counts["delivered"]
    assert sum(counts.values()) == len(versions) + len(new) + CLOSED_ROWS
    assert sandbox.violations == []
    assert sandbox.worst_second() <= 10
    assert "Traceback" not in upgrade.logs()
