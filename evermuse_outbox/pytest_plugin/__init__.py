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


@pytest.fixture
def outbox_records(request: pytest.FixtureRequest) -> OutboxRecords:
    """Return the records in the outbox, the oldest first, with `assert_enqueued` and `refute_enqueued`.

    It requests the fixture `db` of pytest-django. With the marker `django_db(databases=[…])` it sees those databases.
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
    """Request the database from pytest-django, with the options of the marker ``django_db``."""
    _request_from_pytest_django(request, "db")


def _request_from_pytest_django(request: pytest.FixtureRequest, name: str) -> None:
    with suppress(pytest.FixtureLookupError):
        request.getfixturevalue(name)
        return
    message = f"The fixture {request.fixturename} needs the plugin pytest-django, which is not loaded."
    pytest.fail(f"{message} Install it: pip install pytest-django", pytrace=False)
