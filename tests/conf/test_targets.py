"""Which key may be used at which address: test data never reaches production by accident."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec

import pytest

from evermuse_outbox.conf import KeyUnavailable
from evermuse_outbox.conf.targets import SANDBOX_URL, find_refusal, is_production, is_sandbox_key
from evermuse_outbox.conf.workspace import _is_test_run
from evermuse_outbox.management.commands.evermuse_sandbox import Command
from evermuse_outbox.sandbox import DEFAULT_KEY
from tests.conf.errors import KEY, errors_in

PRODUCTION = "https://api.evermuse.com"


def kind_of(url, key=KEY, *, is_url_set=True, is_debug=False, is_test_run=False):
    refusal = find_refusal(url, key, is_url_set=is_url_set, is_debug=is_debug, is_test_run=is_test_run)
    return refusal and refusal.kind


def test_a_production_host_sends():
    assert kind_of(PRODUCTION, is_url_set=False) is None
    assert kind_of(PRODUCTION) is None


@pytest.mark.parametrize("key", [DEFAULT_KEY, "em_sk_sandbox_eu", "em_sk_sandbox-2", "em_sk_sandboxdev"])
@pytest.mark.parametrize(
    "url", [PRODUCTION, "https://API.Evermuse.com.", "https://eu.api.evermuse.com/v2", "https://evermuse.com"]
)
def test_a_key_of_the_sandbox_never_reaches_evermuse(url, key):
    assert kind_of(url, key) == "sandbox_key"


def test_a_key_of_the_sandbox_reaches_any_other_address():
    for url in (SANDBOX_URL, "https://sandbox.example", "http://sandbox:8787", "https://notevermuse.com"):
        assert kind_of(url, DEFAULT_KEY) is None


def test_debug_needs_an_explicit_address():
    assert kind_of(PRODUCTION, is_debug=True, is_url_set=False) == "debug"
    assert kind_of(PRODUCTION, is_debug=True) is None
    assert kind_of(SANDBOX_URL, is_debug=True) is None


def test_a_test_run_never_reaches_evermuse():
    assert kind_of(PRODUCTION, is_test_run=True) == "test_run"
    assert kind_of(PRODUCTION, is_test_run=True, is_url_set=False) == "test_run"
    assert kind_of("https://staging.example", is_test_run=True) is None


def test_plain_http_is_for_loopback_and_the_sandbox():
    assert kind_of("http://sandbox:8787") == "plain_http"
    assert errors_in(API_URL="http://sandbox:8787", API_KEY=DEFAULT_KEY) == []
    assert errors_in(API_URL="http://sandbox:8787", API_KEY_FILE="/run/secrets/key") == []
    (problem,) = errors_in(API_URL="http://sandbox:8787", WORKSPACES={"eu": {"API_KEY": KEY}})
    assert problem.startswith("EVERMUSE_OUTBOX['API_URL']: plain http")


def test_similar_names_are_not_recognised():
    assert not is_sandbox_key("em_sk_sand")
    assert not is_sandbox_key("em_sk_em_sk_sandbox")
    assert not is_production("https://api.evermuse.com.example")


def test_the_address_is_that_of_the_command():
    parser = Command().create_parser("manage.py", "evermuse_sandbox")
    options = parser.parse_args([])
    assert f"http://{options.host}:{options.port}" == SANDBOX_URL


def test_this_test_run_is_recognised_and_no_request_is_possible(typed):
    workspace = typed(API_KEY=KEY).workspace("default").with_key()
    assert "A test run never sends to Evermuse" in workspace.problem
    with pytest.raises(KeyUnavailable, match="test run"):
        workspace.reveal_key()


def test_python_m_unittest_is_a_test_run_without_the_environment_of_django(monkeypatch):
    monkeypatch.delattr("django.test.utils._TestState.saved_data")
    assert not _is_test_run()
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", ModuleSpec("unittest.__main__", None))
    assert _is_test_run()


def test_debug_is_read_from_the_settings(typed, settings, monkeypatch):
    monkeypatch.setattr("evermuse_outbox.conf.workspace._is_test_run", lambda: False)
    assert typed(API_KEY=KEY).workspace("default").with_key().problem == ""
    settings.DEBUG = True
    workspaces = typed(API_KEY=KEY, WORKSPACES={"eu": {"API_KEY": f"{KEY}2", "API_URL": PRODUCTION}})
    assert "DEBUG is True" in workspaces.workspace("default").with_key().problem
    assert workspaces.workspace("eu").with_key().problem == ""
