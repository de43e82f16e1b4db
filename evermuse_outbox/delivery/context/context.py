"""The delivery context: everything that one run needs to deliver for one workspace from one database."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, ParamSpec, TypeVar

from ...conf import Settings, Workspace, get_settings
from ...evermuse.api import Client
from ...foreign_text import log_ids
from ...ratelimit import Throttle, key_fingerprint
from .clock import Clock
from .epochs import EpochStore, MemoryEpochs, open_epoch_store
from .retries import retry_on_database_error
from .throttles import open_redis, open_throttle

T = TypeVar("T")
P = ParamSpec("P")


MAX_CLIENTS = 16
"""Clients that a thread keeps open, those that it used last. Each may keep a connection to the API open."""


FINGERPRINT_HEAD = 8
"""Characters of a key's fingerprint that are shown: enough to tell ten keys apart."""


class QueueKey(NamedTuple):
    """The name of a queue: a database alias and a workspace."""

    using: str
    workspace: str

    def __str__(self) -> str:
        return f"{self.using}/{self.workspace}"


@dataclass(frozen=True, slots=True)
class DeliveryContext:
    """One workspace on one database, with its settings, HTTP client, throttle, clock and epoch store.

    Use it in the thread that opened it, because the client and the connections belong to that thread.

    ``workspace``, ``client`` and ``throttle`` are those of one API key. If the workspace has several keys, ``pool`` has
    the workspace with each of them by fingerprint, and :meth:`with_key` returns a context for another key. In it,
    ``other_keys`` are the fingerprints of the other keys that can be used now.
    """

    using: str
    workspace: Workspace
    settings: Settings
    client: Client
    throttle: Throttle
    clock: Clock
    epochs: EpochStore = field(default_factory=MemoryEpochs)
    pool: Mapping[str, Workspace] = field(default_factory=dict)
    other_keys: frozenset[str] = frozenset()

    @property
    def workspace_name(self) -> str:
        """The workspace's name in the settings."""
        return self.workspace.name

    @property
    def queue_key(self) -> QueueKey:
        """The queue that this context delivers from."""
        return QueueKey(self.using, self.workspace_name)

    @property
    def key_fingerprint(self) -> str:
        """The one-way fingerprint of the API key of this context."""
        return fingerprint_of(self.workspace)

    @property
    def request_rate(self) -> float:
        """Requests per second that all keys of the workspace allow together."""
        return self.workspace.rate_limit * max(len(self.pool), 1)

    def with_key(self, fingerprint: str, *, others: frozenset[str] = frozenset()) -> DeliveryContext:
        """Return a context for another key of the pool, with the throttle of that key. The connection is shared."""
        workspace = self.pool[fingerprint]
        return replace(
            self,
            workspace=workspace,
            client=self.client.with_key(workspace.reveal_key),
            throttle=open_throttle(workspace, self.settings),
            other_keys=others,
        )

    def log_ids(self, **ids: Any) -> dict[str, Any]:
        """Return ``extra=`` of a log record: the database and the workspace, and the given ids."""
        return log_ids(database=self.using, workspace=self.workspace_name, **ids)

    def run_with_retries(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a short transaction; see ``retry_on_database_error``."""
        return retry_on_database_error(self.using, self.clock, step, *args, **kwargs)


def open_context(using: str, workspace_name: str) -> DeliveryContext:
    """Open the context of this thread for a database alias and a workspace.

    Raise ``ImproperlyConfigured`` if the settings do not name the workspace.
    """
    settings = get_settings()
    # The key is read once for a context, so that its requests count for the rate limit of the key that they carry.
    keyed = settings.workspace(workspace_name).with_keys()
    workspace = keyed[0]
    client, throttle = _thread_client(workspace, settings.timeout), open_throttle(workspace, settings)
    epochs = open_epoch_store(settings, open_redis(settings))
    # Also if only one of several keys can be read now: what concerns that key does not concern the workspace.
    has_several = bool(workspace.further_keys) and not workspace.problem
    pool = {fingerprint_of(each): each for each in keyed} if has_several else {}
    return DeliveryContext(using, workspace, settings, client, throttle, Clock.of(using), epochs, pool)


def fingerprint_of(workspace: Workspace) -> str:
    """Return the one-way fingerprint of the API key that the workspace has now."""
    return key_fingerprint(workspace.api_url, workspace.api_key.reveal())


def queue_keys() -> list[QueueKey]:
    """Return every queue of the settings: each workspace on each database."""
    settings = get_settings()
    return [QueueKey(using, name) for using in settings.databases for name in settings.workspaces]


_local = threading.local()


def _thread_client(workspace: Workspace, timeout: float) -> Client:
    """Return this thread's client of the workspace, so that its connections stay open between runs.

    After a change of the key or of the address, the former client is closed. So is the one that was used longest ago
    if there are more than ``MAX_CLIENTS``.
    """
    clients: dict[str, tuple[Any, Client]] = _local.__dict__.setdefault("clients", {})
    version = (workspace.api_url, workspace.api_key, workspace.problem, timeout, workspace.proxy)
    former, client = clients.pop(workspace.name, (None, None))
    if client is None or former != version:
        if client is not None:
            client.close()
        client = Client(workspace.api_url, workspace.reveal_key, timeout, workspace.proxy)
    clients[workspace.name] = (version, client)
    if len(clients) > MAX_CLIENTS:
        _, oldest = clients.pop(next(iter(clients)))
        oldest.close()
    return client
