"""Each system check by its id: when it speaks, when it is silent, and that it teaches."""

from __future__ import annotations

import pytest
from django.conf import settings as project
from django.core import checks as django_checks

from evermuse_outbox.checks import check_settings

KEY = "em_sk_check"
RIGHT = {"API_KEY": KEY}
IMMEDIATE = {"ENGINE": "django.db.backends.sqlite3", "OPTIONS": {"transaction_mode": "IMMEDIATE"}}


@pytest.fixture
def found(settings, monkeypatch):
    """What the checks say to these keys, and with these databases, by id."""

    def run(databases=None, **keys):
        monkeypatch.setattr(project, "DATABASES", databases or {"default": IMMEDIATE})
        settings.EVERMUSE_OUTBOX = RIGHT | keys
        said = check_settings()
        assert all(message.hint for message in said)
        return [(message.id.removeprefix("evermuse_outbox."), message) for message in said]

    return run


def ids(found):
    return [name for name, _ in found]


def test_right_settings_are_not_talked_about(found):
    assert found() == []


def test_e001_names_every_bad_setting_and_the_others_wait(found):
    said = found(LINGER=-1, API_KEYS=KEY, LEASE=1)
    assert ids(said) == ["E001", "E001"]
    assert [message.msg.split(":")[0] for _, message in said] == [
        "EVERMUSE_OUTBOX['LINGER']",
        "EVERMUSE_OUTBOX['API_KEYS']",
    ]
    assert said[1][1].hint == "Did you mean 'API_KEY'?"
    assert KEY not in str(said)


@pytest.mark.parametrize(
    "keys", [{"API_URL": "https://[::1"}, {"REDIS_URL": "redis://[::1"}, {"DATABASES": 5}]
)
def test_e001_whatever_stands_there(found, keys):
    assert ids(found(**keys)) == ["E001"]


@pytest.mark.parametrize(("lease", "expected"), [(64.9, ["E002"]), (65, [])])
def test_e002_a_lease_shorter_than_two_timeouts(found, lease, expected):
    said = found(TIMEOUT=30, LEASE=lease)
    assert ids(said) == expected
    assert not said or "65 s" in said[0][1].hint


def test_e003_a_database_that_is_not_there(found):
    ((name, message),) = found(DATABASES=["default", "nowhere"])
    assert name == "E003"
    assert "'nowhere'" in message.msg
    assert message.hint == "Known: default."


def test_w001_a_workspace_without_a_key(found):
    ((name, message),) = found(API_KEY="")
    assert (name, message.hint) == ("W001", "Set EVERMUSE_OUTBOX['API_KEY'] from the environment.")
    ((name, message),) = found(WORKSPACES={"eu": {}})
    assert "'eu'" in message.msg
    assert message.hint.startswith("Set EVERMUSE_OUTBOX['WORKSPACES']['eu']['API_KEY']")


def test_w002_two_workspaces_with_one_key(found):
    assert ids(found(WORKSPACES={"eu": {"API_KEY": KEY}})) == ["W002"]
    assert ids(found(WORKSPACES={"eu": {"API_KEY": f"{KEY}_eu"}})) == []
    assert ids(found(API_KEY="", WORKSPACES={"default": {}, "eu": {}})) == ["W001", "W001"]


@pytest.mark.parametrize("mode", [None, "DEFERRED", "deferred"])
def test_w003_sqlite_that_locks_late(found, mode):
    late = {"ENGINE": "django.db.backends.sqlite3", "OPTIONS": {"transaction_mode": mode} if mode else {}}
    ((name, message),) = found({"default": late})
    assert name == "W003"
    assert "IMMEDIATE" in message.hint


@pytest.mark.parametrize("mode", ["IMMEDIATE", "immediate", "EXCLUSIVE"])
def test_w003_is_silent_where_the_lock_is_taken_early(found, mode):
    assert found({"default": {**IMMEDIATE, "OPTIONS": {"transaction_mode": mode}}}) == []


def test_w003_looks_only_at_databases_of_the_outbox(found):
    other = {"ENGINE": "django.db.backends.sqlite3", "OPTIONS": {}}
    assert found({"default": IMMEDIATE, "other": other}) == []
    assert found({"default": {"ENGINE": "django.db.backends.postgresql"}}) == []


def test_w004_more_requests_than_evermuse_allows(found):
    assert ids(found(RATE_LIMIT=10)) == []
    assert ids(found(RATE_LIMIT=10.5)) == ["W004"]
    assert ids(found(WORKSPACES={"eu": {"API_KEY": "em_sk_eu", "RATE_LIMIT": 11}})) == ["W004"]


@pytest.mark.parametrize(("limit", "expected"), [(None, []), (119, []), (120, ["W005"])])
def test_w005_a_task_that_may_outlive_its_lease(found, settings, limit, expected):
    settings.CELERY_TASK_SOFT_TIME_LIMIT = limit
    assert ids(found(LEASE=120)) == expected


@pytest.mark.django_db(databases="__all__")  # some of Django's own checks ask the database
def test_the_checks_are_registered_and_can_be_silenced_by_id(settings):
    settings.EVERMUSE_OUTBOX = {"API_KEY": KEY, "RATE_LIMIT": 99}
    said = [message for message in django_checks.run_checks() if message.id == "evermuse_outbox.W004"]
    assert len(said) == 1
    settings.SILENCED_SYSTEM_CHECKS = ["evermuse_outbox.W004"]
    assert said[0].is_silenced()


def test_w006_messages_come_again_while_a_lease_holds(found, settings):
    settings.CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 100}
    assert ids(found(LEASE=100)) == ["W006"]
    assert ids(found(LEASE=99)) == []
