"""System checks: each says what is wrong, where, and how to correct it.

Without them, a wrong setting would show only later, for instance as records that wait. The ids do not change, so a
host can silence a check with ``SILENCED_SYSTEM_CHECKS``. The interface is :func:`check_settings`, which must query no
database, and :func:`check_storage`, which may.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import Any

from django.core.checks import CheckMessage, Error, Warning  # noqa: A004
from django.core.exceptions import ImproperlyConfigured

from ..conf import (
    MAX_PERMIT_WAIT,
    SETTING,
    Settings,
    find_problems,
    get_static_settings,
)
from .encryption import check_data_keys, check_library
from .workspaces import (
    check_function_path,
    check_missing_workspaces,
    check_workspace_function,
    check_workspaces,
)

__all__ = ["check_settings", "check_storage"]

OLDEST_DATABASE_SCHEDULER = (2, 8)
"""Oldest release series of django-celery-beat that declares support for Django 5.2."""


def check_settings(**_: Any) -> list[CheckMessage]:
    """Check the settings: errors E001 to E006 and warnings W001 to W006, W009 to W013, W015 and W030.

    If a value is not valid (E001), the other checks do not run, because they need all values.
    """
    errors: list[CheckMessage] = [
        Error(f"{problem.path}: {problem.message}", hint=problem.hint, id="evermuse_outbox.E001")
        for problem in find_problems()
    ]
    if errors:
        return errors
    settings = get_static_settings()
    return [
        *_check_lease(settings),
        *_check_databases(settings),
        *_check_renew_url(settings),
        *check_function_path(settings),
        *check_workspaces(settings),
        *_check_visibility_timeout(settings),
        *_check_task_time_limit(settings),
        *_check_payload_retention(settings),
        *_check_scheduler_time_zone(),
        *_check_scheduler_version(),
        *check_library(),
    ]


def check_storage(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Check the databases: W007, W008, W014, W020 to W022, W041, W050 and W051.

    Django runs this check with ``check --database ALIAS`` and before ``migrate``, because it queries the database.
    """
    if any(find_problems()):
        return []
    aliases = [alias for alias in get_static_settings().databases if alias in (databases or ())]
    if not aliases:
        return []
    return [
        *check_workspace_function(),
        *(
            message
            for alias in aliases
            for check in (
                _check_tables,
                _check_characters,
                _check_sql_mode,
                _check_autovacuum,
                _check_indexes,
                check_missing_workspaces,
                check_data_keys,
            )
            for message in check(alias)
        ),
    ]


def _check_lease(settings: Settings) -> Iterator[CheckMessage]:
    # A lease covers the wait for a permit and the request. Twice TIMEOUT leaves time for slow writes to the database.
    minimum = 2 * settings.timeout + MAX_PERMIT_WAIT
    if settings.lease < minimum:
        yield Error(
            f"{SETTING}['LEASE'] is {settings.lease:g} s, but one request can take TIMEOUT = "
            f"{settings.timeout:g} s after a wait of up to {MAX_PERMIT_WAIT:g} s for its permit.",
            hint=f"Set LEASE to at least 2 × TIMEOUT + {MAX_PERMIT_WAIT:g} s, {minimum:g} s.",
            id="evermuse_outbox.E002",
        )


def _check_databases(settings: Settings) -> Iterator[CheckMessage]:
    from django.conf import settings as project

    for alias in settings.databases:
        if alias not in project.DATABASES:
            yield Error(
                f"{SETTING}['DATABASES'] names {alias!r}, which is not in DATABASES.",
                hint=f"Known: {', '.join(project.DATABASES)}.",
                id="evermuse_outbox.E003",
            )
        elif _locks_late(project.DATABASES[alias]):
            yield Warning(
                f"The SQLite database {alias!r} locks itself only at the first write of a transaction, so workers "
                "fail with 'database is locked'.",
                hint='Set OPTIONS = {"transaction_mode": "IMMEDIATE", "timeout": 30} on it.',
                id="evermuse_outbox.W003",
            )


def _check_renew_url(settings: Settings) -> Iterator[CheckMessage]:
    if not settings.renew_url:
        return
    from ..delivery.sending import load_renew_url  # late, because it loads the HTTP client

    try:
        load_renew_url(settings.renew_url)
    except ImproperlyConfigured as error:
        yield Error(
            f"{error} Until it can be called, batches with attachments are not sent.",
            hint='Use the dotted path of a function, for instance "shop.storage.renew_url".',
            id="evermuse_outbox.E004",
        )


def _locks_late(database: dict[str, Any]) -> bool:
    """Return whether a database is SQLite in the transaction mode DEFERRED, its default."""
    mode = str((database.get("OPTIONS") or {}).get("transaction_mode") or "")
    return database.get("ENGINE", "").endswith("sqlite3") and mode.upper() not in ("IMMEDIATE", "EXCLUSIVE")


def _check_visibility_timeout(settings: Settings) -> Iterator[CheckMessage]:
    from django.conf import settings as project

    timeout = (getattr(project, "CELERY_BROKER_TRANSPORT_OPTIONS", None) or {}).get("visibility_timeout")
    if timeout is not None and timeout <= settings.lease:
        yield Warning(
            f"The broker's visibility_timeout ({timeout:g} s) is not above LEASE ({settings.lease:g} s), so the "
            "broker could deliver the message of a running task a second time.",
            hint="Raise visibility_timeout in CELERY_BROKER_TRANSPORT_OPTIONS, or lower LEASE.",
            id="evermuse_outbox.W006",
        )


def _check_task_time_limit(settings: Settings) -> Iterator[CheckMessage]:
    from django.conf import settings as project

    limit = getattr(project, "CELERY_TASK_SOFT_TIME_LIMIT", None)
    if limit is not None and limit >= settings.lease:
        yield Warning(
            f"CELERY_TASK_SOFT_TIME_LIMIT ({limit:g} s) is not below LEASE ({settings.lease:g} s), so a task "
            "could run longer than its lease.",
            hint=f"Raise {SETTING}['LEASE'] or lower the time limit.",
            id="evermuse_outbox.W005",
        )


def _check_payload_retention(settings: Settings) -> Iterator[CheckMessage]:
    days, kept = settings.payload_retention_days, settings.retention_days.delivered
    if days is not None and days >= kept:
        yield Warning(
            f"PAYLOAD_RETENTION_DAYS ({days:g}) is not below the days for which delivered records are kept ({kept:g}), "
            "so it has no effect.",
            hint="Lower PAYLOAD_RETENTION_DAYS, or raise RETENTION_DAYS.",
            id="evermuse_outbox.W009",
        )


def _check_tables(using: str) -> Iterator[CheckMessage]:
    from ..models.columns import hidden_tables

    if hidden := hidden_tables(using, _table_names()):
        yield Warning(
            f"The connection {using!r} does not see the tables {', '.join(hidden)}. Nothing is delivered from it.",
            hint=f"Run: manage.py migrate evermuse_outbox --database {using}. If the tables exist, they are in another "
            "schema or database: correct search_path in OPTIONS, or NAME.",
            id="evermuse_outbox.W022",
        )


def _check_characters(using: str) -> Iterator[CheckMessage]:
    from ..models.columns import find_wrong_tables, wrong_encoding

    if encoding := wrong_encoding(using):
        yield Warning(
            f"The connection {using!r} has the encoding {encoding}, which lacks characters of Unicode.",
            hint='On MySQL and MariaDB, set OPTIONS = {"charset": "utf8mb4"}. On PostgreSQL, create the database with '
            "ENCODING 'UTF8'.",
            id="evermuse_outbox.W020",
        )
    for table in find_wrong_tables(using, _table_names()):
        yield Warning(
            f"The table {table.name!r} of the database {using!r} has the character set {table.character_set} in "
            f"{', '.join(table.columns)}. It lacks characters of Unicode, such as emoji: the database rejects records "
            "with them, or alters them if it is not strict.",
            hint=f"Run: {table.remedy}",
            id="evermuse_outbox.W020",
        )


def _check_sql_mode(using: str) -> Iterator[CheckMessage]:
    from ..models.columns import is_lenient

    if is_lenient(using):
        yield Warning(
            f"The SQL mode of the connection {using!r} is not strict: the database alters values that do not fit, "
            "without an error. A record that it has altered is rejected and not sent.",
            hint='Set OPTIONS = {"init_command": "SET sql_mode = \'STRICT_TRANS_TABLES\'"} on the connection.',
            id="evermuse_outbox.W021",
        )


def _table_names() -> list[str]:
    from django.apps import apps

    models = apps.get_app_config("evermuse_outbox").get_models()
    return sorted(model._meta.db_table for model in models if model._meta.managed and not model._meta.proxy)


def _check_scheduler_time_zone() -> Iterator[CheckMessage]:
    from django.conf import settings as project

    scheduler = str(getattr(project, "CELERY_BEAT_SCHEDULER", None) or "")
    # It stores local times and reads them as UTC. So a task has run "in the future", for as long as the zone is ahead.
    if scheduler.startswith("django_celery_beat.") and not project.USE_TZ and _is_ahead_of_utc():
        yield Warning(
            f"USE_TZ is False and TIME_ZONE is {project.TIME_ZONE!r}. After each start, the scheduler of "
            "django-celery-beat sends no tick for hours, because this zone is ahead of UTC.",
            hint="Set USE_TZ = True, or use another scheduler, such as Celery's own.",
            id="evermuse_outbox.W015",
        )


def _is_ahead_of_utc() -> bool:
    """Return whether local time is ahead of UTC in winter or in summer."""
    from django.utils import timezone

    zone = timezone.get_default_timezone()
    offsets = (datetime(2026, month, 1, tzinfo=zone).utcoffset() for month in (1, 7))
    return any(offset > timedelta(0) for offset in offsets if offset)


def _check_scheduler_version() -> Iterator[CheckMessage]:
    from django.apps import apps

    if not apps.is_installed("django_celery_beat"):
        return
    installed = version("django-celery-beat")
    if tuple(int(part) for part in re.findall(r"\d+", installed)[:2]) < OLDEST_DATABASE_SCHEDULER:
        yield Warning(
            f"django-celery-beat {installed} is installed. pip chooses such an old release if no later one supports "
            "the installed Django.",
            hint="Run: pip install 'django-celery-beat>=2.8.1,<3'. If that fails, use Celery's beat.",
            id="evermuse_outbox.W030",
        )


def _check_autovacuum(using: str) -> Iterator[CheckMessage]:
    # Imported here, because upkeep loads the HTTP client and every start of the host imports this module.
    from ..upkeep import alter_table, is_autovacuum_off, read_table_options

    tables = read_table_options(using)
    if tables and is_autovacuum_off(using):
        yield _storage_warning(
            f"autovacuum is off on the server of the database {using!r}. The space of purged records is not used "
            "again, and the planner has no statistics of the tables.",
            "ALTER SYSTEM SET autovacuum = on; SELECT pg_reload_conf();",
        )
    for table in tables:
        if table.is_autovacuum_disabled:
            yield _storage_warning(
                f"autovacuum is off for the table {table.table!r} of the database {using!r}.",
                f'ALTER TABLE "{table.table}" RESET (autovacuum_enabled);',
            )
        if table.missing:
            yield _storage_warning(
                f"The table {table.table!r} of the database {using!r} lacks {', '.join(table.missing)}. "
                "Autovacuum would run too rarely for so many inserted and deleted rows.",
                alter_table(table.table, table.missing),
            )


def _check_indexes(using: str) -> Iterator[CheckMessage]:
    from ..indexing import unbuilt_indexes

    if names := [index.name for index in unbuilt_indexes(using)]:
        yield Warning(
            f"The database {using!r} lacks indexes of the outbox: {', '.join(names)}.",
            hint=f"Run: manage.py outbox_indexes --database {using}. Records are enqueued and sent meanwhile.",
            id="evermuse_outbox.W041",
        )


def _storage_warning(message: str, statement: str) -> CheckMessage:
    return Warning(message, hint=f"Run: {statement}", id="evermuse_outbox.W007")
