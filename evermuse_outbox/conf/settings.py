"""The typed settings, built at the first call and again after ``override_settings``."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from ..evermuse import Proxy
from ..foreign_text import hide_values, safe_repr
from .options import OPTIONS, SETTING, WORKSPACE_OPTIONS, raw_settings
from .problems import find_problems
from .retention import Retention
from .secret import Secret

DEFAULT_WORKSPACE = "default"
"""The workspace of records that are enqueued without ``workspace=``."""

MAX_PERMIT_WAIT = 5.0
"""Maximum seconds for which a sender with a leased batch waits for permission to send. Then it gives the batch back.

It is not a setting, because hosts need not change it. The check of ``LEASE`` adds it to twice the ``TIMEOUT``.
"""


@dataclass(frozen=True, slots=True)
class Workspace:
    """One API key with its base URL, its proxy, its contract and its rate limit.

    ``proxy`` is False for none, and None if the environment variables decide. ``rate_limit`` is the number of requests
    in any sliding second.
    """

    name: str
    api_url: str
    api_key: Secret
    proxy: Proxy | Literal[False] | None
    contract: str
    rate_limit: float


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
    search_index: bool
    senders: int
    hide_values: bool
    wake_on_commit: bool
    celery_queue: str | None

    def workspace(self, name: str) -> Workspace:
        """Return the workspace with that name.

        Raises:
            ImproperlyConfigured: The settings have no such workspace. The message lists the known names.
        """
        try:
            return self.workspaces[name]
        except (KeyError, TypeError):  # TypeError: not hashable
            known = ", ".join(sorted(self.workspaces))
            raise ImproperlyConfigured(
                f"No workspace {safe_repr(name)} in {SETTING}; known: {known}. Add it to WORKSPACES."
            ) from None


@functools.cache
def get_settings() -> Settings:
    """Return the settings of the project.

    Raises:
        ImproperlyConfigured: The settings are not valid. The message names every wrong key.
    """
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
    return Settings(workspaces=_read_workspaces(raw), **values)


def _read_workspaces(raw: Mapping[str, Any]) -> Mapping[str, Workspace]:
    """Return the default workspace from the top level of the dict, and the workspaces in ``WORKSPACES``.

    There is no default workspace if other workspaces exist and neither the top level nor ``WORKSPACES`` defines it.
    A named workspace inherits URL, proxy, contract and rate limit from the top level. It never inherits the API key. If
    the key were forgotten, its records would go to the wrong workspace of Evermuse without notice.
    """
    shared = {name: raw[name] for name in ("API_URL", "PROXY", "CONTRACT", "RATE_LIMIT") if name in raw}
    workspaces = {name: dict(keys) for name, keys in raw.get("WORKSPACES", {}).items()}
    if DEFAULT_WORKSPACE in workspaces or raw.get("API_KEY") or not workspaces:
        default = {"API_KEY": raw.get("API_KEY")} | workspaces.pop(DEFAULT_WORKSPACE, {})
        workspaces = {DEFAULT_WORKSPACE: default} | workspaces
    return {name: _read_workspace(name, shared | keys) for name, keys in workspaces.items()}


def _read_workspace(name: str, keys: Mapping[str, Any]) -> Workspace:
    values = {key: option.read(keys.get(key, option.default)) for key, option in WORKSPACE_OPTIONS.items()}
    return Workspace(
        name=name,
        api_url=values["API_URL"],
        api_key=values["API_KEY"],
        proxy=values["PROXY"],
        contract=values["CONTRACT"],
        rate_limit=float(values["RATE_LIMIT"]),
    )


def _clear_cache(*, setting: str, **_: Any) -> None:
    if setting == SETTING:
        get_settings.cache_clear()


setting_changed.connect(_clear_cache, dispatch_uid="evermuse_outbox.conf")
