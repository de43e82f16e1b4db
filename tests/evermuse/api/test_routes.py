"""The route to the API: the setting, the environment variables with their exceptions, and the CA certificates."""

from __future__ import annotations

import os

import pytest

from evermuse_outbox.evermuse import Unreachable, parse_proxy
from evermuse_outbox.evermuse.api import Client, find_route
from evermuse_outbox.evermuse.api.routes import find_ca_bundle

API = "https://api.evermuse.com"
PROXY = parse_proxy("http://proxy.example:3128")


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    """Remove what the machine of the tests names."""
    for variable in list(os.environ):
        if variable.lower().endswith(("_proxy", "_ca_bundle")) or variable.startswith("SSL_CERT_"):
            monkeypatch.delenv(variable)


def test_the_setting_has_priority(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://other.example:1")
    monkeypatch.setenv("NO_PROXY", "*")
    assert str(find_route(API, PROXY)) == "through the proxy http://proxy.example:3128 (PROXY)"
    assert str(find_route(API, False)) == "without a proxy"


VARIABLES = [
    ({}, "without a proxy"),
    ({"HTTPS_PROXY": "http://a:1"}, "through the proxy http://a:1 (HTTPS_PROXY)"),
    (
        {"HTTPS_PROXY": "http://a:1", "https_proxy": "http://b:1"},
        "through the proxy http://b:1 (https_proxy)",
    ),
    ({"HTTPS_PROXY": "http://a:1", "https_proxy": ""}, "without a proxy"),
    ({"HTTP_PROXY": "http://a:1"}, "without a proxy"),
    ({"ALL_PROXY": "a"}, "through the proxy http://a:80 (ALL_PROXY)"),
    ({"all_proxy": "http://u:some-password@a:1/"}, "through the proxy http://a:1 (all_proxy)"),
    ({"ALL_PROXY": "http://a:1", "HTTPS_PROXY": "http://b:1"}, "through the proxy http://b:1 (HTTPS_PROXY)"),
]


@pytest.mark.parametrize(("variables", "text"), VARIABLES)
def test_environment_variables(monkeypatch, variables, text):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert str(find_route(API)) == text


EXCEPTIONS = [
    ("*", API, True),
    ("api.evermuse.com", API, True),
    ("evermuse.com", API, True),
    (".evermuse.com", API, True),
    ("other.com, .evermuse.com", API, True),
    ("API.EVERMUSE.COM", API, True),
    ("api.evermuse.com:443", f"{API}:443", True),
    ("api.evermuse.com:8443", f"{API}:443", False),
    ("muse.com", API, False),
    ("other.com", API, False),
    ("203.0.113.7", "https://203.0.113.7", True),
    ("203.0.113.0/24", "https://203.0.113.7", True),
    ("203.0.114.0/24", "https://203.0.113.7", False),
    ("2001:db8::1", "https://[2001:db8::1]", True),
    ("[2001:db8::1]", "https://[2001:db8::1]", True),
    ("2001:0db8:0::1", "https://[2001:db8::1]", True),
    ("2001:db8::/32", "https://[2001:db8::1]", True),
    ("[2001:db8::]/32", "https://[2001:db8::1]", True),
    ("2001:db9::/32", "https://[2001:db8::1]", False),
]


@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
@pytest.mark.parametrize(("exceptions", "url", "is_direct"), EXCEPTIONS)
def test_exceptions_of_the_environment(monkeypatch, variable, exceptions, url, is_direct):
    monkeypatch.setenv("HTTPS_PROXY", "http://a:1")
    monkeypatch.setenv(variable, exceptions)
    assert (str(find_route(url)) == "without a proxy") is is_direct


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "127.0.0.1", "127.1", "[::1]", "127.9.9.9"])
def test_a_loopback_host_never_has_a_proxy(monkeypatch, host):
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(variable, "socks5://a:1")
    for url in (f"http://{host}:8787", f"https://{host}"):
        assert str(find_route(url)) == str(find_route(url, PROXY)) == "without a proxy"


def test_a_proxy_that_cannot_be_used_is_named_and_nothing_is_sent(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://user:some-password@a:1")
    route = find_route(API)
    assert route.proxy is None
    assert "SOCKS" in route.problem
    client = Client(API, lambda: "em_sk_x", 5)
    with pytest.raises(Unreachable, match=r"ALL_PROXY.*SOCKS.*HTTP proxy") as caught:
        client.batch("b1")
    assert "some-password" not in str(caught.value) + repr(route)


def test_the_ca_bundle_is_that_of_the_first_variable(monkeypatch):
    assert find_ca_bundle() is None
    monkeypatch.setenv("SSL_CERT_FILE", "/not/read.pem")
    monkeypatch.setenv("SSL_CERT_DIR", "/not/read")
    assert find_ca_bundle() is None
    monkeypatch.setenv("CURL_CA_BUNDLE", "/second.pem")
    assert find_ca_bundle() == "/second.pem"
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/first.pem")
    assert find_ca_bundle() == "/first.pem"


def test_a_ca_bundle_that_is_missing_is_named_and_nothing_is_sent(monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/missing/bundle.pem")
    with pytest.raises(Unreachable, match=r"/missing/bundle\.pem"):
        Client("https://127.0.0.1:1", lambda: "em_sk_x", 5).batch("b1")
