"""The rehearsal of a disaster: a backup taken under load is restored, and nothing older overwrites anything newer."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial

import pytest

from benchmarks.common.databases import fresh_database
from evermuse_outbox.sandbox import Sandbox
from tests.e2e.dumps import TOOLS, Dump, missing_tools
from tests.e2e.host_processes import ROOT, HostProcesses, environment, wait_until
from tests.services import HOW_TO_START, MARIADB_URL, POSTGRES_URL, REDIS_URL

pytestmark = pytest.mark.e2e

BATCHES = 8
"""Batches that are sent before and after a backup."""

URLS = {"postgres": POSTGRES_URL, "mariadb": MARIADB_URL}


def case(kind, store):
    """Return the parameter for a database and the store in which its restore is noticed."""
    reasons = [] if URLS[kind] else [f"no {kind}: {HOW_TO_START[kind]}"]
    reasons += [f"no program {name}" for name in missing_tools(kind)]
    reasons += [f"no redis: {HOW_TO_START['redis']}"] if store == "redis" and not REDIS_URL else []
    marks = [pytest.mark.skip(reason="; ".join(reasons))] if reasons else []
    return pytest.param(kind, store, id=f"{kind}-{store}", marks=marks)


class Rehearsal:
    """A host that writes versions all the time, a relay that sends them, and a backup of the database."""

    def __init__(self, host, sandbox, dump):
        self.host, self.sandbox, self.dump = host, sandbox, dump
        self.order = {}
        self.seed = 0

    def write(self, *steps):
        """Let the host write versions during these steps, and remember the order of the versions."""
        self.seed += 1
        command = [sys.executable, "-m", "tests.e2e.writer", str(self.seed)]
        with subprocess.Popen(
            command, cwd=ROOT, env=self.host.environment, stdout=subprocess.PIPE, text=True
        ) as writer:
            try:
                for step in steps:
                    step()
            finally:
                writer.terminate()
            for line in writer.stdout:
                _, _, text = line.split()
                self.order[text] = len(self.order)

    def wait_for_sends(self):
        """Wait until ``BATCHES`` more batches are sent."""
        posts = self.count_posts() + BATCHES
        wait_until(lambda: self.count_posts() >= posts, "batches are sent")

    def wait_for_hold(self):
        """Wait until the workspace is held."""
        wait_until(lambda: self.workspace()["state"] == "restored", "the restore is noticed")

    def count_posts(self):
        return sum(arrival.method == "POST" for arrival in self.sandbox.arrivals)

    def stored(self):
        """Return the number of the version that Evermuse has of each identity."""
        return {
            stored.identity.vendor_ids: self.order[stored.record["data"]["text"]]
            for stored in self.sandbox.records()
        }

    def workspace(self):
        return self.host.status()["workspaces"]["default"]

    def reconcile(self, *arguments, check=True):
        return self.host.manage("outbox_reconcile", *arguments, check=check)


@pytest.fixture
def rehearsal(kind, store, tmp_path):
    variables = {"DJANGO_SETTINGS_MODULE": "tests.e2e.short_timeouts", "CELERY_BROKER_URL": "memory://"}
    if store == "redis":
        variables["REDIS_URL"] = REDIS_URL
    if store == "directory":
        variables["EPOCH_DIRECTORY"] = str(tmp_path)
    with fresh_database(URLS[kind], tmp_path, "restore") as url, Sandbox(batch_seconds=0.2) as sandbox:
        variables |= {"DATABASE_URL": url, "EVERMUSE_API_URL": sandbox.url}
        host = HostProcesses(tmp_path, environment(tmp_path, **variables))
        host.manage("migrate", "--verbosity", "0")
        try:
            yield Rehearsal(host, sandbox, Dump(kind, url, tmp_path / "dump.sql"))
        finally:
            host.stop()


def check_decision(rehearsal, before):
    """Check that nothing was sent while the workspace is held, and that everything drains after the decision."""
    (report,) = json.loads(rehearsal.reconcile("--json").stdout)["workspaces"]
    assert report["held"]
    assert report["unknown"]
    assert rehearsal.stored() == before

    decision = ("--discard", "--release", "--no-input")
    wait_until(lambda: rehearsal.reconcile(*decision, check=False).returncode == 0, "the leases are over")
    rehearsal.write(rehearsal.wait_for_sends)
    rehearsal.host.manage("outbox_drain", "--timeout", "30")
    after = rehearsal.stored()
    assert {identity for identity, number in before.items() if after[identity] < number} == set()
    assert rehearsal.workspace()["state"] == "active"
    assert rehearsal.sandbox.worst_second() <= 10


@pytest.mark.parametrize(
    ("kind", "store"), [case(kind, store) for kind in TOOLS for store in ("redis", "listing", "directory")]
)
def test_a_backup_taken_under_load_is_restored_and_workers_start_again(rehearsal):
    relay = rehearsal.host.start_relay()
    rehearsal.write(rehearsal.wait_for_sends, rehearsal.dump.take, rehearsal.wait_for_sends)
    relay.kill()
    relay.wait()
    before = rehearsal.stored()
    rehearsal.dump.restore()
    rehearsal.host.start_relay()
    rehearsal.write(rehearsal.wait_for_hold)
    check_decision(rehearsal, before)


@pytest.mark.parametrize(
    ("kind", "store"), [case(kind, store) for kind in TOOLS for store in ("memory", "redis")]
)
def test_a_lagging_replica_is_promoted_while_workers_run(rehearsal):
    """The requests that are under way during the promotion are the last ones."""
    rehearsal.host.start_relay()
    take = partial(rehearsal.dump.take, is_data_only=True)
    replace = rehearsal.dump.replace_rows
    rehearsal.write(
        rehearsal.wait_for_sends, take, rehearsal.wait_for_sends, replace, rehearsal.wait_for_hold
    )
    check_decision(rehearsal, rehearsal.stored())
