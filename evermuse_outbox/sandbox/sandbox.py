"""`Sandbox`: the door of this package. It starts the server, scripts trouble, and shows what arrived."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from types import TracebackType
from typing import Any, Self

from .api import Api, Arrival
from .contract import contract_named
from .faults import Fault, FaultQueue
from .rate_limit import SlidingWindow, worst_count
from .server import Server
from .store import (
    ApiKey,
    Batch,
    Identity,
    Life,
    StoredRecord,
    Wording,
)

DEFAULT_KEY = "em_sk_sandbox"

Keys = Mapping[str, ApiKey | Collection[str]]


def steady_clock() -> Callable[[], float]:
    """A clock in seconds since the epoch that never jumps, whatever happens to the machine's."""
    offset = time.time() - time.monotonic()
    return lambda: offset + time.monotonic()


class Sandbox:
    """Evermuse on this machine; a context manager, or `start()` and `stop()`.

    - `contract`: `"reference"` or `"openapi"`.
    - `keys`: key → permissions (`api:write`, `api:read`), or → `ApiKey` with a workspace. Without it,
      `DEFAULT_KEY` may do everything.
    - `rate_limit` requests in any `window` seconds for each key.
    - `batch_seconds`: from LANDING to COMPLETE. `attachment_seconds`: until attachments are downloaded,
      counted from the same moment; half as long again unless said.
    - `errors_in`: where a 400 of invalid records carries its errors: `"details"`, `"errors"`, or
      `"nowhere"`, which leaves them out of 202s and batches too, where they are optional.
    - `strict`: one invalid record refuses its whole request (400). Otherwise the valid ones are taken (202);
      the contract has an answer for both.
    - `fail_percent` of the admitted requests meet random trouble; `seed` makes it repeatable.
    - `keep_records=False` keeps identities and counts only, and no headers: for long runs.
    - `on_event` is called with every `Arrival` once its answer is decided, in the thread that serves it.
    - `clock`: seconds, for the rate window and the life of batches. `delay` of a fault is real time.

    Raises ValueError for arguments that it cannot serve, `SandboxUnavailable` without the extra.
    `stop()` keeps everything, so `start()` again, on the same port, is the end of an outage.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        contract: str = "reference",
        keys: Keys | None = None,
        rate_limit: int = 10,
        window: float = 1.0,
        batch_seconds: float = 2.0,
        attachment_seconds: float | None = None,
        errors_in: Wording = "details",
        strict: bool = False,
        fail_percent: float = 0.0,
        seed: int | None = None,
        keep_records: bool = True,
        on_event: Callable[[Arrival], object] | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        if errors_in not in ("details", "errors", "nowhere"):
            raise ValueError(f"errors_in is details, errors or nowhere, not {errors_in!r}")
        self.host = host
        self.port = port
        self.window = window
        self._on_event = on_event or (lambda arrival: None)
        self._server: Server | None = None
        self._stopping = threading.Event()
        served = contract_named(contract)
        api_keys = with_workspaces(keys or {DEFAULT_KEY: ApiKey()})
        attachment_end = batch_seconds * 1.5 if attachment_seconds is None else attachment_seconds
        api_clock = clock or steady_clock()

        def new_api() -> Api:
            return Api(
                served,
                keys=api_keys,
                new_window=lambda: SlidingWindow(rate_limit, window),
                life=Life(batch_seconds, attachment_end),
                faults=FaultQueue(fail_percent, seed),
                errors_in=errors_in,
                strict=strict,
                keep_records=keep_records,
                clock=api_clock,
                pause=self._stopping.wait,
            )

        self._new_api = new_api
        self._api = new_api()

    # --- running -----------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        return f"http://{self.host}:{self.port}"

    def start(self) -> Self:
        """Listen; OSError where the port is taken. With port 0 the system chooses one, once."""
        if self._server is None:
            self._stopping.clear()
            self._server = Server((self.host, self.port), lambda: self._api, self._on_event)
            self.port = self._server.server_port
            self._server.start()
        return self

    def stop(self) -> None:
        """Stop listening and cut every connection; what was stored stays."""
        if self._server is not None:
            self._stopping.set()
            self._server.stop()
            self._server = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def reset(self) -> None:
        """Forget everything but the settings: records, batches, arrivals, faults, changed keys."""
        self._api = self._new_api()

    # --- trouble -----------------------------------------------------------------------------

    def fail_next(self, fault: Fault | None = None, /, *, count: int | None = 1, **fields: Any) -> None:
        """Spoil the next `count` admitted requests (None: until `clear_faults`).

        A `Fault`, or its fields: `fail_next(Fault.drop_after())`, `fail_next(status=500, count=3)`.
        """
        if count is not None and count < 1:
            raise ValueError("count is at least 1, or None for every request until clear_faults()")
        with self._api.lock:
            self._api.faults.add(fault or Fault(**fields), count)

    def clear_faults(self) -> None:
        """Forget the faults that nobody met yet."""
        with self._api.lock:
            self._api.faults.clear()

    def set_key(self, key: str, permissions: ApiKey | Collection[str]) -> None:
        """Add a key, or change what it may do."""
        with self._api.lock:
            self._api.keys.update(with_workspaces({key: permissions}))

    def remove_key(self, key: str) -> None:
        """Revoke a key: 401 from now on."""
        with self._api.lock:
            self._api.keys.pop(key, None)

    def forget_idempotency_keys(self) -> None:
        """Forget every Idempotency-Key; how long Evermuse remembers one is not published."""
        with self._api.lock:
            for workspace in self._api.workspaces.values():
                workspace.remembered.clear()

    # --- what arrived ------------------------------------------------------------------------

    @property
    def arrivals(self) -> list[Arrival]:
        """Every request so far, refused ones too, in the order of arrival."""
        with self._api.lock:
            return list(self._api.arrivals)

    @property
    def violations(self) -> list[Arrival]:
        """The arrivals refused for what a correct client never does."""
        return [arrival for arrival in self.arrivals if arrival.breaks_contract]

    def worst_second(self, key: str | None = None) -> int:
        """The most arrivals of one key, refused ones too, in any sliding window; the worst key's."""
        arrivals = self.arrivals
        keys = {arrival.key for arrival in arrivals} if key is None else {key}
        counts = [worst_count((a.at for a in arrivals if a.key == one), self.window) for one in keys]
        return max(counts, default=0)

    def records(self, workspace: str = "default") -> list[StoredRecord]:
        """The latest version of every identity, in the order of their first arrival."""
        with self._api.lock:
            return list(self._api.workspaces[workspace].records.values())

    def record(
        self, record_type: str, vendor_ids: Mapping[str, str], event_at: str, workspace: str = "default"
    ) -> StoredRecord | None:
        """The latest version of one identity; None where it never arrived."""
        with self._api.lock:
            identity = Identity.of(record_type, vendor_ids, event_at)
            return self._api.workspaces[workspace].records.get(identity)

    def batches(self, workspace: str = "default") -> list[Batch]:
        """Every accepted request, in the order of acceptance."""
        with self._api.lock:
            return list(self._api.workspaces[workspace].batches)


def with_workspaces(keys: Keys) -> dict[str, ApiKey]:
    """Keys with bare permissions put into the default workspace."""
    return {
        key: value if isinstance(value, ApiKey) else ApiKey(frozenset(value)) for key, value in keys.items()
    }
