"""A local Evermuse for tests: a sandbox whose clock can be moved, and settings that point to it."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings as project
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from ..conf import DEFAULT_WORKSPACE, SETTING, get_settings, get_static_settings
from ..evermuse import is_loopback
from ..sandbox import DEFAULT_KEY, ApiKey, Sandbox, create_monotonic_clock

__unittest = True  # unittest leaves the frames of this module out of a failure


class LocalEvermuse(Sandbox):
    """A sandbox on a free port of this machine whose clock :func:`deliver` moves, so that no test waits.

    Its rate limit is never reached, and a batch is complete at once. The arguments are those of
    :class:`~evermuse_outbox.sandbox.Sandbox`, with other defaults.
    """

    def __init__(self, **options: Any) -> None:
        self.ahead = 0.0
        defaults: dict[str, Any] = {"rate_limit": 100_000, "batch_seconds": 0, "clock": self._now}
        super().__init__(**defaults | options)
        _instances.add(self)

    def advance(self, seconds: float) -> None:
        """Move the sandbox's clock forward. The faults of :meth:`fail_for` and the states of batches follow it."""
        self.ahead += seconds

    def _now(self) -> float:
        return _clock() + self.ahead


_clock = create_monotonic_clock()

_instances: weakref.WeakSet[LocalEvermuse] = weakref.WeakSet()

_idle: dict[tuple[int, str], list[LocalEvermuse]] = {}
"""Process id and contract → sandboxes that listen and that no test uses now.

A start and a stop of a sandbox take 20 ms. The process id is part of the key, because threads do not survive a fork.
"""


def local_evermuse(workspace: str = DEFAULT_WORKSPACE, **options: Any) -> LocalEvermuse:
    """Return a sandbox with the contract of a workspace, without a rate limit and without a delay.

    Use it as a context manager. It needs the extra ``evermuse-outbox[sandbox]``. The settings do not change: pass the
    sandbox to :func:`deliver`. :func:`use_sandbox` changes the settings, too.

    Args:
        workspace: Name of the workspace in the settings. The sandbox applies its contract.
        options: Arguments of :class:`~evermuse_outbox.sandbox.Sandbox` that replace these defaults.

    Raises:
        ImproperlyConfigured: The settings have no such workspace.
        SandboxUnavailable: The extra is not installed.
    """
    return LocalEvermuse(**{"contract": get_settings().workspace(workspace).contract} | options)


@contextmanager
def use_sandbox(workspace: str | None = None) -> Iterator[LocalEvermuse]:
    """Start a local Evermuse, and let the settings point to it inside of the ``with`` block.

    Each workspace of the settings gets an API key of the sandbox, and its records are in
    ``sandbox.records("name of the workspace")``. The sandbox is empty at the start of the block. It needs the extra
    ``evermuse-outbox[sandbox]``.

    Args:
        workspace: Name of the workspace whose contract the sandbox applies: by default ``"default"``, or the first
            one. A workspace with another contract gets another sandbox.

    Raises:
        ImproperlyConfigured: The settings have no such workspace.
        SandboxUnavailable: The extra is not installed.
    """
    raw: Mapping[str, Any] = getattr(project, SETTING, None) or {}
    function = get_static_settings().workspace_function if "WORKSPACES" in raw else None
    if function:
        with _use_sandbox_for_function(raw, function.load(), workspace) as sandbox:
            yield sandbox
        return
    contracts = _contracts(raw)
    name = workspace or (DEFAULT_WORKSPACE if DEFAULT_WORKSPACE in contracts else next(iter(contracts)))
    if name not in contracts:
        raise ImproperlyConfigured(f"{SETTING} has no workspace {name!r}; known: {', '.join(contracts)}.")
    sandboxes = {contract: _take(contract) for contract in dict.fromkeys(contracts.values())}
    try:
        connections = {key: _connect(sandboxes[contract], key) for key, contract in contracts.items()}
        with override_settings(**{SETTING: _redirect(raw, connections)}):
            yield sandboxes[contracts[name]]
    finally:
        _give_back(sandboxes)


@contextmanager
def _use_sandbox_for_function(
    raw: Mapping[str, Any], function: Callable[[], Any], workspace: str | None
) -> Iterator[LocalEvermuse]:
    """Do the same if a function of the host returns the workspaces, which can be others at each call."""
    sandboxes: dict[str, LocalEvermuse] = {}

    def sandbox_of(name: str, contract: str) -> dict[str, Any]:
        if contract not in sandboxes:
            sandboxes[contract] = _take(contract)
        return _connect(sandboxes[contract], name)

    def redirected() -> Any:
        """Return the present workspaces of the host, with other addresses and keys."""
        named = function()
        contracts = _contracts({**raw, "WORKSPACES": named})
        return {name: _without_keys(keys) | sandbox_of(name, contracts[name]) for name, keys in named.items()}

    shared = raw.get("CONTRACT", "reference")
    top = _without_keys(raw) | {"WORKSPACES": redirected}
    try:
        if _has_key(raw):
            top |= sandbox_of(DEFAULT_WORKSPACE, shared)
        with override_settings(**{SETTING: top}):
            contract = get_settings().workspace(workspace).contract if workspace else shared
            sandbox_of(workspace or DEFAULT_WORKSPACE, contract)
            yield sandboxes[contract]
    finally:
        _give_back(sandboxes)


def _give_back(sandboxes: Mapping[str, LocalEvermuse]) -> None:
    for contract, sandbox in sandboxes.items():
        _idle.setdefault((os.getpid(), contract), []).append(sandbox)


def find_sandbox(url: str) -> LocalEvermuse | None:
    """Return the sandbox of this process with that URL, or None."""
    return next((sandbox for sandbox in _instances if sandbox.url == url), None)


def refuse_other_hosts(url: str) -> None:
    """Raise an error if ``url`` is not on this machine.

    Raises:
        AssertionError: The test would send its records to another machine.
    """
    __tracebackhide__ = True
    if not is_loopback(urlsplit(url).hostname or ""):
        raise AssertionError(_refusal(url))


def refuse_other_servers(url: str) -> None:
    """Raise an error if ``url`` is not a sandbox of this process, such as that of :func:`use_sandbox`.

    Raises:
        AssertionError: The test would send its records to another server, such as the sandbox of the developer.
    """
    __tracebackhide__ = True
    if find_sandbox(url) is None:
        raise AssertionError(_refusal(url))


def _refusal(url: str) -> str:
    parts = urlsplit(url)
    address = f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname
    return (
        f"This test would send its records to {address}, so nothing was sent. Use the fixture evermuse_sandbox or "
        f"`with use_sandbox()`: they let API_URL point to a local Evermuse of the test. `deliver(server)` sends to "
        f"another server on this machine."
    )


def _contracts(raw: Mapping[str, Any]) -> dict[str, str]:
    """Return the name of each workspace with its contract. API keys are not read: a test has none."""
    shared = raw.get("CONTRACT", "reference")
    named = {name: keys.get("CONTRACT", shared) for name, keys in raw.get("WORKSPACES", {}).items()}
    if DEFAULT_WORKSPACE in named or (named and not _has_key(raw)):
        return named
    return {DEFAULT_WORKSPACE: shared} | named


def _has_key(keys: Mapping[str, Any]) -> bool:
    return any(value for name, value in keys.items() if name.startswith("API_KEY"))


def _take(contract: str) -> LocalEvermuse:
    """Return a sandbox that listens and is empty."""
    idle = _idle.get((os.getpid(), contract))
    sandbox = idle.pop() if idle else LocalEvermuse(contract=contract)
    sandbox.ahead = 0.0
    sandbox.reset()
    sandbox.start()  # the last test may have stopped it
    return sandbox


def _connect(sandbox: LocalEvermuse, workspace: str) -> dict[str, Any]:
    """Return the settings of a workspace that sends to the sandbox."""
    key = DEFAULT_KEY if workspace == DEFAULT_WORKSPACE else f"{DEFAULT_KEY}_{workspace}"
    sandbox.set_key(key, ApiKey(workspace=workspace))
    return {"API_URL": sandbox.url, "API_KEY": key}


def _redirect(raw: Mapping[str, Any], connections: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the settings ``raw`` with another address and another API key for each workspace."""
    named = {
        name: _without_keys(keys) | connections[name] for name, keys in raw.get("WORKSPACES", {}).items()
    }
    top = _without_keys(raw) | ({"WORKSPACES": named} if named else {})
    return (
        top
        if DEFAULT_WORKSPACE in named or DEFAULT_WORKSPACE not in connections
        else top | connections["default"]
    )


def _without_keys(keys: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in keys.items() if not name.startswith("API_KEY")}
