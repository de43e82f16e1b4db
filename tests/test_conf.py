"""The settings dict: bounds, hints, inheritance, secrets, and that nothing is read at import."""

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
KEY = "em_sk_a_key_that_nobody_may_see"


def told(**keys):
    return [str(problem) for problem in find_problems(keys)]


@pytest.fixture
def typed(settings):
    """The typed settings of exactly these keys."""

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
WHOLE = ("MAX_BATCH_RECORDS", "MAX_BATCH_BYTES", "MAX_BATCH_ATTACHMENTS", "MAX_RESENDS")


@pytest.mark.parametrize(("name", "low", "high"), [(name, *ends) for name, ends in BOUNDS.items()])
def test_a_number_is_taken_from_its_bounds_and_not_beyond(name, low, high):
    assert told(**{name: low}) == told(**{name: high}) == []
    beyond = (low - (1 if name in WHOLE else 0.001), high + 1)
    for value in (*beyond, float("nan"), float("inf"), "5", None, True):
        (problem,) = told(**{name: value})
        assert problem.startswith(f"EVERMUSE_OUTBOX['{name}']: {value!r} is not a")
        assert f"from {low:g} to {high:g}" in problem


@pytest.mark.parametrize("name", WHOLE)
def test_a_count_is_a_whole_number(name):
    assert "is not a whole number" in told(**{name: 1_000.0})[0]


CHOICES = {
    "CONTRACT": ("reference", "openapi"),
    "BODY_FORMAT": ("ndjson", "array", "wrapper"),
    "DEFAULT_NATURE": ("evidence", "guidance", "context"),
}


@pytest.mark.parametrize(("name", "allowed"), CHOICES.items())
def test_a_choice_is_one_of_the_published(name, allowed):
    assert [told(**{name: value}) for value in allowed] == [[] for _ in allowed]
    assert f"Did you mean '{allowed[0]}'?" in told(**{name: allowed[0][:-1]})[0]
    for wrong in ("", None, 3, [allowed[0]]):
        assert f"is not one of {', '.join(allowed)}" in told(**{name: wrong})[0]


@pytest.mark.parametrize("url", ["https://api.evermuse.com", "http://localhost:1", "http://[::1]:8787/base/"])
def test_urls_that_are_taken(url, typed):
    assert typed(API_URL=url).workspace("default").api_url == url.rstrip("/")


@pytest.mark.parametrize(
    ("url", "why"),
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
def test_urls_that_are_refused(url, why):
    (problem,) = told(API_URL=url)
    assert why in problem
    assert KEY not in problem


@pytest.mark.parametrize("url", ["redis://127.0.0.1:6379/0", "rediss://host", "unix:///run/redis.sock"])
def test_redis_urls(url, typed):
    assert typed(REDIS_URL=url).redis_url == url


@pytest.mark.parametrize("nothing", ["", None])
def test_redis_may_be_left_out(nothing, typed):
    assert typed(REDIS_URL=nothing).redis_url is None


@pytest.mark.parametrize("url", ["http://127.0.0.1", "redis://[::1", 6379])
def test_what_is_no_redis_url(url):
    assert "not a Redis URL" in told(REDIS_URL=url)[0]


@pytest.mark.parametrize("wrong", ["default", [], (), [1], 5, None, {"default": 1}])
def test_databases_are_a_list_of_aliases(wrong):
    assert "is not a list of database aliases" in told(DATABASES=wrong)[0]


def test_a_database_named_twice_is_looked_into_once(typed):
    assert typed(DATABASES=["default", "other", "default"]).databases == ("default", "other")


def test_format_hints(typed):
    assert typed(FORMAT_HINTS={"Call": "audio"}).format_hints == {"call": "audio"}
    assert "a dict from _type" in told(FORMAT_HINTS=["audio"])[0]
    assert "Did you mean 'audio'?" in told(FORMAT_HINTS={"call": "audoi"})[0]


@pytest.mark.parametrize("wrong", [0, 1, "yes", None])
def test_a_flag_is_true_or_false(wrong):
    assert "is not True or False" in told(WAKE_ON_COMMIT=wrong)[0]


def test_a_queue_is_a_name(typed):
    assert typed(CELERY_QUEUE="outbox").celery_queue == "outbox"
    assert typed().celery_queue is None
    assert "is not a queue name" in told(CELERY_QUEUE="")[0]


@pytest.mark.parametrize("key", [f"{KEY}\n", f" {KEY}", "em_sk_käse", "em_sk_\x00"])
def test_a_key_that_no_header_may_carry_is_refused_unseen(key):
    (problem,) = told(API_KEY=key)
    assert "an HTTP header cannot contain" in problem
    assert key.strip() not in problem


def test_a_key_is_text():
    assert "not int" in told(API_KEY=5)[0]
    assert told(API_KEY=None) == told(API_KEY="") == told(API_KEY=Secret(KEY)) == []


# --- the dict as a whole ------------------------------------------------------------------------------


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
def test_an_unknown_key_is_told_with_the_one_that_was_meant(name, meant):
    (problem,) = told(**{name: KEY})
    assert problem == f"EVERMUSE_OUTBOX['{name}']: there is no such setting. Did you mean '{meant}'?"


def test_a_key_like_no_other_is_told_with_all_that_are_known():
    (problem,) = find_problems({7: 1})
    assert all(name in problem.hint for name in (*conf.OPTIONS, "WORKSPACES"))


@pytest.mark.parametrize("wrong", [None, [], "API_KEY", 5])
def test_what_is_no_dict_is_told(wrong, settings):
    settings.EVERMUSE_OUTBOX = wrong
    with pytest.raises(ImproperlyConfigured, match="must be a dict"):
        get_settings()


def test_all_that_is_wrong_is_named_at_once(typed):
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


def test_a_workspace_inherits_everything_but_the_key(typed):
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
    ("workspaces", "why"),
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
def test_workspaces_that_are_refused(workspaces, why):
    (problem,) = told(WORKSPACES=workspaces)
    assert why in problem
    assert KEY not in problem


def test_an_unknown_workspace_is_told_with_the_known_ones(typed):
    with pytest.raises(ImproperlyConfigured, match=r"No workspace 'ue' .* known: default, eu\."):
        typed(API_KEY=KEY, WORKSPACES={"eu": {}}).workspace("ue")


def test_named_workspaces_alone_make_no_default_one(typed):
    assert list(typed(WORKSPACES={"eu": {"API_KEY": KEY}}).workspaces) == ["eu"]
    assert list(typed().workspaces) == ["default"]


# --- secrets ------------------------------------------------------------------------------------------


def test_a_secret_shows_itself_only_when_asked():
    secret = Secret(KEY)
    shown = f"{secret} {secret!r} {secret!s} {[secret]} {secret:}"
    assert KEY not in shown
    assert secret.reveal() == KEY
    assert (repr(secret), repr(Secret(""))) == ("Secret(…)", "Secret(empty)")


def test_secrets_compare_and_hash_by_what_they_hold():
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
def test_a_secret_is_not_pickled(protocol, typed):
    with pytest.raises(TypeError, match="secret"):
        pickle.dumps(typed(API_KEY=KEY), protocol=protocol)


@pytest.mark.parametrize("wrong", [{"LINGER": -1}, {"API_KEYS": KEY}, {"API_URL": KEY}, {"CONTRACT": KEY}])
def test_no_report_of_an_error_shows_a_key(typed, wrong):
    with pytest.raises(ImproperlyConfigured) as caught:
        typed(**{"API_KEY": KEY} | wrong)
    ours = [entry for entry in traceback.walk_tb(caught.tb) if entry[0].f_code.co_filename.startswith(CONF)]
    report = traceback.StackSummary.extract(iter(ours), capture_locals=True)
    assert ours
    assert KEY not in "".join(report.format())
    assert KEY not in str(caught.value)


# --- import -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["evermuse_outbox", "evermuse_outbox.schedule", "evermuse_outbox.conf"])
def test_importing_reads_no_settings(module):
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    code = f"import {module}\nfrom django.conf import settings\nassert not settings.configured"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, timeout=60)
