"""The settings: bounds, hints, inheritance, secrets, and that nothing is read at import."""

from __future__ import annotations

import copy
import dataclasses
import os
import pickle
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from evermuse_outbox import conf
from evermuse_outbox.conf import Secret, find_problems, get_settings

ROOT = Path(__file__).resolve().parent.parent
CONF = str(Path(conf.__file__).parent)
KEY = "em_sk_a_key_that_no_message_may_show"


def errors_in(**keys):
    """Return the errors in a settings dict as texts."""
    return [str(problem) for problem in find_problems(keys)]


@pytest.fixture
def typed(settings):
    """A function that returns the typed settings of exactly these keys."""

    def build(**keys):
        settings.EVERMUSE_OUTBOX = keys
        return get_settings()

    return build


# --- one key at a time --------------------------------------------------------------------------------

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
        assert f"from {low:g} to {high:g}" in problem


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
        ("https://api.evermuse.com:none", "not an http(s) URL"),
        ("https://api.evermuse.com:70000", "not an http(s) URL"),
        (None, "not an http(s) URL"),
        (b"https://api.evermuse.com", "not an http(s) URL"),
        (f"https://me:{KEY}@api.evermuse.com", "more than scheme, host and path"),
        (f"https://api.evermuse.com/?key={KEY}", "more than scheme, host and path"),
        ("https://api.evermuse.com/#here", "more than scheme, host and path"),
        ("http://api.evermuse.com", "clear text"),
        ("http://localhost.example.com", "clear text"),
    ],
)
def test_invalid_urls(url, reason):
    (problem,) = errors_in(API_URL=url)
    assert reason in problem
    assert KEY not in problem


@pytest.mark.parametrize("url", ["redis://127.0.0.1:6379/0", "rediss://host", "unix:///run/redis.sock"])
def test_redis_urls(url, typed):
    assert typed(REDIS_URL=url).redis_url == url


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


# --- the dict ----------------------------------------------------------------------------------------


def test_an_empty_dict_gives_the_published_limits(typed):
    settings = typed()
    assert (settings.max_batch_records, settings.max_batch_bytes, settings.max_batch_attachments) == (
        1_000,
        5_000_000,
        1_000,
    )
    default = settings.workspace("default")
    assert (default.api_url, default.contract, default.rate_limit) == (
        "https://api.evermuse.com",
        "reference",
        10.0,
    )
    assert not default.api_key


@pytest.mark.parametrize(
    ("name", "meant"), [("API_KEYS", "API_KEY"), ("api_url", "API_URL"), ("WORKSPACE", "WORKSPACES")]
)
def test_an_unknown_key_is_named_with_the_most_similar_known_key(name, meant):
    (problem,) = errors_in(**{name: KEY})
    assert problem == f"EVERMUSE_OUTBOX['{name}']: there is no such setting. Did you mean '{meant}'?"


def test_an_unknown_key_without_a_similar_one_is_named_with_all_known_keys():
    (problem,) = find_problems({7: 1})
    assert all(name in problem.hint for name in (*conf.OPTIONS, "WORKSPACES"))


@pytest.mark.parametrize("wrong", [None, [], "API_KEY", 5])
def test_settings_must_be_a_dict(wrong, settings):
    settings.EVERMUSE_OUTBOX = wrong
    with pytest.raises(ImproperlyConfigured, match="must be a dict"):
        get_settings()


def test_one_error_names_every_wrong_key(typed):
    with pytest.raises(ImproperlyConfigured) as caught:
        typed(
            LINGER=-1, TIMEOUT="x", WAKE_ON_COMMITS=True, WORKSPACES={"eu": {"CONTRACT": "open", "LINGER": 1}}
        )
    for path in (
        "['LINGER']",
        "['TIMEOUT']",
        "['WAKE_ON_COMMITS']",
        "['eu']['CONTRACT']",
        "['eu']['LINGER']",
    ):
        assert path in str(caught.value)


def test_settings_are_read_late_and_again_after_a_change():
    with override_settings(EVERMUSE_OUTBOX={"LINGER": 7}):
        assert get_settings().linger == 7
        assert get_settings() is get_settings()
        with override_settings(EVERMUSE_OUTBOX={"LINGER": 8}):
            assert get_settings().linger == 8
        assert get_settings().linger == 7
    assert get_settings().linger == 0


def test_settings_are_frozen(typed):
    with pytest.raises(dataclasses.FrozenInstanceError):
        typed().linger = 5


# --- workspaces ---------------------------------------------------------------------------------------


def test_a_workspace_inherits_all_options_except_the_key(typed):
    top = {"API_URL": "https://eu.example.com", "API_KEY": KEY, "CONTRACT": "openapi", "RATE_LIMIT": 5}
    settings = typed(**top, WORKSPACES={"eu": {}, "us": {"API_KEY": "em_sk_us", "RATE_LIMIT": 2}})
    eu, us = settings.workspace("eu"), settings.workspace("us")
    assert (eu.api_url, eu.contract, eu.rate_limit) == ("https://eu.example.com", "openapi", 5.0)
    assert not eu.api_key
    assert (us.api_key.reveal(), us.contract, us.rate_limit) == ("em_sk_us", "openapi", 2.0)
    assert settings.workspace("default").api_key.reveal() == KEY


def test_the_default_workspace_may_be_named_as_well(typed):
    settings = typed(API_KEY=KEY, WORKSPACES={"default": {"CONTRACT": "openapi"}})
    default = settings.workspace("default")
    assert (default.api_key.reveal(), default.contract) == (KEY, "openapi")
    assert typed(API_KEY=KEY, WORKSPACES={"default": {"API_KEY": "b"}}).workspace(
        "default"
    ).api_key == Secret("b")


@pytest.mark.parametrize(
    ("workspaces", "reason"),
    [
        (["eu"], "a dict from name"),
        ({"": {}}, "1 to 64 characters"),
        ({"x" * 65: {}}, "1 to 64 characters"),
        ({5: {}}, "1 to 64 characters"),
        ({"eu": KEY}, "must be a dict"),
        ({"eu": {"API_KEYS": KEY}}, "['WORKSPACES']['eu']['API_KEYS']: there is no such setting"),
        ({"eu": {"DATABASES": ["default"]}}, "there is no such setting"),
    ],
)
def test_invalid_workspaces(workspaces, reason):
    (problem,) = errors_in(WORKSPACES=workspaces)
    assert reason in problem
    assert KEY not in problem


def test_an_unknown_workspace_is_named_with_the_known_ones(typed):
    with pytest.raises(ImproperlyConfigured, match=r"No workspace 'ue' .* known: default, eu\."):
        typed(API_KEY=KEY, WORKSPACES={"eu": {}}).workspace("ue")


def test_named_workspaces_without_a_key_at_the_top_give_no_default_one(typed):
    assert list(typed(WORKSPACES={"eu": {"API_KEY": KEY}}).workspaces) == ["eu"]
    assert list(typed().workspaces) == ["default"]


# --- secrets ------------------------------------------------------------------------------------------


def test_only_reveal_shows_a_secret():
    secret = Secret(KEY)
    shown = f"{secret} {secret!r} {secret!s} {[secret]} {secret:}"
    assert KEY not in shown
    assert secret.reveal() == KEY
    assert (repr(secret), repr(Secret(""))) == ("Secret(…)", "Secret(empty)")


def test_secrets_compare_and_hash_by_value():
    assert Secret(KEY) == Secret(KEY) != Secret("other")
    assert Secret(KEY) != KEY
    assert len({Secret(KEY), Secret(KEY)}) == 1
    assert bool(Secret(KEY))
    assert not Secret("")


def test_the_typed_settings_show_no_key(typed):
    settings = typed(API_KEY=KEY, WORKSPACES={"eu": {"API_KEY": f"{KEY}_eu"}})
    for shown in (repr(settings), str(dataclasses.asdict(settings)), str(copy.deepcopy(settings))):
        assert "Secret(…)" in shown
        assert KEY not in shown


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_secret_cannot_be_pickled(protocol, typed):
    with pytest.raises(TypeError, match="secret"):
        pickle.dumps(typed(API_KEY=KEY), protocol=protocol)


@pytest.mark.parametrize("wrong", [{"LINGER": -1}, {"API_KEYS": KEY}, {"API_URL": KEY}, {"CONTRACT": KEY}])
def test_no_error_report_shows_a_key(typed, wrong):
    with pytest.raises(ImproperlyConfigured) as caught:
        typed(**{"API_KEY": KEY} | wrong)
    frames = [entry for entry in traceback.walk_tb(caught.tb) if entry[0].f_code.co_filename.startswith(CONF)]
    report = traceback.StackSummary.extract(iter(frames), capture_locals=True)
    assert frames
    assert KEY not in "".join(report.format())
    assert KEY not in str(caught.value)


# --- import -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["evermuse_outbox", "evermuse_outbox.schedule", "evermuse_outbox.conf"])
def test_importing_reads_no_settings(module):
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    code = f"import {module}\nfrom django.conf import settings\nassert not settings.configured"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, timeout=60)
