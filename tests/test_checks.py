"""Each system check by its id: when it reports, when it does not, and that its hint helps."""

from __future__ import annotations

import pytest
from django.conf import settings as project
from django.core import checks as django_checks

from evermuse_outbox import checks
from evermuse_outbox.checks import check_settings, check_storage
from evermuse_outbox.models import OutboxRecord
from tests.rows import record_in

KEY = "em_sk_check"
VALID = {"API_KEY": KEY}
IMMEDIATE = {"ENGINE": "django.db.backends.sqlite3", "OPTIONS": {"transaction_mode": "IMMEDIATE"}}


@pytest.fixture
def check(settings, monkeypatch):
    """A function that checks settings and databases; it returns pairs of id and message."""

    def run(databases=None, **keys):
        monkeypatch.setattr(project, "DATABASES", databases or {"default": IMMEDIATE})
        settings.EVERMUSE_OUTBOX = VALID | keys
        messages = check_settings()
        assert all(message.hint for message in messages)
        return [(message.id.removeprefix("evermuse_outbox."), message) for message in messages]

    return run


def ids(results):
    return [name for name, _ in results]


def test_valid_settings_give_no_message(check):
    assert check() == []


def test_e001_names_every_bad_setting_and_the_other_checks_do_not_run(check):
    results = check(LINGER=-1, API_TOKENS=KEY, LEASE=1)
    assert ids(results) == ["E001", "E001"]
    assert [message.msg.split(":")[0] for _, message in results] == [
        "EVERMUSE_OUTBOX['LINGER']",
        "EVERMUSE_OUTBOX['API_TOKENS']",
    ]
    assert "Did you mean 'API_KEYS'?" in results[1][1].hint
    assert KEY not in str(results)


@pytest.mark.parametrize(
    "keys", [{"API_URL": "https://[::1"}, {"REDIS_URL": "redis://[::1"}, {"DATABASES": 5}]
)
def test_e001_for_values_of_any_kind(check, keys):
    assert ids(check(**keys)) == ["E001"]


@pytest.mark.parametrize(("lease", "expected"), [(64.9, ["E002"]), (65, [])])
def test_e002_a_lease_shorter_than_two_timeouts(check, lease, expected):
    results = check(TIMEOUT=30, LEASE=lease)
    assert ids(results) == expected
    assert not results or "65 s" in results[0][1].hint


def test_e003_a_database_that_is_not_there(check):
    ((name, message),) = check(DATABASES=["default", "nowhere"])
    assert name == "E003"
    assert "'nowhere'" in message.msg
    assert message.hint == "Known: default."


@pytest.mark.parametrize("url", [{}, {"API_URL": "https://api.evermuse.com"}])
def test_e005_the_key_of_the_sandbox_at_evermuse(check, url):
    ((name, message),) = check(API_KEY="em_sk_sandbox", **url)
    assert name == "E005"
    assert message.level == django_checks.ERROR
    assert "API_URL" in message.hint
    assert check(API_KEY="em_sk_sandbox", API_URL="http://127.0.0.1:8787") == []
    assert ids(check(API_KEYS=["em_sk_sandbox_2"], **url)) == ["E005"]


def test_w011_debug_without_an_address(check, settings):
    settings.DEBUG = True
    ((name, message),) = check()
    assert name == "W011"
    assert "http://127.0.0.1:8787" in message.hint
    assert check(API_URL="https://api.evermuse.com") == []
    assert ids(check(API_URL="http://127.0.0.1:1", WORKSPACES={"eu": {"API_KEY": f"{KEY}_eu"}})) == []
    assert ids(check(WORKSPACES={"eu": {"API_KEY": f"{KEY}_eu", "API_URL": "http://127.0.0.1:1"}})) == [
        "W011"
    ]


def test_w012_a_file_that_cannot_be_read(check, tmp_path):
    path = tmp_path / "key"
    ((name, message),) = check(API_KEY="", API_KEY_FILE=str(path))
    assert name == "W012"
    assert str(path) in message.msg
    assert "No such file" in message.msg
    path.write_text(f"{KEY}\n")
    assert check(API_KEY="", API_KEY_FILE=str(path)) == []
    path.write_text("em_sk_sandbox\n")
    assert ids(check(API_KEY="", API_KEY_FILE=str(path))) == ["E005"]


@pytest.mark.parametrize("path", ["/api/v1", "/v1/", "/api/v1/ingest", "/gateway/api/v1"])
def test_w013_an_address_with_the_version_of_the_api(check, path):
    ((name, message),) = check(API_URL=f"https://api.evermuse.com{path}")
    assert name == "W013"
    assert "/api/v1/ingest" in message.hint


@pytest.mark.parametrize("path", ["", "/", "/gateway", "/v1/gateway"])
def test_an_address_with_another_path_is_right(check, path):
    assert check(API_URL=f"https://api.evermuse.com{path}") == []


def test_a_function_for_the_key_is_not_called_by_a_check(check):
    def read_key():
        raise AssertionError("called")

    assert check(API_KEY=read_key) == []


def test_w001_a_workspace_without_a_key(check):
    ((name, message),) = check(API_KEY="")
    assert name == "W001"
    assert message.hint == (
        "Set EVERMUSE_OUTBOX['API_KEY'] from the environment, or EVERMUSE_OUTBOX['API_KEY_FILE'] to the path of a file."
    )
    ((name, message),) = check(WORKSPACES={"eu": {}})
    assert "'eu'" in message.msg
    assert message.hint.startswith("Set EVERMUSE_OUTBOX['WORKSPACES']['eu']['API_KEY']")


def test_w002_two_workspaces_with_one_key(check):
    assert ids(check(WORKSPACES={"eu": {"API_KEY": KEY}})) == ["W002"]
    assert ids(check(WORKSPACES={"eu": {"API_KEY": f"{KEY}_eu"}})) == []
    assert ids(check(API_KEY="", WORKSPACES={"default": {}, "eu": {}})) == ["W001", "W001"]


@pytest.mark.parametrize("mode", [None, "DEFERRED", "deferred"])
def test_w003_sqlite_that_locks_late(check, mode):
    late = {"ENGINE": "django.db.backends.sqlite3", "OPTIONS": {"transaction_mode": mode} if mode else {}}
    ((name, message),) = check({"default": late})
    assert name == "W003"
    assert "IMMEDIATE" in message.hint


@pytest.mark.parametrize("mode", ["IMMEDIATE", "immediate", "EXCLUSIVE"])
def test_w003_accepts_modes_that_lock_early(check, mode):
    assert check({"default": {**IMMEDIATE, "OPTIONS": {"transaction_mode": mode}}}) == []


def test_w003_checks_only_databases_of_the_outbox(check):
    other = {"ENGINE": "django.db.backends.sqlite3", "OPTIONS": {}}
    assert check({"default": IMMEDIATE, "other": other}) == []
    assert check({"default": {"ENGINE": "django.db.backends.postgresql"}}) == []


def test_w004_more_requests_than_evermuse_allows(check):
    assert ids(check(RATE_LIMIT=10)) == []
    assert ids(check(RATE_LIMIT=10.5)) == ["W004"]
    assert ids(check(WORKSPACES={"eu": {"API_KEY": "em_sk_eu", "RATE_LIMIT": 11}})) == ["W004"]


@pytest.mark.parametrize(("limit", "expected"), [(None, []), (119, []), (120, ["W005"])])
def test_w005_a_task_that_can_run_longer_than_its_lease(check, settings, limit, expected):
    settings.CELERY_TASK_SOFT_TIME_LIMIT = limit
    assert ids(check(LEASE=120)) == expected


@pytest.mark.django_db(databases="__all__")  # some of Django's checks query the database
def test_the_checks_are_registered_and_can_be_silenced_by_id(settings):
    settings.EVERMUSE_OUTBOX = {"API_KEY": KEY, "RATE_LIMIT": 99}
    results = [message for message in django_checks.run_checks() if message.id == "evermuse_outbox.W004"]
    assert len(results) == 1
    settings.SILENCED_SYSTEM_CHECKS = ["evermuse_outbox.W004"]
    assert results[0].is_silenced()


def test_w006_messages_that_are_delivered_again_during_a_lease(check, settings):
    settings.CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 100}
    assert ids(check(LEASE=100)) == ["W006"]
    assert ids(check(LEASE=99)) == []


def test_a_workspace_that_is_missing_in_the_settings(alias):
    row = record_in(alias, "pending")
    assert [message.id for message in check_storage([alias]) if message.id.endswith("W008")] == []
    OutboxRecord.rows.using(alias).filter(pk=row.pk).update(workspace="gone")
    (warning,) = (message for message in check_storage([alias]) if message.id.endswith("W008"))
    assert "1 pending records" in warning.msg
    assert "manage.py outbox_discard --workspace gone" in warning.hint


@pytest.mark.parametrize(
    ("days", "retention", "expected"),
    [
        (None, 14, []),
        (13, 14, []),
        (14, 14, ["W009"]),
        (3, {"delivered": 2}, ["W009"]),
        (3, {"rejected": 2}, []),
    ],
)
def test_w009_payloads_that_are_kept_longer_than_their_records(check, days, retention, expected):
    assert ids(check(PAYLOAD_RETENTION_DAYS=days, RETENTION_DAYS=retention)) == expected


def test_w010_names_a_proxy_of_the_environment_that_cannot_be_used(check, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://user:some-password@proxy.example:1080")
    monkeypatch.delenv("NO_PROXY", raising=False)
    ((name, message),) = check()
    assert name == "W010"
    assert "ALL_PROXY" in message.msg
    assert "SOCKS" in message.msg
    assert "['PROXY']" in message.hint
    assert "some-password" not in message.msg + message.hint
    assert check(PROXY="") == check(API_URL="http://127.0.0.1:8787") == []
    monkeypatch.setenv("NO_PROXY", "api.evermuse.com")
    assert check() == []


@pytest.mark.parametrize(
    ("scheduler", "use_tz", "zone", "expected"),
    [
        ("django_celery_beat.schedulers:DatabaseScheduler", False, "Asia/Tokyo", ["W015"]),
        ("django_celery_beat.schedulers.DatabaseScheduler", False, "Europe/London", ["W015"]),
        ("django_celery_beat.schedulers:DatabaseScheduler", False, "America/New_York", []),
        ("django_celery_beat.schedulers:DatabaseScheduler", True, "Asia/Tokyo", []),
        ("redbeat.RedBeatScheduler", False, "Asia/Tokyo", []),
        (None, False, "Asia/Tokyo", []),
    ],
)
def test_w015_a_scheduler_that_reads_local_times_as_utc(check, settings, scheduler, use_tz, zone, expected):
    settings.CELERY_BEAT_SCHEDULER = scheduler
    settings.USE_TZ, settings.TIME_ZONE = use_tz, zone
    assert ids(check()) == expected


@pytest.mark.parametrize(("installed", "is_old"), [("2.1.0", True), ("2.8.1", False), ("2.9.0", False)])
def test_a_django_celery_beat_that_pip_chose_for_want_of_a_limit_is_named(monkeypatch, installed, is_old):
    monkeypatch.setattr("django.apps.apps.is_installed", lambda name: True)
    monkeypatch.setattr(checks, "version", lambda name: installed)
    found = [entry for entry in checks._check_scheduler_version() if entry.id == "evermuse_outbox.W030"]
    assert bool(found) is is_old
    assert all(installed in entry.msg and ">=2.8.1" in entry.hint for entry in found)


@pytest.mark.parametrize(
    ("path", "expected"),
    [("json.dumps", []), ("json.no_such", ["E004"]), ("no_such.function", ["E004"]), ("os.sep", ["E004"])],
)
def test_e004_a_function_that_cannot_be_imported(check, path, expected):
    assert ids(check(RENEW_URL=path)) == expected


# --- a function of WORKSPACES -------------------------------------------------------------------------------


def test_e006_names_a_function_that_cannot_be_imported(check):
    ((name, message),) = check(WORKSPACES="tests.no_such_module.read")
    assert name == "E006"
    assert "ModuleNotFoundError" in message.msg
    ((_, message),) = check(WORKSPACES="tests.test_checks.KEY")
    assert "the path is not that of a function" in message.msg


def fail():
    raise RuntimeError(KEY)


def test_a_check_without_a_database_does_not_call_the_function(check):
    assert check(WORKSPACES=fail) == []


@pytest.mark.django_db
def test_w014_says_what_is_wrong_with_the_result(settings):
    settings.EVERMUSE_OUTBOX = VALID | {"WORKSPACES": fail}
    (message,) = [each for each in check_storage(["default"]) if each.id == "evermuse_outbox.W014"]
    assert "the function failed: RuntimeError. Nothing is delivered." in message.msg
    assert KEY not in message.msg + message.hint
    rows = {"acme": {"API_KEY": "em_sk_acme", "RATE_LIMIT": "10"}, "eu": {}}
    settings.EVERMUSE_OUTBOX = VALID | {"WORKSPACES": lambda: rows}
    found = {each.id.removeprefix("evermuse_outbox."): each for each in check_storage(["default"])}
    assert "['WORKSPACES']()['acme']['RATE_LIMIT']" in found["W014"].msg
    assert found["W001"].hint.startswith("Set EVERMUSE_OUTBOX['WORKSPACES']()['eu']['API_KEY']")
