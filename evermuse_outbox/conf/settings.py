"""The typed settings, built at the first call and again after ``override_settings``."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from ..evermuse import Proxy
from ..foreign_text import hide_values, safe_repr
from .keys import KeyFile, KeyFunction, KeySource, KeyUnavailable
from .options import OPTIONS, SETTING, WORKSPACE_OPTIONS, raw_settings
from .problems import KEY_OPTIONS, find_problems, has_key
from .retention import Retention
from .secret import Secret
from .targets import Refusal, find_refusal

DEFAULT_WORKSPACE = "default"
"""The workspace of records that are enqueued without ``workspace=``."""

MAX_PERMIT_WAIT = 5.0
"""Maximum seconds for which a sender with a leased batch waits for permission to send. Then it gives the batch back.

It is not a setting, because hosts need not change it. The check of ``LEASE`` adds it to twice the ``TIMEOUT``.
"""


@dataclass(frozen=True, slots=True)
class Workspace:
    """One API key with its base URL, its proxy, its contract and its rate limit.

    Attributes:
        api_key: the key; empty if there is none, or if it has to be read from ``key_source``.
        proxy: False for none, None if the environment variables decide.
        rate_limit: the number of requests in any sliding second.
        key_source: the file or the function from which :meth:`with_key` reads the key.
        is_url_set: whether the project has set the URL. If not, it is that of production.
        problem: why nothing may be sent, and what to do; empty if something may. :meth:`with_key` sets it.
    """

    name: str
    api_url: str
    api_key: Secret
    proxy: Proxy | Literal[False] | None
    contract: str
    rate_limit: float
    key_source: KeySource | None = None
    is_url_set: bool = True
    problem: str = ""

    @property
    def has_key(self) -> bool:
        """Whether the settings have a key or name a place to read it from."""
        return bool(self.api_key) or self.key_source is not None

    def with_key(self) -> Workspace:
        """Return this workspace with the key that it has now, or with the ``problem`` that prevents its use."""
        key = self.api_key
        try:
            key = self.key_source.read() if self.key_source else key
        except KeyUnavailable as error:
            return replace(self, api_key=Secret(""), problem=str(error))
        if not key:
            return replace(self, problem=f"no API_KEY is set for the workspace {self.name!r}")
        refusal = self.find_refusal(key, is_test_run=_is_test_run())
        return replace(self, api_key=key, problem=str(refusal or ""))

    def find_refusal(self, key: Secret, *, is_test_run: bool = False) -> Refusal | None:
        """Return why ``key`` must not be used at the URL of this workspace; None if it may."""
        from django.conf import settings

        return find_refusal(
            self.api_url,
            key.reveal(),
            is_url_set=self.is_url_set,
            is_debug=bool(settings.DEBUG),
            is_test_run=is_test_run,
        )

    def reveal_key(self) -> str:
        """Return the key for a request.

        Raises:
            KeyUnavailable: The key must not be used. So no request is made, whatever calls the client.
        """
        if self.problem:
            raise KeyUnavailable(self.problem)
        return self.api_key.reveal()


def _is_test_run() -> bool:
    """Return whether Django's test environment is set up, or the process is ``python -m unittest``.

    Test runners set up the environment, pytest-django included. An imported test library proves nothing: production
    code can import one.
    """
    utils = sys.modules.get("django.test.utils")
    main = getattr(sys.modules.get("__main__"), "__spec__", None)
    is_unittest = getattr(main, "name", None) == "unittest.__main__"
    return is_unittest or hasattr(getattr(utils, "_TestState", None), "saved_data")


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
    if DEFAULT_WORKSPACE in workspaces or has_key(raw) or not workspaces:
        default = {name: raw[name] for name in KEY_OPTIONS if name in raw} | workspaces.pop(
            DEFAULT_WORKSPACE, {}
        )
        workspaces = {DEFAULT_WORKSPACE: default} | workspaces
    return {name: _read_workspace(name, shared | keys) for name, keys in workspaces.items()}


def _read_workspace(name: str, keys: Mapping[str, Any]) -> Workspace:
    values: dict[str, Any] = {
        key: option.read(keys.get(key, option.default)) for key, option in WORKSPACE_OPTIONS.items()
    }
    source = _read_source(values["API_KEY"], values["API_KEY_FILE"])
    return Workspace(
        name=name,
        api_url=values["API_URL"],
        api_key=Secret("") if source else values["API_KEY"],
        proxy=values["PROXY"],
        contract=values["CONTRACT"],
        rate_limit=float(values["RATE_LIMIT"]),
        key_source=source,
        is_url_set="API_URL" in keys,
    )


def _read_source(key: Any, path: str | None) -> KeySource | None:
    if path:
        return KeyFile(path)
    return None if isinstance(key, Secret) else KeyFunction(key)


def _clear_cache(*, setting: str, **_: Any) -> None:
    if setting == SETTING:
        get_settings.cache_clear()


setting_changed.connect(_clear_cache, dispatch_uid="evermuse_outbox.conf")
