"""The readers of single values: what each accepts, and the message for other values."""

from __future__ import annotations

import pytest

from evermuse_outbox.conf import Secret
from evermuse_outbox.conf.readers import read_redis_url, show_number
from evermuse_outbox.foreign_text import clean_text
from tests.conf.errors import KEY, errors_in

BOUNDS = {
    "RATE_LIMIT": (0.01, 100_000),
    "MAX_BATCH_RECORDS": (1, 1_000),
    "MAX_BATCH_BYTES": (1_000, 5_000_000),
    "MAX_BATCH_ATTACHMENTS": (1, 1_000),
    "LINGER": (0, 3_600),
    "MAX_WAIT": (1, 86_400),
    "TIMEOUT": (0.1, 600),
    "LEASE": (1, 86_400),
    "BACKOFF_BASE": (0.001, 3_600),
    "BACKOFF_CAP": (0.001, 86_400),
    "MAX_RESENDS": (0, 100),
    "POLL_INTERVAL": (0.05, 3_600),
    "RETENTION_DAYS": (1 / 24, 36_500),
}
INTEGERS = ("MAX_BATCH_RECORDS", "MAX_BATCH_BYTES", "MAX_BATCH_ATTACHMENTS", "MAX_RESENDS")


@pytest.mark.parametrize(("name", "low", "high"), [(name, *ends) for name, ends in BOUNDS.items()])
def test_a_number_must_be_within_its_bounds(name, low, high):
    assert errors_in(**{name: low}) == errors_in(**{name: high}) == []
    beyond = (low - (1 if name in INTEGERS else 0.001), high + 1)
    for value in (*beyond, float("nan"), float("inf"), "5", None, True):
        (problem,) = errors_in(**{name: value})
        assert problem.startswith(f"EVERMUSE_OUTBOX['{name}']: {value!r} is not a")
        assert f"from {show_number(low)} to {show_number(high)}" in problem


def test_numbers_are_shown_as_a_reader_expects_them():
    assert [show_number(value) for value in (86_400, 5e6, 0.05, 31_536_000.0)] == [
        "86,400",
        "5,000,000",
        "0.05",
        "31,536,000",
    ]


@pytest.mark.parametrize("name", INTEGERS)
def test_a_count_must_be_a_whole_number(name):
    assert "is not a whole number" in errors_in(**{name: 1_000.0})[0]


CHOICES = {
    "CONTRACT": ("reference", "openapi"),
    "BODY_FORMAT": ("ndjson", "array", "wrapper"),
    "DEFAULT_NATURE": ("evidence", "guidance", "context"),
}


@pytest.mark.parametrize(("name", "allowed"), CHOICES.items())
def test_a_choice_must_be_an_allowed_value(name, allowed):
    assert [errors_in(**{name: value}) for value in allowed] == [[] for _ in allowed]
    assert f"Did you mean '{allowed[0]}'?" in errors_in(**{name: allowed[0][:-1]})[0]
    for wrong in ("", None, 3, [allowed[0]]):
        assert f"is not one of {', '.join(allowed)}" in errors_in(**{name: wrong})[0]


@pytest.mark.parametrize("url", ["https://api.evermuse.com", "http://localhost:1", "http://[::1]:8787/base/"])
def test_valid_urls(url, typed):
    assert typed(API_URL=url).workspace("default").api_url == url.rstrip("/")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("api.evermuse.com", "not an http(s) URL"),
        ("ftp://api.evermuse.com", "not an http(s) URL"),
        ("https://", "not an http(s) URL"),
        ("https://[::1", "not an http(s) URL"),
        ("https://api.evermuse.com\\x", "not an http(s) URL"),
        ("https://api..evermuse.com", "not an http(s) URL"),
        ("https://-api.evermuse.com", "not an http(s) URL"),
        ("https://api.evermuse.com:none", "not an http(s) URL"),
        ("https://api.evermuse.com:70000", "not an http(s) URL"),
        (None, "not an http(s) URL"),
        (b"https://api.evermuse.com", "not an http(s) URL"),
        (f"https://me:{KEY}@api.evermuse.com", "more than scheme, host and path"),
        (f"https://api.evermuse.com/?key={KEY}", "more than scheme, host and path"),
        ("https://api.evermuse.com/#here", "more than scheme, host and path"),
        ("http://api.evermuse.com", "clear text"),
        ("https://api.evermuse.com ", "characters"),
        (" https://api.evermuse.com", "characters"),
        ("https://api.ever\nmuse.com", "characters"),
        ("https://api.evermuse.com\t", "characters"),
        ("https://api.evermuse.com/\x00", "characters"),
        ("https://api.evermüse.com", "characters"),
        ("https://api.evermuse.com?", "more than scheme, host and path"),
        ("https://api.evermuse.com#", "more than scheme, host and path"),
        ("https://@api.evermuse.com", "more than scheme, host and path"),
        ("https://api.evermuse.com/a//b", "not plain"),
        ("https://api.evermuse.com/a/../b", "not plain"),
        ("https://api.evermuse.com/.", "not plain"),
        ("https://api.evermuse.com/a%2Fb", "not plain"),
        ("https://api.evermuse.com/a;b", "not plain"),
        ("http://localhost.example.com", "clear text"),
    ],
)
def test_invalid_urls(url, reason):
    (problem,) = errors_in(API_URL=url)
    assert reason in problem
    assert KEY not in problem


@pytest.mark.parametrize("url", ["redis://127.0.0.1:6379/0", "rediss://host", "unix:///run/redis.sock"])
def test_redis_urls(url, typed):
    read = typed(REDIS_URL=url).redis_url
    assert read.reveal() == url
    assert url not in repr(typed(REDIS_URL=url))


@pytest.mark.parametrize("empty", ["", None])
def test_redis_is_optional(empty, typed):
    assert typed(REDIS_URL=empty).redis_url is None


@pytest.mark.parametrize("url", ["http://127.0.0.1", "redis://[::1", 6379])
def test_invalid_redis_urls(url):
    assert "not a Redis URL" in errors_in(REDIS_URL=url)[0]


@pytest.mark.parametrize("wrong", ["default", [], (), [1], 5, None, {"default": 1}])
def test_databases_must_be_a_list_of_aliases(wrong):
    assert "is not a list of database aliases" in errors_in(DATABASES=wrong)[0]


def test_duplicate_databases_are_removed(typed):
    assert typed(DATABASES=["default", "other", "default"]).databases == ("default", "other")


def test_fixes(typed):
    assert typed(FIXES={"product": "desk.fixes.product"}).fixes == {"product": "desk.fixes.product"}
    assert "a dict from name" in errors_in(FIXES=["desk.fixes.product"])[0]
    assert "'product' is not the dotted path" in errors_in(FIXES={"product": "product"})[0]


def test_format_hints(typed):
    assert typed(FORMAT_HINTS={"Call": "audio"}).format_hints == {"call": "audio"}
    assert "a dict from _type" in errors_in(FORMAT_HINTS=["audio"])[0]
    assert "Did you mean 'audio'?" in errors_in(FORMAT_HINTS={"call": "audoi"})[0]


@pytest.mark.parametrize("wrong", [0, 1, "yes", None])
def test_a_flag_must_be_true_or_false(wrong):
    assert "is not True or False" in errors_in(WAKE_ON_COMMIT=wrong)[0]


def test_a_queue_must_be_a_name(typed):
    assert typed(CELERY_QUEUE="outbox").celery_queue == "outbox"
    assert typed().celery_queue is None
    assert "is not a queue name" in errors_in(CELERY_QUEUE="")[0]


@pytest.mark.parametrize("key", [f"{KEY}\n", f" {KEY}", "em_sk_käse", "em_sk_\x00"])
def test_a_key_that_no_header_can_contain_is_refused_and_not_shown(key):
    (problem,) = errors_in(API_KEY=key)
    assert "an HTTP header cannot contain" in problem
    assert key.strip() not in problem


def test_a_key_must_be_a_string():
    assert "not int" in errors_in(API_KEY=5)[0]
    assert errors_in(API_KEY=None) == errors_in(API_KEY="") == errors_in(API_KEY=Secret(KEY)) == []


def test_the_password_of_redis_is_masked_from_now_on():
    read_redis_url("redis://user:pass%2Fword-1@127.0.0.1:6379/0")
    assert clean_text("pass%2Fword-1 and pass/word-1") == "… and …"


def test_a_proxy_is_a_url_or_nothing(typed):
    assert typed().workspace("default").proxy is None
    assert typed(PROXY=None).workspace("default").proxy is None
    for value in ("", False):
        assert typed(PROXY=value).workspace("default").proxy is False
    proxy = typed(PROXY="http://user:long-secret@proxy.example:3128").workspace("default").proxy
    assert proxy.url == "http://proxy.example:3128"
    assert "long-secret" not in repr(typed(PROXY="http://user:long-secret@proxy.example:3128"))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("proxy.example:3128", "not the URL of an HTTP proxy"),
        ("http://user:long-secret@proxy.example", "no port"),
        ("http://user:long-secret@proxy.example:3128/x", "more than"),
        (" http://user:long-secret@proxy.example:3128", "white space"),
        ("socks5://user:long-secret@proxy.example:1080", "SOCKS"),
        (True, "not bool"),
        (0, "not int"),
        (["http://proxy.example:3128"], "not list"),
    ],
)
def test_a_bad_proxy_is_named_without_its_credentials(value, reason):
    (problem,) = errors_in(PROXY=value)
    assert problem.startswith("EVERMUSE_OUTBOX['PROXY']: ")
    assert reason in problem
    assert "long-secret" not in problem


def test_a_workspace_inherits_the_proxy_or_has_another(typed):
    settings = typed(
        PROXY="http://a:1",
        WORKSPACES={
            "emea": {"API_KEY": KEY},
            "apac": {"API_KEY": KEY, "PROXY": "http://b:1"},
            "us": {"PROXY": ""},
        },
    )
    assert [str(settings.workspace(name).proxy) for name in ("emea", "apac", "us")] == [
        "http://a:1",
        "http://b:1",
        "False",
    ]
