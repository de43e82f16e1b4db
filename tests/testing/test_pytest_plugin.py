"""pytest loads the plugin by itself, and its fixtures work in a project of their own: in processes of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]

SETTINGS = """
SECRET_KEY = "x"
USE_TZ = True
INSTALLED_APPS = ["evermuse_outbox", "tickets"]
DATABASES = {
    name: {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{name}.sqlite3"} for name in ("default", "other")
}
EVERMUSE_OUTBOX = {"DATABASES": ["default", "other"], "WAKE_ON_COMMIT": False}
"""

CONFIGURATION = """
[pytest]
DJANGO_SETTINGS_MODULE = settings
filterwarnings = error
addopts = --strict-markers -p no:cacheprovider
"""

MESSAGES = """
def record(number, **data):
    return {
        "_type": "message",
        "_schema_version": "1.0.0",
        "_event_at": "2026-02-24T12:34:56Z",
        "_vendor_ids": {"message_id": f"ticket-{number}"},
        "_product_id": "p1",
        "_project_id": "q1",
        "_nature": "evidence",
        "data": {"text": f"Hello {number}"} | data,
    }
"""

USES = """
import os
import pytest
from django.conf import settings
from django.db import connection
from django.test import TestCase
from evermuse_outbox import outbox
from evermuse_outbox.testing import OutboxAssertions, deliver as deliver_now, use_sandbox
from messages import record

def test_records_without_a_marker(outbox_records):
    outbox.enqueue(record(1))
    assert outbox_records.assert_enqueued(data__text="Hello 1", count=1) == [outbox_records[0]]

@pytest.mark.parametrize("number", range(4))
def test_delivery(deliver, evermuse_sandbox, outbox_records, number):
    assert evermuse_sandbox.records() == []
    outbox.enqueue_many([record(number), record("bad")])
    evermuse_sandbox.reject_record("ticket-bad", "No.")
    assert [bad.message for bad in deliver(check=False).rejected] == ["No."]
    outbox_records.assert_enqueued(data__text=f"Hello {number}")
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    assert worker in ("gw0", "gw1")

@pytest.mark.django_db(databases=["default", "other"])
def test_two_databases(outbox_records, deliver):
    for using in ("default", "other"):
        outbox.enqueue(record(using), using=using)
    outbox_records.assert_enqueued(count=2)
    assert len(deliver().delivered) == 2

@pytest.mark.django_db(transaction=True)
def test_commits(outbox_records, deliver):
    assert not connection.in_atomic_block
    outbox.enqueue(record(1))
    assert len(deliver().delivered) == 1

def test_commits_by_a_fixture(deliver, transactional_db):
    assert not connection.in_atomic_block
    outbox.enqueue(record(1))
    assert len(deliver().delivered) == 1

def test_sequences_start_again(outbox_records, django_db_reset_sequences):
    assert not connection.in_atomic_block
    outbox.enqueue(record(1))
    assert outbox_records[0].row.pk == 1

@pytest.mark.django_db
def test_a_late_request_with_a_marker(request):
    assert len(request.getfixturevalue("outbox_records")) == 0

def test_the_sandbox_needs_no_database(evermuse_sandbox):
    assert settings.EVERMUSE_OUTBOX["API_URL"] == evermuse_sandbox.url

def test_the_settings_are_restored():
    assert "API_URL" not in settings.EVERMUSE_OUTBOX

class TestBothDatabases(OutboxAssertions, TestCase):
    databases = {"default", "other"}

    def test_it(self):
        outbox.enqueue(record(1), using="other")
        self.assert_enqueued(using="other")
        with use_sandbox():
            assert len(deliver_now().delivered) == 1

class TestOneDatabase(OutboxAssertions, TestCase):
    def test_the_other_one_is_left_out(self):
        outbox.enqueue(record(1))
        self.assert_enqueued(count=1)
        with self.assertRaisesRegex(AssertionError, "Database queries to 'other' are not allowed"):
            self.refute_enqueued(using="other")

def test_a_failure(outbox_records):
    outbox_records.assert_enqueued(type="call")

def test_the_real_api(db):
    outbox.enqueue(record(1))
    deliver_now()

def test_the_sandbox_of_the_developer(db, settings):
    settings.EVERMUSE_OUTBOX = settings.EVERMUSE_OUTBOX | {"API_URL": "http://127.0.0.1:8787"}
    outbox.enqueue(record(1))
    deliver_now()

@pytest.mark.parametrize("fixture", ["outbox_records", "deliver"])
def test_a_late_request(request, fixture):
    request.getfixturevalue(fixture)

def test_without_delivery(deliver, evermuse_sandbox):
    outbox.enqueue(record(1))
    evermuse_sandbox.stop()
    deliver()
"""

WITHOUT_DJANGO = """
import sys

def test_nothing_is_loaded():
    loaded = {name for name in sys.modules if name.startswith(("django", "evermuse_outbox", "pydantic", "requests"))}
    assert loaded == {"evermuse_outbox", "evermuse_outbox.version", "evermuse_outbox.pytest_plugin"}

def test_records(outbox_records):
    pass

def test_sandbox(evermuse_sandbox):
    pass

def test_deliver(deliver):
    pass
"""

ALONE = {
    "outbox_records": """
def test_alone(outbox_records):
    outbox_records.refute_enqueued()
""",
    "deliver": """
from messages import record
from evermuse_outbox import outbox

def test_alone(deliver, evermuse_sandbox):
    outbox.enqueue(record(1))
    assert len(deliver().delivered) == 1
""",
    "through_a_fixture": """
import pytest

@pytest.fixture
def records(outbox_records):
    return outbox_records

def test_alone(records, transactional_db):
    records.refute_enqueued()
""",
    "usefixtures": """
import pytest
from evermuse_outbox.testing import refute_enqueued

@pytest.mark.usefixtures("deliver")
class TestAlone:
    def test_it(self):
        refute_enqueued()
""",
}

FIXTURES = ("outbox_records", "evermuse_sandbox", "deliver")


@pytest.fixture
def run(tmp_path):
    """Return a function that runs pytest in a new project where the package seems to be installed."""
    metadata = tmp_path / "site" / "evermuse_outbox-0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: evermuse_outbox\nVersion: 0\n")
    plugins = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    lines = [f"{name} = {module}\n" for name, module in plugins.items()]
    (metadata / "entry_points.txt").write_text("[pytest11]\n" + "".join(lines))
    (metadata / "RECORD").write_text(
        "evermuse_outbox/__init__.py,,\nevermuse_outbox/pytest_plugin/__init__.py,,\n"
    )
    hidden = ("DJANGO_SETTINGS_MODULE", "PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_PLUGINS")
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    env["PYTHONPATH"] = os.pathsep.join([str(tmp_path), str(tmp_path / "site"), str(ROOT)])

    def run_pytest(*arguments: str, **files: str) -> str:
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(text)
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *arguments], cwd=tmp_path, env=env, capture_output=True, text=True,
            timeout=120,
        )  # fmt: skip
        return done.stdout + done.stderr

    (tmp_path / "pytest.ini").write_text(CONFIGURATION)
    return run_pytest


def python_blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)


def documented_tests() -> dict[str, str]:
    """Return each Python block of the guide as a module of tests, and the test in the guide to the sandbox."""
    blocks = python_blocks("docs/how-to/testing.md")
    blocks += [block for block in python_blocks("docs/how-to/sandbox.md") if "def test_" in block]
    return {f"test_guide_{number}": block for number, block in enumerate(blocks)}


@pytest.fixture
def tickets(tmp_path):
    """Write the app of the tutorial, which the guide tests."""
    title = "# tickets/models.py\n"
    (model,) = (block for block in python_blocks("docs/tutorial/index.md") if block.startswith(title))
    (tmp_path / "tickets").mkdir()
    (tmp_path / "tickets" / "__init__.py").touch()
    (tmp_path / "tickets" / "models.py").write_text(model)


def test_a_project_uses_the_fixtures_in_parallel_and_each_failure_is_clear(run, tickets):
    """The tests of the guide are among those that pass."""
    guide = documented_tests()
    failures = {
        "test_a_failure",
        "test_the_real_api",
        "test_the_sandbox_of_the_developer",
        "test_a_late_request[outbox_records]",
        "test_a_late_request[deliver]",
        "test_without_delivery",
    }
    executed = sum(text.count("def test_") for text in (USES, *guide.values()))
    executed += 3 + 1  # `test_delivery` runs four times, and `test_a_late_request` twice
    output = run(
        *("-q", "-n2", "--nomigrations", "-p", "evermuse_outbox.pytest_plugin"),
        settings=SETTINGS, messages=MESSAGES, test_uses=USES, **guide,
    )  # fmt: skip
    failed = set(re.findall(r"^(?:FAILED|ERROR) test_uses.py::(\S+)", output, re.M))
    assert failed == failures, output
    assert f"{len(failures)} failed, {executed - len(failures)} passed" in output, output
    assert "No record with type='call' was enqueued. Nothing was enqueued." in output
    assert "would send its records to api.evermuse.com, so nothing was sent" in output
    assert "would send its records to 127.0.0.1:8787, so nothing was sent. Use the fixture" in output
    assert "The fixture deliver is requested by getfixturevalue, so there is no test database." in output
    assert "the workspace 'default' is backing off: ConnectionRefusedError" in output
    # The traceback of a failed assertion ends at the line of the test.
    assert not re.search(r"evermuse_outbox/testing/\w+\.py:\d+", output), output


@pytest.mark.parametrize("test", ALONE.values(), ids=ALONE)
def test_a_test_alone_in_the_run_leaves_the_database_of_the_developer_untouched(run, tickets, tmp_path, test):
    """pytest-django creates only the databases of the tests that it knows as users of a database."""
    output = run("-q", "--nomigrations", settings=SETTINGS, messages=MESSAGES, test_alone=test)
    assert "1 passed" in output, output
    # SQLite creates the file at the first connection. The test database is in memory.
    assert not list(tmp_path.glob("*.sqlite3"))


def test_a_project_without_django_loads_nothing_and_the_fixtures_say_what_is_missing(run):
    output = run(
        "-q", "-p", "no:django", "-c", os.devnull, "--rootdir=.", "-W", "error", test_plain=WITHOUT_DJANGO
    )
    assert "1 passed, 3 errors" in output, output
    for fixture in FIXTURES:
        assert f"The fixture {fixture} needs the plugin pytest-django, which is not loaded." in output


def test_the_fixtures_are_documented(run, tickets):
    output = run("--fixtures", settings=SETTINGS)
    for fixture in FIXTURES:
        assert re.search(rf"^{fixture} -- .*pytest_plugin/__init__.py:\d+\n    [A-Z].*\.$", output, re.M), (
            output
        )
