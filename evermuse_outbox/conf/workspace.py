"""One workspace: its API keys with their address, its contract and its rate limit."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ..evermuse import Proxy
from .keys import KeyFile, KeyFunction, KeySource, KeyUnavailable
from .options import WORKSPACE_OPTIONS
from .problems import KEY_OPTIONS, has_key
from .readers import FairShares, NewestFirst, Secret
from .targets import Refusal, find_refusal

DEFAULT_WORKSPACE = "default"
"""The workspace of records that are enqueued without ``workspace=``."""

INHERITED = (
    "API_URL",
    "PROXY",
    "CONTRACT",
    "RATE_LIMIT",
    "FAIR_SHARES",
    "NEWEST_FIRST",
    "PRESSURE_THRESHOLD",
    "REJECT_ABOVE",
)


@dataclass(frozen=True, slots=True)
class Workspace:
    """The API keys of one workspace of Evermuse, with base URL, proxy, contract and the rate limit of each key.

    Nearly always, there is one key. If there are several, :meth:`with_keys` gives one such object for each of them.

    Attributes:
        api_key: the key; empty if there is none, or if it has to be read from ``key_source``.
        proxy: False for none, None if the environment variables decide.
        rate_limit: the number of requests in any sliding second.
        key_source: the file or the function from which :meth:`with_key` reads the key.
        is_url_set: whether the project has set the URL. If not, it is that of production.
        fair_shares: the label whose values share the requests of a group; None if there is none.
        newest_first: when the newest records of a group go first; None if never.
        pressure_threshold: seconds of the probable wait from which a signal is sent; None if never.
        reject_above: seconds of the probable wait from which a record is refused; None if never.
        problem: why nothing may be sent, and what to do; empty if something may. :meth:`with_key` sets it.
        further_keys: the other keys of the same workspace of Evermuse, or the places from which they are read.
    """

    name: str
    api_url: str
    api_key: Secret
    proxy: Proxy | Literal[False] | None
    contract: str
    rate_limit: float
    key_source: KeySource | None = None
    is_url_set: bool = True
    fair_shares: FairShares | None = None
    newest_first: NewestFirst | None = None
    pressure_threshold: float | None = None
    reject_above: float | None = None
    problem: str = ""
    further_keys: tuple[Secret | KeySource, ...] = ()

    @property
    def total_rate(self) -> float:
        """Requests per second that all keys of the workspace allow together."""
        return self.rate_limit * (1 + len(self.further_keys))

    @property
    def has_key(self) -> bool:
        """Whether the settings have a key or name a place to read it from."""
        return bool(self.api_key) or self.key_source is not None

    def with_keys(self) -> tuple[Workspace, ...]:
        """Return this workspace once with each of its keys, as :meth:`with_key` does; equal keys count once.

        The first has the key of the settings that is named first, if it can be used.
        """
        workspaces = list(self.with_named_keys().values())
        usable = {each.api_key: each for each in reversed(workspaces) if not each.problem}
        return tuple(reversed(usable.values())) or (workspaces[0],)

    def with_named_keys(self) -> dict[str, Workspace]:
        """Return this workspace with each of its keys, by the place of the key, such as ``API_KEYS[0]``."""
        workspaces = {"API_KEY": self.with_key()}
        for number, key in enumerate(self.further_keys):
            secret, source = (key, None) if isinstance(key, Secret) else (Secret(""), key)
            keyed = replace(self, api_key=secret, key_source=source).with_key()
            workspaces[f"API_KEYS[{number}]"] = keyed
        return workspaces

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


def merge_entries(
    raw: Mapping[str, Any], named: Mapping[str, Mapping[str, Any]], *, needs_default: bool = False
) -> dict[str, dict[str, Any]]:
    """Return the settings of the default workspace, from the top level of the dict, and of the ``named`` ones.

    There is no default workspace if neither the top level nor ``named`` defines it, unless ``needs_default``.
    A named workspace inherits all settings from the top level but the API key. If the key were forgotten and
    inherited, its records would go to the wrong workspace of Evermuse without notice.
    """
    shared = {name: raw[name] for name in INHERITED if name in raw}
    entries = {name: shared | dict(keys) for name, keys in named.items()}
    if DEFAULT_WORKSPACE in entries or has_key(raw) or needs_default:
        top = {name: raw[name] for name in KEY_OPTIONS if name in raw}
        entries = {DEFAULT_WORKSPACE: shared | top} | entries
        entries[DEFAULT_WORKSPACE] = top | entries[DEFAULT_WORKSPACE]
    return entries


def read_workspace(name: str, keys: Mapping[str, Any], former: Workspace | None = None) -> Workspace:
    """Return a workspace from a valid dict of its settings.

    Args:
        name: The name of the workspace.
        keys: Its settings, with those that it inherits.
        former: The workspace with this name until now. If its key comes from a function, too, and for the same address,
            its last key remains in use until the next call is due.
    """
    values: dict[str, Any] = {
        key: option.read(keys.get(key, option.default)) for key, option in WORKSPACE_OPTIONS.items()
    }
    is_same_place = former is not None and former.api_url == values["API_URL"]
    first = Path(values["API_KEY_FILE"]) if values["API_KEY_FILE"] else values["API_KEY"]
    keys_in_order = [key for key in (first, *values["API_KEYS"]) if key] or [first]
    known = (former.key_source, *former.further_keys) if former and is_same_place else ()
    key, *further = (
        _read_key(key, known[i] if i < len(known) else None) for i, key in enumerate(keys_in_order)
    )
    return Workspace(
        name=name,
        api_url=values["API_URL"],
        api_key=key if isinstance(key, Secret) else Secret(""),
        proxy=values["PROXY"],
        contract=values["CONTRACT"],
        rate_limit=float(values["RATE_LIMIT"]),
        key_source=None if isinstance(key, Secret) else key,
        is_url_set="API_URL" in keys,
        fair_shares=values["FAIR_SHARES"],
        newest_first=values["NEWEST_FIRST"],
        pressure_threshold=values["PRESSURE_THRESHOLD"],
        reject_above=values["REJECT_ABOVE"],
        further_keys=tuple(further),
    )


def _read_key(key: Any, former: Secret | KeySource | None) -> Secret | KeySource:
    if isinstance(key, Path):
        return KeyFile(str(key))
    if isinstance(key, Secret):
        return key
    return former.with_function(key) if isinstance(former, KeyFunction) else KeyFunction(key)
