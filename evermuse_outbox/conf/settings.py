"""The typed settings, built at the first call and again after ``override_settings``."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from ..foreign_text import hide_values, safe_repr
from .options import OPTIONS, SETTING, raw_settings
from .problems import Problem, find_problems, is_function
from .readers import MasterKeys, Retention, Secret
from .workspace import Workspace, merge_entries, read_workspace
from .workspace_function import Reading, WorkspaceFunction

MAX_PERMIT_WAIT = 5.0
"""Maximum seconds for which a sender with a leased batch waits for permission to send. Then it gives the batch back.

It is not a setting, because hosts need not change it. The check of ``LEASE`` adds it to twice the ``TIMEOUT``.
"""


class UnknownWorkspace(ImproperlyConfigured):
    """The settings have no workspace with this name. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The values of ``EVERMUSE_OUTBOX``; :data:`~.options.OPTIONS` describes each with its unit.

    Times are in seconds, except those in days. Sizes are in bytes.
    """

    workspaces: Mapping[str, Workspace]
    databases: tuple[str, ...]
    redis_url: Secret | None
    epoch_directory: str | None
    listing_is_exclusive: bool
    max_batch_records: int
    max_batch_bytes: int
    max_batch_attachments: int
    body_format: str
    format_hints: Mapping[str, str]
    fixes: Mapping[str, str]
    renew_url: str | None
    renewed_url_ttl: float
    default_nature: str
    linger: float
    max_wait: float
    max_lag: float
    timeout: float
    lease: float
    backoff_base: float
    backoff_cap: float
    max_resends: int
    idempotency_key_ttl: float
    poll_interval: float
    retention_days: Retention
    payload_retention_days: float | None
    encryption_keys: MasterKeys
    encryption_keys_file: str | None
    encryption_label: str | None
    search_index: bool
    metrics_label: str | None
    senders: int
    hide_values: bool
    wake_on_commit: bool
    celery_queue: str | None
    workspace_problems: Mapping[str, Problem] = field(default_factory=dict)
    """Name of a workspace → what is wrong in the dict that the function of ``WORKSPACES`` returned. The name is empty
    if the function itself failed."""
    has_read_workspaces: bool = True
    """Whether the workspaces are known. If a function returns them, this is so after its first successful call."""
    workspace_function: WorkspaceFunction | None = field(default=None, repr=False, compare=False)
    """The function of ``WORKSPACES``; None if it is a dict."""

    @property
    def encrypts(self) -> bool:
        """Whether new payloads are encrypted, and stored ones are decrypted."""
        return self.encryption_keys is not None or self.encryption_keys_file is not None

    def workspace(self, name: str) -> Workspace:
        """Return the workspace with that name. If a function returns the workspaces, one that was just added is found.

        Raises:
            UnknownWorkspace: The settings have no such workspace. It is an ``ImproperlyConfigured``.
        """
        workspace = self.workspaces.get(name) if isinstance(name, str) else None
        if workspace is None and self.workspace_function and isinstance(name, str):
            workspace = self.workspace_function.find(name)
        if workspace is None:
            raise UnknownWorkspace(self._describe_unknown(name))
        return workspace

    def _describe_unknown(self, name: Any) -> str:
        if self.workspace_function:
            problems = self.workspace_function.latest.problems
            problem = problems.get("") or (problems.get(name) if isinstance(name, str) else None)
            return (
                f"No workspace {safe_repr(name)}: the function of {SETTING}['WORKSPACES'] does not return it. "
                f"{problem or 'Let it return this name.'}"
            )
        known = ", ".join(sorted(self.workspaces))
        return f"No workspace {safe_repr(name)} in {SETTING}; known: {known}. Add it to WORKSPACES."


class _Loaded:
    """The settings with the present workspaces."""

    def __init__(self, settings: Settings) -> None:
        self._function = settings.workspace_function
        self._present: tuple[Settings, Reading | None] = (settings, None)

    def present(self) -> Settings:
        """Return the settings with the present workspaces. Equal workspaces give the same object."""
        settings, reading = self._present
        if self._function is None:
            return settings
        latest = self._function.read()
        if latest is not reading:
            settings = replace(
                settings,
                workspaces=latest.workspaces,
                workspace_problems=latest.problems,
                has_read_workspaces=latest.is_complete,
            )
            # One assignment of both: another thread may store a later reading at this moment. If this one replaces
            # it, the next call sees the difference.
            self._present = (settings, latest)
        return settings


def get_settings() -> Settings:
    """Return the settings of the project. If a function returns the workspaces, it is called when it is due.

    Raises:
        ImproperlyConfigured: The settings are not valid. The message names every wrong key.
    """
    return _load().present()


def get_static_settings() -> Settings:
    """Return the settings of the project without the workspaces of a function, which is not called."""
    return _load_static()


def reload_workspaces() -> None:
    """Call the function of ``WORKSPACES`` at the next use in this process. Without a function, do nothing."""
    if function := _load_static().workspace_function:
        function.forget()


@functools.cache
def _load() -> _Loaded:
    return _Loaded(_load_static())


@functools.cache
def _load_static() -> Settings:
    problems = list(find_problems())
    if problems:
        raise ImproperlyConfigured(f"{SETTING} is not valid. " + " ".join(map(str, problems)))
    raw = (
        raw_settings()
    )  # after the error above, because error reports show local variables and `raw` has the key
    names = {field.name.upper() for field in fields(Settings)}
    values = {
        name.lower(): option.read(raw.get(name, option.default))
        for name, option in OPTIONS.items()
        if name in names
    }
    hide_values(values["hide_values"])
    named = raw.get("WORKSPACES", {})
    if is_function(named):
        function = WorkspaceFunction(named, raw)
        return Settings(
            workspaces=function.static_workspaces(),
            workspace_function=function,
            has_read_workspaces=False,
            **values,
        )
    entries = merge_entries(raw, named, needs_default=not named)
    return Settings(workspaces={name: read_workspace(name, keys) for name, keys in entries.items()}, **values)


def _clear_cache(*, setting: str, **_: Any) -> None:
    if setting == SETTING:
        _load.cache_clear()
        _load_static.cache_clear()


setting_changed.connect(_clear_cache, dispatch_uid="evermuse_outbox.conf")
