"""Mails go through a real database, broker and Celery workers into Evermuse, each once."""

from __future__ import annotations

import contextlib
import mailbox
import uuid
from email.message import EmailMessage

import pytest

from benchmarks.common.databases import fresh_database
from evermuse_outbox.sandbox import Sandbox
from tests.e2e.host_processes import HostProcesses, environment
from tests.services import HOW_TO_START, MARIADB_URL, POSTGRES_URL, RABBITMQ_URL, REDIS_URL

pytestmark = pytest.mark.e2e

MAILS = 1_500


@pytest.fixture(scope="module")
def mbox(tmp_path_factory):
    """Mails of many sizes and alphabets, enough for several requests."""
    path = tmp_path_factory.mktemp("mail") / "inbox.mbox"
    box = mailbox.mbox(path)
    for number in range(MAILS):
        mail = EmailMessage()
        mail["Message-ID"] = f"<mail-{number}@example.com>"
        mail["From"] = "Zoë Ångström <zoe@example.com>"
        mail["To"] = "desk@example.org"
        mail["Date"] = f"Tue, 24 Feb 2026 12:{number // 60 % 60:02}:{number % 60:02} +0100"
        mail["Subject"] = f"Ticket {number}: naïve café ☕"
        mail.set_content(
            f"Guten Tag, 你好, {'x' * (number * 37 % 9_000)}\nFrom here on it is number {number}.\n"
        )
        box.add(mail)
    box.close()
    return path


@contextlib.contextmanager
def embedded(home):
    yield {}, ["-c", "4"]


@contextlib.contextmanager
def postgres_redis(home):
    with fresh_database(POSTGRES_URL, home, "e2e") as url:
        yield {"DATABASE_URL": url, "CELERY_BROKER_URL": REDIS_URL, "REDIS_URL": REDIS_URL}, ["-c", "2"]


@contextlib.contextmanager
def mariadb_rabbitmq(home):
    with fresh_database(MARIADB_URL, home, "e2e") as url:
        yield {"DATABASE_URL": url, "CELERY_BROKER_URL": RABBITMQ_URL}, ["-c", "2"]


def needs(*services):
    """Return the marks that skip a test where one of the services is missing."""
    urls = {"postgres": POSTGRES_URL, "mariadb": MARIADB_URL, "redis": REDIS_URL, "rabbitmq": RABBITMQ_URL}
    missing = [f"no {name}: {HOW_TO_START[name]}" for name in services if not urls[name]]
    return [pytest.mark.skip(reason="; ".join(missing))] if missing else []


HOSTS = [
    pytest.param((embedded, 1, "reference"), id="sqlite-files-reference"),
    pytest.param(
        (postgres_redis, 2, "openapi"), id="postgres-redis-openapi", marks=needs("postgres", "redis")
    ),
    pytest.param(
        (mariadb_rabbitmq, 2, "reference"),
        id="mariadb-rabbitmq-reference",
        marks=needs("mariadb", "rabbitmq"),
    ),
]


@pytest.fixture
def host_and_sandbox(request, tmp_path):
    start_services, workers, contract = request.param
    with (
        start_services(tmp_path) as (variables, arguments),
        Sandbox(contract=contract, batch_seconds=0.5) as sandbox,
    ):
        # A separate queue: other workers on this machine's broker must not take the messages.
        queue = {"CELERY_TASK_DEFAULT_QUEUE": f"e2e-{uuid.uuid4().hex[:8]}"}
        urls = {"EVERMUSE_API_URL": sandbox.url, "EVERMUSE_CONTRACT": contract}
        running = HostProcesses(tmp_path, environment(tmp_path, **variables, **queue, **urls))
        running.manage("migrate", "--verbosity", "0")
        try:
            for number in range(workers):
                running.start_worker(*arguments, *([] if number else ["-B"]))
            yield running, sandbox
        finally:
            running.stop()


@pytest.mark.parametrize("host_and_sandbox", HOSTS, indirect=True)
def test_every_mail_arrives_once_and_within_the_limits(host_and_sandbox, mbox):
    host, sandbox = host_and_sandbox
    host.manage("import_mbox", str(mbox))
    host.manage("outbox_drain", "--timeout", "90")

    figures = host.status()
    assert {state: n for state, n in figures["records"].items() if n} == {"delivered": MAILS}
    assert figures["oldest_unsent_seconds"] is None
    assert figures["workspaces"] == {"default": {"state": "active"}}

    arrived = sandbox.records()
    assert {dict(stored.identity.vendor_ids)["message_id"] for stored in arrived} == {
        f"<mail-{number}@example.com>" for number in range(MAILS)
    }
    assert {stored.times for stored in arrived} == {1}
    assert sandbox.violations == []
    assert sandbox.worst_second() <= 10
    assert {arrival.status for arrival in sandbox.arrivals} <= {200, 202}


def test_the_relay_command_sends_all_mails_without_celery(tmp_path, mbox):
    with Sandbox(batch_seconds=0.5) as sandbox:
        variables = {"EVERMUSE_API_URL": sandbox.url, "CELERY_BROKER_URL": "amqp://127.0.0.1:1//"}
        host = HostProcesses(tmp_path, environment(tmp_path, **variables))
        host.manage("migrate", "--verbosity", "0")
        relay = host.start_relay()
        try:
            host.manage("import_mbox", str(mbox), "--limit", "300")  # although the broker is down
            host.manage("outbox_drain", "--timeout", "60")
        finally:
            host.stop()
        assert relay.returncode == 0
        assert len(sandbox.records()) == 300
        assert sandbox.worst_second() <= 10
