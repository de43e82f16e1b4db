"""The context that the tests of scanning and scheduling share."""

from __future__ import annotations

import pytest


@pytest.fixture
def small_requests(context, sandbox, outbox_settings, reopen):
    """Return a context with ten records per request and a maximum wait of thirty seconds."""
    outbox_settings(
        API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_RECORDS=10, MAX_WAIT=30, LINGER=0.2
    )
    return reopen()
