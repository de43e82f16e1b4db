"""Fixtures that the tests of the delivery share. Each test also checks that it made only legal changes of state."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def check_changes_of_state(request):
    """Use ``only_legal_changes`` in each test with a database."""
    if "alias" in request.fixturenames:
        request.getfixturevalue("only_legal_changes")


@pytest.fixture
def small_requests(context, sandbox, outbox_settings, reopen):
    """Return a context with ten records per request and a maximum wait of thirty seconds."""
    outbox_settings(
        API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_RECORDS=10, MAX_WAIT=30, LINGER=0.2
    )
    return reopen()
