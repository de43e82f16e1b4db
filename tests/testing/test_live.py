"""The settings point to a sandbox only inside of the block, and no test sends to another machine."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from django.conf import settings as project
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command

from evermuse_outbox import outbox
from evermuse_outbox.conf import get_settings
from evermuse_outbox.sandbox import Sandbox
from evermuse_outbox.testing import assert_enqueued, deliver, local_evermuse, use_sandbox
from tests.records import record

pytestmark = pytest.mark.django_db


def test_the_settings_point_to_an_empty_sandbox_inside_of_the_block():
    before = project.EVERMUSE_OUTBOX
    with use_sandbox() as first:
        assert get_settings().workspace("default").api_url == first.url
        outbox.enqueue(record(1))
        deliver()
        assert len(first.records()) == 1
        first.fail_next(status=500)
        first.stop()
        port = first.port
    assert project.EVERMUSE_OUTBOX is before
    with use_sandbox() as second:
        assert second.port == port
        assert (second.records(), second.arrivals, second.waiting_faults()) == ([], [], [])
        outbox.enqueue(record(2))
        deliver()


def test_a_nested_block_has_another_sandbox():
    with use_sandbox() as outer, use_sandbox() as inner:
        assert outer is not inner
        assert get_settings().workspace("default").api_url == inner.url


def test_each_workspace_has_a_key_and_the_sandbox_of_its_contract(outbox_settings):
    outbox_settings(
        WORKSPACES={
            "sales": {"API_KEY": "em_sk_sales", "API_URL": "https://eu.evermuse.example"},
            "next": {"API_KEY": "em_sk_next", "CONTRACT": "openapi"},
        }
    )
    with use_sandbox() as sandbox:
        for number, name in enumerate(("default", "sales", "next")):
            outbox.enqueue(record(number), workspace=name)
        assert len(deliver().delivered) == 3
        assert [len(sandbox.records(name)) for name in ("default", "sales", "next")] == [1, 1, 0]
    with use_sandbox("next") as sandbox:
        outbox.enqueue(record(4), workspace="next")
        deliver(workspace="next")
        assert len(sandbox.records("next")) == 1
    with (
        pytest.raises(ImproperlyConfigured, match="'other'; known: default, sales, next"),
        use_sandbox("other"),
    ):
        pass


@pytest.mark.parametrize(
    "keys",
    [
        {"API_KEY": None, "WORKSPACES": {"sales": {"API_KEY": None}}},
        {"API_KEY": None, "WORKSPACES": {"default": {"API_KEY": None}, "sales": {}}},
    ],
)
def test_no_api_key_is_needed(outbox_settings, keys):
    outbox_settings(**keys)
    with use_sandbox() as sandbox:
        assert set(get_settings().workspaces) == set(keys["WORKSPACES"])
        outbox.enqueue(record(1), workspace="sales")
        deliver()
        assert len(sandbox.records("sales")) == 1


@pytest.mark.parametrize(
    "url", ["https://api.evermuse.com", "https://staging.example", "http://127.0.0.1:8787"]
)
def test_deliver_without_a_sandbox_of_the_test_sends_nothing(outbox_settings, monkeypatch, url):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a connection was opened"))
    outbox_settings(API_URL=url)
    outbox.enqueue(record(1))
    with pytest.raises(
        AssertionError,
        match=rf"{url.partition('//')[2]}, so nothing was sent. Use the .*`with use_sandbox\(\)`",
    ):
        deliver()
    assert_enqueued(count=1)


def test_deliver_never_sends_to_another_machine(monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a connection was opened"))
    outbox.enqueue(record(1))
    with pytest.raises(AssertionError, match=r"staging\.example, so nothing was sent"):
        deliver(SimpleNamespace(url="https://staging.example"))


def test_deliver_sends_to_a_server_that_is_given():
    outbox.enqueue(record(1))
    with Sandbox(rate_limit=1_000, batch_seconds=0) as sandbox:
        assert len(deliver(SimpleNamespace(url=sandbox.url)).delivered) == 1


def test_the_options_of_a_local_evermuse():
    outbox.enqueue(record(1))
    with local_evermuse(keys={"em_sk_other": ["api:write", "api:read"]}, batch_seconds=30) as sandbox:
        assert len(deliver(sandbox, api_key="em_sk_other").delivered) == 1
    call_command("outbox_status")
