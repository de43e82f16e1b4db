"""The delivery context: its queue key, and one HTTP client for each thread and key."""

from __future__ import annotations

import threading

import pytest
from django.core.exceptions import ImproperlyConfigured

from evermuse_outbox.delivery.context import open_context, queue_keys


@pytest.fixture(autouse=True)
def two_workspaces(outbox_settings):
    outbox_settings(WORKSPACES={"a": {"API_KEY": "em_sk_1"}, "b": {"API_KEY": "em_sk_2"}})


def client_of_other_thread():
    """Open a context in a thread of its own and return its client."""
    clients = []
    thread = threading.Thread(target=lambda: clients.append(open_context("default", "a").client))
    thread.start()
    thread.join(10)
    return clients.pop()


def test_each_workspace_on_each_database_has_a_queue(settings):
    databases, workspaces = settings.EVERMUSE_OUTBOX["DATABASES"], ("default", "a", "b")
    expected = [f"{alias}/{workspace}" for alias in databases for workspace in workspaces]
    assert [str(key) for key in queue_keys()] == expected
    assert open_context("default", "a").queue_key in queue_keys()


def test_an_unknown_workspace_is_refused():
    with pytest.raises(ImproperlyConfigured, match="unknown"):
        open_context("default", "unknown")


def test_a_thread_keeps_its_client_for_each_key():
    client = open_context("default", "a").client
    assert open_context("default", "a").client is client
    assert open_context("default", "b").client is not client
    assert client_of_other_thread() is not client
