"""The helpers for tests, if a function of the host returns the workspaces."""

from __future__ import annotations

import pytest

from evermuse_outbox import outbox, testing
from evermuse_outbox.conf import get_settings
from tests.records import record

pytestmark = pytest.mark.django_db


def test_records_of_workspaces_that_are_added_are_delivered_to_the_sandbox(settings):
    rows = {"acme": {"API_KEY": "em_sk_acme"}}
    settings.EVERMUSE_OUTBOX = {"API_URL": "https://api.evermuse.com", "WORKSPACES": lambda: rows}
    with testing.use_sandbox() as sandbox:
        outbox.enqueue(record(1), workspace="acme")
        rows["new"] = {"API_KEY": "em_sk_new"}
        outbox.enqueue(record(2), workspace="new")
        testing.deliver()
        assert [len(sandbox.records(name)) for name in ("acme", "new")] == [1, 1]
        assert get_settings().workspace("new").api_url == sandbox.url
    assert get_settings().workspace("new").api_key.reveal() == "em_sk_new"
