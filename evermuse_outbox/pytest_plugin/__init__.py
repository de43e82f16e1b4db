"""The pytest plugin: fixtures for the tests of host projects. pytest loads it by itself.

The package must import neither Django nor ``evermuse_outbox.testing`` before a fixture is used: pytest loads it in each
project of the environment, also without Django. Its public interface is the fixtures :func:`outbox_records`,
:func:`evermuse_sandbox` and :func:`deliver`. They need pytest-django. ``-p no:evermuse_outbox.pytest_plugin`` turns the
plugin off.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ..testing import Deliver, LocalEvermuse, OutboxRecords

__all__ = ["deliver", "evermuse_sandbox", "outbox_records"]

DATABASE_USERS = frozenset({"outbox_records", "deliver"})
"""The fixtures of this plugin that use the database."""

DATABASE_FIXTURES = frozenset({"db", "transactional_db", "live_server"})
"""The fixtures by which pytest-django finds the tests that need a test database."""


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark a test that uses the database through a fixture of this plugin, so that it gets a test database.

    pytest-django creates the test databases for the tests that have the marker or a fixture of its own after the
    collection. A fixture that requests ``db`` later would get the database of the developer.
    """
    has_pytest_django = any(map(item.config.pluginmanager.hasplugin, ("django", "pytest_django.plugin")))
    if has_pytest_django and DATABASE_USERS & _names(item) and not _has_test_database(item):
        item.add_marker("django_db")


def _names(item: pytest.Item) -> frozenset[str]:
    return frozenset(getattr(item, "fixturenames", ()))


def _has_test_database(item: pytest.Item) -> bool:
    return item.get_closest_marker("django_db") is not None or bool(DATABASE_FIXTURES & _names(item))


@pytest.fixture
def outbox_records(request: pytest.FixtureRequest) -> OutboxRecords:
    """Return the records in the outbox, the oldest first, with `assert_enqueued` and `refute_enqueued`.

    The test gets the marker `django_db` of pytest-django. With `django_db(databases=[…])` it sees those databases.
    """
    _request_database(request)
    from ..testing import OutboxRecords

    return OutboxRecords()


@pytest.fixture
def evermuse_sandbox(request: pytest.FixtureRequest) -> Iterator[LocalEvermuse]:
    """Start a local Evermuse over HTTP, and let the settings point to it during the test. It is empty at the start.

    `evermuse_sandbox.records()` returns what arrived. `fail_next`, `fail_for` and `reject_record` inject faults.
    """
    _request_from_pytest_django(request, "django_test_environment")
    from ..testing import use_sandbox

    with use_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def deliver(request: pytest.FixtureRequest) -> Deliver:
    """Return a function that sends the outbox to `evermuse_sandbox` now and returns what became of each record.

    It raises an error if a record was rejected or is still waiting, unless it is called with `check=False`.
    """
    _request_database(request)
    request.getfixturevalue("evermuse_sandbox")
    from .. import testing

    return testing.deliver


def _request_database(request: pytest.FixtureRequest) -> None:
    """Request the database from pytest-django, with the options of the marker ``django_db``.

    A test that pytest-django does not know as a user of the database is refused: it has no test database.
    """
    _request_from_pytest_django(request, "django_test_environment")
    from django.test import TransactionTestCase

    is_django_test = issubclass(getattr(request.node, "cls", None) or object, TransactionTestCase)
    if not is_django_test and not _has_test_database(request.node):
        message = f"The fixture {request.fixturename} is requested by getfixturevalue, so there is no test database."
        pytest.fail(f"{message} Mark the test with @pytest.mark.django_db.", pytrace=False)
    _request_from_pytest_django(request, "db")


def _request_from_pytest_django(request: pytest.FixtureRequest, name: str) -> None:
    with suppress(pytest.FixtureLookupError):
        request.getfixturevalue(name)
        return
    message = f"The fixture {request.fixturename} needs the plugin pytest-django, which is not loaded."
    pytest.fail(f"{message} Install it: pip install pytest-django", pytrace=False)
