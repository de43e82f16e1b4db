"""System checks: each one says what is wrong, where, and how to mend it.

Ids are stable, so that a host can silence one: ``evermuse_outbox.E001`` …
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Warning  # noqa: A004

from . import conf
from .evermuse import limits
from .upkeep import postgresql as storage


def check_settings(**_: Any) -> list[CheckMessage]:
    """E001 bad setting; E002 lease too short; E003 unknown database; W001 … W006 see the docs."""
    found: list[CheckMessage] = [
        Error(f"{problem.path}: {problem.message}", hint=problem.hint, id="evermuse_outbox.E001")
        for problem in conf.problems()
    ]
    if found:
        return found
    settings = conf.get_settings()
    return [*_lease(settings), *_databases(settings), *_keys(settings), *_celery_times(settings)]


def _lease(settings: conf.Settings) -> Iterator[CheckMessage]:
    least = 2 * settings.timeout + conf.PATIENCE
    if settings.lease < least:
        yield Error(
            f"EVERMUSE_OUTBOX['LEASE'] is {settings.lease:g} s, but one request may take TIMEOUT = "
            f"{settings.timeout:g} s after waiting up to {conf.PATIENCE:g} s for its slot.",
            hint=f"Set LEASE to at least twice TIMEOUT and {conf.PATIENCE:g} s, {least:g} s.",
            id="evermuse_outbox.E002",
        )


def _databases(settings: conf.Settings) -> Iterator[CheckMessage]:
    from django.conf import settings as project

    for alias in settings.databases:
        if alias not in project.DATABASES:
            yield Error(
                f"EVERMUSE_OUTBOX['DATABASES'] names {alias!r}, which is not in DATABASES.",
                hint=f"Known: {', '.join(project.DATABASES)}.",
                id="evermuse_outbox.E003",
            )
        elif _defers_write_lock(project.DATABASES[alias]):
            yield Warning(
                f"The SQLite database {alias!r} takes its write lock late, so that workers meet "
                "'database is locked'.",
                hint='Set OPTIONS = {"transaction_mode": "IMMEDIATE", "timeout": 30} on it.',
                id="evermuse_outbox.W003",
            )


def _defers_write_lock(database: dict[str, Any]) -> bool:
    mode = str((database.get("OPTIONS") or {}).get("transaction_mode") or "")
    return database.get("ENGINE", "").endswith("sqlite3") and mode.upper() not in ("IMMEDIATE", "EXCLUSIVE")


def _keys(settings: conf.Settings) -> Iterator[CheckMessage]:
    for workspace in settings.workspaces.values():
        if not workspace.api_key:
            yield Warning(
                f"The workspace {workspace.name!r} has no API_KEY: its records stay pending.",
                hint=f"Set {_path_of(workspace)}['API_KEY'] from the environment.",
                id="evermuse_outbox.W001",
            )
        if workspace.rate_limit > limits.RATE_LIMIT:
            yield Warning(
                f"The workspace {workspace.name!r} has RATE_LIMIT {workspace.rate_limit:g}; Evermuse "
                f"allows {limits.RATE_LIMIT} requests a second for a key.",
                hint="Leave RATE_LIMIT out unless Evermuse has granted more.",
                id="evermuse_outbox.W004",
            )
    used = Counter(w.api_key for w in settings.workspaces.values() if w.api_key)
    if any(count > 1 for count in used.values()):
        yield Warning(
            "Two workspaces have the same API_KEY: they share one limit and one Evermuse store, yet "
            "versions of a record are ordered only within a workspace.",
            hint="Use one workspace for one key.",
            id="evermuse_outbox.W002",
        )


def _path_of(workspace: conf.Workspace) -> str:
    named = "" if workspace.name == conf.DEFAULT_WORKSPACE else f"['WORKSPACES'][{workspace.name!r}]"
    return f"{conf.SETTING}{named}"


def _celery_times(settings: conf.Settings) -> Iterator[CheckMessage]:
    from django.conf import settings as project

    limit = getattr(project, "CELERY_TASK_SOFT_TIME_LIMIT", None)
    options = getattr(project, "CELERY_BROKER_TRANSPORT_OPTIONS", None) or {}
    visible_after = options.get("visibility_timeout")
    if visible_after is not None and visible_after <= settings.lease:
        yield Warning(
            f"The broker's visibility_timeout ({visible_after:g} s) is not above LEASE ({settings.lease:g} s): "
            "messages of tasks that still run would be delivered again.",
            hint="Raise visibility_timeout in CELERY_BROKER_TRANSPORT_OPTIONS, or lower LEASE.",
            id="evermuse_outbox.W006",
        )
    if limit is not None and limit >= settings.lease:
        yield Warning(
            f"CELERY_TASK_SOFT_TIME_LIMIT ({limit:g} s) is not below LEASE ({settings.lease:g} s): a task "
            "could outlive the lease it works under.",
            hint="Raise EVERMUSE_OUTBOX['LEASE'] or lower the time limit.",
            id="evermuse_outbox.W005",
        )


def check_storage(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """W007 PostgreSQL does not clear up behind the outbox. For ``check --database`` and ``migrate``."""
    if list(conf.problems()):
        return []
    mine = [alias for alias in conf.get_settings().databases if alias in (databases or ())]
    return [message for alias in mine for message in _storage(alias)]


def _storage(using: str) -> Iterator[CheckMessage]:
    found = storage.kept(using)
    if found and storage.is_autovacuum_off(using):
        yield _storage_warning(
            f"autovacuum is off on the server of the database {using!r}: space of purged records is never used "
            "again, and the planner knows nothing of the tables.",
            "ALTER SYSTEM SET autovacuum = on; SELECT pg_reload_conf();",
        )
    for kept in found:
        if kept.is_left_alone:
            yield _storage_warning(
                f"autovacuum is off for the table {kept.table!r} of the database {using!r}.",
                f'ALTER TABLE "{kept.table}" RESET (autovacuum_enabled);',
            )
        if kept.missing and not storage.is_still_to_be_set(using):
            yield _storage_warning(
                f"The table {kept.table!r} of the database {using!r} lacks {', '.join(kept.missing)}: it would be "
                "cleared up too seldom for so many rows that come and go.",
                storage.alter(kept.table, kept.missing),
            )


def _storage_warning(message: str, statement: str) -> CheckMessage:
    return Warning(message, hint=f"Run: {statement}", id="evermuse_outbox.W007")
