"""Addresses of proxies: what is accepted, what a message says, what no text shows, and which hosts are this machine."""

from __future__ import annotations

import pytest

from evermuse_outbox.evermuse import InvalidProxy, is_loopback, parse_proxy
from evermuse_outbox.foreign_text import clean_text

VALID = {
    "http://proxy.example:3128": "http://proxy.example:3128",
    "http://proxy.example:3128/": "http://proxy.example:3128",
    "HTTPS://Proxy.example:443": "https://proxy.example:443",
    "http://my_proxy:8080": "http://my_proxy:8080",
    "http://10.0.0.1:3128": "http://10.0.0.1:3128",
    "http://[2001:db8::1]:3128": "http://[2001:db8::1]:3128",
    "http://user:pa%40ss@proxy.example:3128": "http://proxy.example:3128",
    "http://user@proxy.example:3128": "http://proxy.example:3128",
}


@pytest.mark.parametrize(("text", "url"), VALID.items())
def test_valid_addresses(text, url):
    proxy = parse_proxy(text)
    assert proxy.url == str(proxy) == url


def test_credentials_are_decoded_for_the_header_and_hidden():
    proxy = parse_proxy("http://user:secret%2Fword%40@proxy.example:3128")
    assert proxy.authorization == "Basic dXNlcjpzZWNyZXQvd29yZEA="
    assert "secret" not in repr(proxy) + str(proxy)
    for text in ("secret%2Fword%40", "secret/word@", proxy.authorization):
        assert text.removeprefix("Basic ") not in clean_text(f"error: {text}", 200)


INVALID = {
    "": "not the URL",
    "proxy.example:3128": "not the URL",
    "proxy.example": "not the URL",
    "ftp://proxy.example:3128": "not the URL",
    "http://": "not the URL",
    "http://:3128": "not the URL",
    "http://proxy.example:": "not the URL",
    "http://proxy.example:0": "not the URL",
    "http://proxy.example:70000": "not the URL",
    "http://proxy.example:port": "not the URL",
    "http://[::1:3128": "not the URL",
    "http://[proxy]:3128": "not the URL",
    "http://a,b:3128": "not the URL",
    "http://user:a/b-secret@proxy.example:3128": "not the URL",
    "http://proxy.example": "no port",
    "http://proxy.example:3128/path": "more than",
    "http://proxy.example:3128?a=b": "more than",
    "http://proxy.example:3128/#": "more than",
    "http://proxy.example:3128 ": "white space",
    "http://proxy.example:3128\n": "white space",
    "\thttp://proxy.example:3128": "white space",
    "http://pröxy.example:3128": "cannot contain",
    "socks5://proxy.example:1080": "SOCKS",
    "socks5h://user:long-secret@proxy.example:1080": "SOCKS",
    "socks4a://proxy.example:1080": "SOCKS",
}


@pytest.mark.parametrize(("text", "reason"), INVALID.items())
def test_invalid_addresses(text, reason):
    with pytest.raises(InvalidProxy, match=reason) as caught:
        parse_proxy(text)
    assert "secret" not in caught.value.message + caught.value.hint
    assert caught.value.hint.endswith(".")


def test_an_environment_variable_may_omit_scheme_and_port():
    for text in ("proxy.example", "http://proxy.example", "proxy.example:80", "user:password@proxy.example"):
        assert parse_proxy(text, is_strict=False).url == "http://proxy.example:80"
    assert parse_proxy("https://proxy.example", is_strict=False).url == "https://proxy.example:443"
    with pytest.raises(InvalidProxy, match="SOCKS"):
        parse_proxy("socks5://proxy.example", is_strict=False)


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST", "localhost.", "api.localhost"),
        *("127.0.0.1", "127.0.0.1.", "127.255.0.9", "127.1", "2130706433", "0x7f.1", "0177.0.0.1"),
        *("::1", "[::1]", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1"),
    ],
)
def test_loopback_hosts(host):
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    ["", "api.evermuse.com", "localhost.example.com", "128.0.0.1", "10.0.0.1", "::2", "127.0.0.1.nip.io"],
)
def test_other_hosts(host):
    assert not is_loopback(host)
