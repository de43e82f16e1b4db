"""Each host project delivers, rejects and repairs records, and shows them, with workers in processes of their own."""

from __future__ import annotations

import json

import pytest

from tests.e2e.host_processes import wait_until
from tests.hosts.declarations import Host, find_hosts
from tests.hosts.running_host import running
from tests.hosts.services import missing

pytestmark = [pytest.mark.e2e, pytest.mark.hosts]


def host_param(host: Host):
    """Return the pytest parameter of a host, skipped if this machine lacks something."""
    reasons = [reason for need in host.needs if (reason := missing(need))]
    marks = [pytest.mark.skip(reason=f"{host.name}: {'; '.join(reasons)}")] if reasons else []
    return pytest.param(host, id=host.name, marks=marks)


@pytest.mark.parametrize("host", [host_param(host) for host in find_hosts()])
def test_the_host_delivers_rejects_and_repairs(host: Host, tmp_path):
    with running(host, tmp_path) as project:
        project.run("migrate")
        messages = project.run("check")
        assert {id_ for id_, _text in messages} == set(host.expected_checks), messages
        project.start()
        _valid, invalid = project.run("enqueue")
        wait_for_states(project, "delivered", "rejected")

        project.run("run_command", "outbox_retry", str(invalid), "--no-input", "--reason", "again")
        wait_until(lambda: count_posts(project) == 2, f"sent again: see {project.home}")
        wait_for_states(project, "delivered", "rejected")
        project.run("run_command", "outbox_fix", "nature", str(invalid), "--no-input")
        wait_for_states(project, "delivered", "superseded", "delivered")

        assert json.loads(project.run("run_command", "outbox_status", "--json"))["records"]["delivered"] == 2
        assert "delivered" in project.run("run_command", "outbox_status")
        assert project.run("open_pages") >= 12
        arrived = project.sandbox.records()
        assert len(arrived) == 2
        assert project.sandbox.violations == []
        assert project.problems() == []
    assert (
        project.problems("worker-*") == []
    )  # the end of the scheduler may interrupt a message that it sends


def count_posts(project):
    return sum(arrival.method == "POST" for arrival in project.sandbox.arrivals)


def wait_for_states(project, *expected):
    """Wait until the records have these states."""
    wait_until(lambda: project.run("states") == list(expected), f"{expected}: see {project.home}")
