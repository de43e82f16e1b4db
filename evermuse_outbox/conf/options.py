"""The settings dict ``EVERMUSE_OUTBOX``, read late into one typed, frozen object.

Nothing is read at import: :func:`get_settings` builds the object at its first call and again after
Django's ``setting_changed`` signal, so that ``override_settings`` works in tests.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import SplitResult, urlsplit

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from .evermuse import limits
from .evermuse.body import FORMATS
from .evermuse.errors import shown
from .evermuse.records.record import CONTRACTS, NATURES

SETTING = "EVERMUSE_OUTBOX"
DEFAULT_WORKSPACE = "default"
FORMAT_HINTS = ("text", "audio", "video", "file")
PATIENCE = 5.0
"""Seconds that a leased batch waits for its slot before it is given back."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Secret:
    """A string that shows itself only when asked by name: no repr, str or traceback prints it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The string itself."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret(…)" if self._value else "Secret(empty)"

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: Any) -> Secret:
        return self

    def __reduce__(self) -> Any:
        raise TypeError("a secret is not pickled: it would lie in clear text in a cache or a queue")


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with a setting: its path, what is wrong, and how to mend it."""

    path: str
    message: str
    hint: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message} {self.hint}"


# --- readers: one value in, the typed value out, ValueError with (message, hint) otherwise ----------


def _refuse(message: str, hint: str) -> ValueError:
    return ValueError(message, hint)


def _parts_of(value: Any) -> SplitResult | None:
    """The URL in parts; None where it is none."""
    try:
        parts = urlsplit(value) if isinstance(value, str) else None
        return parts if parts and (parts.port is None or parts.port) else None
    except ValueError:
        return None


def _url(value: Any) -> str:
    parts = _parts_of(value)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        # Never quote the value: a key may have been put here by mistake.
        raise _refuse("not an http(s) URL.", 'Use for instance "https://api.evermuse.com".')
    if parts.username or parts.password or parts.query or parts.fragment:
        raise _refuse("the URL carries more than scheme, host and path.", "Put the key into API_KEY alone.")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise _refuse("plain http would carry the API key in clear text.", "Use https.")
    return str(value).rstrip("/")


def _redis_url(value: Any) -> str | None:
    if value in (None, ""):
        return None
    parts = _parts_of(value)
    if parts is None or parts.scheme not in ("redis", "rediss", "unix"):
        raise _refuse("not a Redis URL.", 'Use for instance "redis://127.0.0.1:6379/0", or leave it out.')
    return str(value)


def _secret(value: Any) -> Secret:
    if isinstance(value, Secret):
        return value
    if value is None:
        return Secret("")
    if not isinstance(value, str):
        raise _refuse(f"a string is wanted, not {type(value).__name__}.", "Read it from the environment.")
    if value != value.strip() or not value.isascii() or not value.isprintable():
        # Never quote the value here: this text reaches consoles and logs.
        raise _refuse("the key holds characters that no HTTP header may carry.", "Look for a stray line end.")
    return Secret(value)


@dataclass(frozen=True, slots=True)
class _Choice:
    """Read a string that must be one of the allowed ones."""

    names: tuple[str, ...]

    def __call__(self, value: Any) -> str:
        if value not in self.names:
            raise _refuse(
                f"{shown(value)} is not one of {', '.join(self.names)}.", _did_you_mean(value, self.names)
            )
        return str(value)

    @property
    def allowed(self) -> str:
        """Return the allowed values in words, for messages and for the documentation."""
        return ", ".join(f'"{name}"' for name in self.names)


@dataclass(frozen=True, slots=True)
class _Number:
    """Read a number between two bounds, both included."""

    low: float
    high: float
    unit: str
    is_integer: bool = False

    def __call__(self, value: Any) -> Any:
        types = int if self.is_integer else (int, float)
        if isinstance(value, bool) or not isinstance(value, types) or not self.low <= value <= self.high:
            raise _refuse(f"{shown(value)} is not {self.allowed}.", "Mend the value.")
        return value

    @property
    def allowed(self) -> str:
        """Return the allowed values in words, for messages and for the documentation."""
        kind = "a whole number" if self.is_integer else "a number"
        return f"{kind} of {self.unit} from {self.low:g} to {self.high:g}"


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _refuse(f"{shown(value)} is not True or False.", "Use True or False.")
    return value


def _aliases(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not value or not all(isinstance(alias, str) for alias in value):
        raise _refuse(f"{shown(value)} is not a list of database aliases.", 'Use for instance ["default"].')
    return tuple(dict.fromkeys(value))


def _hints(value: Any) -> Mapping[str, str]:
    if not isinstance(value, Mapping):
        raise _refuse("a dict of _type → hint is wanted.", 'Use for instance {"call": "audio"}.')
    for hint in value.values():
        _Choice(FORMAT_HINTS)(hint)
    return {str(name).lower(): str(hint) for name, hint in value.items()}


def _queue(value: Any) -> str | None:
    if value is not None and (not isinstance(value, str) or not value):
        raise _refuse(f"{shown(value)} is not a queue name.", "Leave it out for Celery's default queue.")
    return value


@dataclass(frozen=True, slots=True)
class Option:
    """One key of the dict: how it is read, its default, and its description in the documentation."""

    read: Callable[[Any], Any]
    default: Any
    description: str

    @property
    def allowed(self) -> str:
        """Return the allowed values in words; empty where the description names them."""
        return getattr(self.read, "allowed", "")


WORKSPACE_OPTIONS = {
    "API_URL": Option(
        _url, "https://api.evermuse.com", "Base URL of the API: https, or http on a loopback address."
    ),
    "API_KEY": Option(
        _secret,
        None,
        "The API key, `em_sk_…`, with `api:write` to send and `api:read` to poll. Read it from the environment.",
    ),
    "CONTRACT": Option(
        _Choice(CONTRACTS), "reference", "The published contract that Evermuse applies to this API key."
    ),
    "RATE_LIMIT": Option(
        _Number(0.01, 100_000, "requests a second"),
        limits.RATE_LIMIT,
        "Requests in any sliding second for each API key, reads included.",
    ),
}
OPTIONS = WORKSPACE_OPTIONS | {
    "DATABASES": Option(
        _aliases,
        ("default",),
        "Database aliases in which workers look for records. Enqueueing elsewhere fails.",
    ),
    "REDIS_URL": Option(
        _redis_url,
        None,
        "Redis that stores the rate limit of each API key for all hosts. Without it, a database row stores it.",
    ),
    "MAX_BATCH_RECORDS": Option(
        _Number(1, limits.MAX_BATCH_RECORDS, "records", is_integer=True),
        limits.MAX_BATCH_RECORDS,
        "Records in one request.",
    ),
    "MAX_BATCH_BYTES": Option(
        _Number(1_000, limits.MAX_BODY_BYTES, "bytes", is_integer=True),
        limits.MAX_BODY_BYTES,
        "Bytes in the body of one request.",
    ),
    "MAX_BATCH_ATTACHMENTS": Option(
        _Number(1, limits.MAX_BATCH_ATTACHMENTS, "attachments", is_integer=True),
        limits.MAX_BATCH_ATTACHMENTS,
        "Attachments in one request.",
    ),
    "BODY_FORMAT": Option(
        _Choice(tuple(FORMATS)), "ndjson", 'Form of the request body. `"wrapper"` sends `{"records": […]}`.'
    ),
    "FORMAT_HINTS": Option(
        _hints,
        {},
        "Dict from `_type` to the `format` hint of its requests: `text`, `audio`, `video` or `file`.",
    ),
    "DEFAULT_NATURE": Option(
        _Choice(NATURES),
        "evidence",
        'The `_nature` of records without one, where `CONTRACT` changes to `"openapi"` before they are sealed.',
    ),
    "LINGER": Option(
        _Number(0, 3_600, "seconds"),
        0.2,
        "Time that a record waits for others of its group before it is sealed.",
    ),
    "MAX_WAIT": Option(
        _Number(1, 86_400, "seconds"),
        30.0,
        "Longest time that a record waits while groups with full requests go first, as far as the rate limit allows.",
    ),
    "TIMEOUT": Option(_Number(0.1, 600, "seconds"), 30.0, "Deadline of one whole HTTP request."),
    "LEASE": Option(
        _Number(1, 86_400, "seconds"),
        120.0,
        "Time after which a worker that holds a batch counts as dead. At least 2 × `TIMEOUT` + 5.",
    ),
    "BACKOFF_BASE": Option(
        _Number(0.001, 3_600, "seconds"), 1.0, "First ceiling of the exponential backoff with full jitter."
    ),
    "BACKOFF_CAP": Option(
        _Number(0.001, 86_400, "seconds"), 300.0, "Highest ceiling of the exponential backoff."
    ),
    "MAX_RESENDS": Option(
        _Number(0, 100, "resends", is_integer=True),
        5,
        "How often records are sent again under a new key after Evermuse reported FAILED. Then they are rejected.",
    ),
    "IDEMPOTENCY_KEY_TTL": Option(
        _Number(0, 31_536_000, "seconds"),
        86_400.0,
        "Time for which Evermuse surely remembers an idempotency key. A batch that is in doubt for longer is looked "
        "for in the listing before it is sent again.",
    ),
    "POLL_INTERVAL": Option(
        _Number(0.05, 3_600, "seconds"),
        1.0,
        "Time until an accepted batch is polled for the first time. Later polls are rarer.",
    ),
    "RETENTION_DAYS": Option(
        _Number(1 / 24, 36_500, "days"),
        14,
        "Time for which delivered records stay. Rejected ones stay until they are retried or discarded.",
    ),
    "SENDERS": Option(
        _Number(1, 1_000, "threads", is_integer=True),
        16,
        "Most threads with which one relay sends. Answers that take L seconds need a little more than 10 × L.",
    ),
    "WAKE_ON_COMMIT": Option(
        _flag, True, "Wake the Celery workers on commit. Use `False` where only `outbox_relay` runs."
    ),
    "CELERY_QUEUE": Option(
        _queue,
        None,
        "Celery queue of the wake-up messages. Give the same name to `beat_schedule(queue=…)`.",
    ),
}


@dataclass(frozen=True, slots=True)
class Workspace:
    """One API key with its own address, contract and limit.

    ``rate_limit`` is in requests per any sliding second.
    """

    name: str
    api_url: str
    api_key: Secret
    contract: str
    rate_limit: float


@dataclass(frozen=True, slots=True)
class Settings:
    """``EVERMUSE_OUTBOX``, typed. Times are in seconds, sizes in bytes; see the README's table."""

    workspaces: Mapping[str, Workspace]
    databases: tuple[str, ...]
    redis_url: str | None
    max_batch_records: int
    max_batch_bytes: int
    max_batch_attachments: int
    body_format: str
    format_hints: Mapping[str, str]
    default_nature: str
    linger: float
    max_wait: float
    timeout: float
    lease: float
    backoff_base: float
    backoff_cap: float
    max_resends: int
    idempotency_key_ttl: float
    poll_interval: float
    retention_days: float
    senders: int
    wake_on_commit: bool
    celery_queue: str | None

    def workspace(self, name: str) -> Workspace:
        """The workspace of that name; raises ``ImproperlyConfigured`` with the known names."""
        try:
            return self.workspaces[name]
        except KeyError:
            known = ", ".join(sorted(self.workspaces))
            raise ImproperlyConfigured(
                f"No workspace {name!r} in {SETTING}; known: {known}. Add it to WORKSPACES."
            ) from None


@functools.cache
def get_settings() -> Settings:
    """The settings of this project; raises ``ImproperlyConfigured`` naming every bad key."""
    found = list(problems())
    if found:
        raise ImproperlyConfigured(f"{SETTING} is not right. " + " ".join(map(str, found)))
    raw = _raw()  # only now, so that no error report shows it as a local variable
    values = {name: option.read(raw.get(name, option.default)) for name, option in OPTIONS.items()}
    named = {field.name for field in fields(Settings)}
    typed = {name.lower(): value for name, value in values.items() if name.lower() in named}
    return Settings(workspaces=_workspaces(raw), **typed)


def problems(raw: Any = None) -> Iterator[Problem]:
    """Everything wrong with the dict, all at once; nothing when it is right."""
    raw = _raw() if raw is None else raw
    if not isinstance(raw, Mapping):
        yield Problem(SETTING, "a dict is wanted.", 'Write EVERMUSE_OUTBOX = {"API_KEY": …}.')
        return
    yield from _problems_of(raw, OPTIONS, SETTING, extra=("WORKSPACES",))
    named = raw.get("WORKSPACES", {})
    if not isinstance(named, Mapping):
        yield Problem(f"{SETTING}['WORKSPACES']", "a dict of name → settings is wanted.", "See the README.")
        return
    for name, own in named.items():
        yield from _problems_of_workspace(name, own)


def _problems_of_workspace(name: Any, own: Any) -> Iterator[Problem]:
    path = f"{SETTING}['WORKSPACES'][{name!r}]"
    if not isinstance(name, str) or not 0 < len(name) <= 64:
        yield Problem(path, "a name is a string of 1 to 64 characters.", "Rename the workspace.")
    if not isinstance(own, Mapping):
        yield Problem(path, "a dict is wanted.", 'Write {"API_KEY": …}.')
        return
    yield from _problems_of(own, WORKSPACE_OPTIONS, path)


def _problems_of(
    raw: Mapping[str, Any], options: Mapping[str, Option], path: str, extra: tuple[str, ...] = ()
) -> Iterator[Problem]:
    for name, value in raw.items():
        if name in options:
            yield from _problem_of(options[name], value, f"{path}[{name!r}]")
        elif name not in extra:
            known = (*options, *extra)
            yield Problem(f"{path}[{name!r}]", "there is no such setting.", _did_you_mean(name, known))


def _problem_of(option: Option, value: Any, path: str) -> Iterator[Problem]:
    try:
        option.read(value)
    except ValueError as error:
        message, hint = error.args
        yield Problem(path, message, hint)


def _did_you_mean(value: Any, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(str(value).upper(), [name.upper() for name in known], n=1)
    if close:
        match = next(name for name in known if name.upper() == close[0])
        return f"Did you mean {match!r}?"
    return f"Known: {', '.join(known)}."


def _workspaces(raw: Mapping[str, Any]) -> Mapping[str, Workspace]:
    """The default workspace from the top level, the named ones with the top level as their defaults.

    Address, contract and limit are inherited; the key never is: one that a workspace does not name is no
    key of that workspace.
    """
    shared = {name: raw[name] for name in ("API_URL", "CONTRACT", "RATE_LIMIT") if name in raw}
    named = {name: dict(own) for name, own in raw.get("WORKSPACES", {}).items()}
    if DEFAULT_WORKSPACE in named or raw.get("API_KEY") or not named:
        own = {"API_KEY": raw.get("API_KEY")} | named.pop(DEFAULT_WORKSPACE, {})
        named = {DEFAULT_WORKSPACE: own} | named
    return {name: _workspace(name, shared | own) for name, own in named.items()}


def _workspace(name: str, own: Mapping[str, Any]) -> Workspace:
    read = {key: option.read(own.get(key, option.default)) for key, option in WORKSPACE_OPTIONS.items()}
    return Workspace(
        name=name,
        api_url=read["API_URL"],
        api_key=read["API_KEY"],
        contract=read["CONTRACT"],
        rate_limit=float(read["RATE_LIMIT"]),
    )


def _raw() -> Any:
    from django.conf import settings

    return getattr(settings, SETTING, {})


def _forget(*, setting: str, **_: Any) -> None:
    if setting == SETTING:
        get_settings.cache_clear()


setting_changed.connect(_forget, dispatch_uid="evermuse_outbox.conf")
