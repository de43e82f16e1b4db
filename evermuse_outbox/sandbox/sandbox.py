"""The class :class:`Sandbox`: start the server, inject faults, and look at what arrived."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, get_args

from .api import Api, ApiOptions, Arrival
from .contract import load_contract
from .control import Control, History, is_loopback
from .faults import Fault, FaultRequest, RecordSelector, ScriptedFault
from .ingest import ErrorPlacement
from .rate_limit import max_count_in_window
from .server import Server
from .store import ApiKey, Batch, BatchLifecycle, Identity, Scope, StoredRecord

DEFAULT_KEY = "em_sk_sandbox"
"""API key that a sandbox accepts by default. It is not secret."""

Keys = Mapping[str, ApiKey | Collection[str]]


class Sandbox:
    """A local Evermuse API. Use it as a context manager, or call :meth:`start` and :meth:`stop`.

    :meth:`stop` keeps the state. To simulate an outage, stop the sandbox and start it again: the port stays the same.

    Args:
        host: Address to listen on.
        port: Port to listen on. 0 means any free port.
        contract: ``"reference"`` or ``"openapi"``.
        keys: Accepted API keys, each with its permissions (``api:write``, ``api:read``) or an :class:`ApiKey` that
            also names a workspace. By default, :data:`DEFAULT_KEY` with both permissions.
        rate_limit: Maximum number of requests of one key in any ``window``.
        window: Length of the window of the rate limit, in seconds.
        batch_seconds: Seconds from the creation of a batch until it is COMPLETE.
        attachment_seconds: Seconds from the creation of a batch until its attachments are downloaded; by default
            1.5 × ``batch_seconds``.
        errors_in: Field of an error response (400) that contains the errors of invalid records: ``"details"`` or
            ``"errors"``. ``"nowhere"`` omits them, also from other responses, where they are optional.
        strict: Refuse the request (400) if one of its records is invalid. By default, the valid records are accepted
            (202). The contract allows both.
        fail_percent: Share of the admitted requests that meet a random fault, from 0 to 100.
        seed: Seed of the random faults, to repeat a run.
        keep_records: Keep the records and the headers of requests. If False, only identities and counts are kept, so a
            long run needs less memory.
        on_event: Function that is called with each :class:`Arrival` after its response is known. It runs in the
            thread of the connection.
        clock: Function that returns the time in seconds. The rate limit and the batches use it. The ``delay`` of a
            fault is real time.
        allowed_hosts: Names that the Host header of a request may contain, beside those of this machine.
        control: Serve the page at ``/`` and the control below ``/sandbox/``, and keep the bodies of requests for it.
        control_token: Token that the control requires. A sandbox that other machines can reach always requires a
            token: by default a random one.
        history_requests: Requests that the control keeps: as many POSTs, and as many reads.
        history_bytes: Bytes of requests that the control keeps.
        listing_scope: ``"workspace"`` if the listing shows the batches of every key of a workspace, ``"key"`` if it
            shows only those of the key that reads it. The contract does not say which.
        idempotency_scope: ``"workspace"`` if an Idempotency-Key is recognised across the keys of a workspace,
            ``"key"`` if not. The contract does not say which.

    Raises:
        ValueError: An argument has an unknown value.
        SandboxUnavailable: The extra ``[sandbox]`` is not installed.
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
        errors_in: ErrorPlacement = "details",
        strict: bool = False,
        fail_percent: float = 0.0,
        seed: int | None = None,
        keep_records: bool = True,
        on_event: Callable[[Arrival], object] | None = None,
        clock: Callable[[], float] | None = None,
        allowed_hosts: Collection[str] = (),
        control: bool = False,
        control_token: str = "",
        history_requests: int = 2_000,
        history_bytes: int = 64_000_000,
        listing_scope: Scope = "workspace",
        idempotency_scope: Scope = "workspace",
    ) -> None:
        if errors_in not in get_args(ErrorPlacement):
            raise ValueError(f"errors_in must be details, errors or nowhere, not {errors_in!r}")
        self.host = host
        self.port = port
        self.window = window
        self._on_event = on_event or (lambda _: None)
        self._server: Server | None = None
        self._stopping = threading.Event()
        self._options = ApiOptions(
            contract=load_contract(contract),
            keys=with_workspaces(keys or {DEFAULT_KEY: ApiKey()}),
            rate_limit=rate_limit,
            window=window,
            lifecycle=BatchLifecycle(
                batch_seconds, batch_seconds * 1.5 if attachment_seconds is None else attachment_seconds
            ),
            errors_in=errors_in,
            strict=strict,
            fail_percent=fail_percent,
            seed=seed,
            keep_records=keep_records,
            clock=clock or create_monotonic_clock(),
            sleep=self._stopping.wait,  # a stop ends the delay of a fault
            listing_scope=listing_scope,
            idempotency_scope=idempotency_scope,
        )
        self._api = Api(self._options)
        self._allowed_hosts = allowed_hosts
        self.control_token = control_token
        self._control: Control | None = None
        if control:
            if not control_token and not is_loopback(host):
                self.control_token = secrets.token_urlsafe(16)
            self._control = Control(self, History(history_requests, history_bytes), self.control_token)

    # --- Start and stop ---------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        return f"http://{self.host}:{self.port}"

    def start(self) -> Self:
        """Start to listen. With port 0, the system chooses a port at the first start.

        Raises:
            OSError: The port is in use.
        """
        if self._server is None:
            self._stopping.clear()
            self._server = Server(
                (self.host, self.port), lambda: self._api, self._on_event, self._allowed_hosts, self._control
            )
            self.port = self._server.server_port
            self._server.start()
        return self

    def stop(self) -> None:
        """Stop listening and close every connection. The state is kept."""
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
        """Return to the initial state: delete records, batches, arrivals and faults, and undo changes of API keys."""
        self._api = Api(self._options)

    # --- Faults and keys --------------------------------------------------------------------------

    def fail_next(self, fault: Fault | None = None, /, *, count: int | None = 1, **fields: Any) -> int:
        """Inject a fault into the next admitted requests that it affects.

        Examples: ``fail_next(Fault.drop_after())``, ``fail_next(status=500, count=3)``.

        Args:
            fault: The fault.
            count: Number of requests. None means every request until :meth:`clear_faults`.
            **fields: Attributes of a new :class:`Fault`, if ``fault`` is not given.

        Returns:
            The number of the fault, for :meth:`remove_fault`.

        Raises:
            ValueError: The count is below 1, or the attributes contradict each other.
        """
        if count is not None and count < 1:
            raise ValueError("count must be at least 1, or None for every request until clear_faults()")
        with self._api.lock:
            return self._api.faults.add(fault or Fault(**fields), count).id

    def fail_for(self, seconds: float, fault: Fault | None = None, /, **fields: Any) -> int:
        """Inject a fault into every request that it affects, for a number of seconds.

        Examples: ``fail_for(5, status=429)``, ``fail_for(60, Fault.bad_gateway(on="any"))``.

        Args:
            seconds: Seconds of the sandbox's clock.
            fault: The fault. A 429 without ``retry_after`` sends the rest of the time.
            **fields: Attributes of a new :class:`Fault`, if ``fault`` is not given.

        Returns:
            The number of the fault, for :meth:`remove_fault`.

        Raises:
            ValueError: The seconds are not positive, or the attributes contradict each other.
        """
        if not seconds > 0:
            raise ValueError("seconds must be more than 0")
        with self._api.lock:
            until = self._api.clock() + seconds
            return self._api.faults.add(fault or Fault(**fields), None, until).id

    def reject_record(
        self, which: RecordSelector, message: str = "", *, count: int | None = None, **fields: Any
    ) -> int:
        """Reject the selected records as if they were invalid. The other records of the request are accepted.

        Examples: ``reject_record(2)``, ``reject_record("mail-17", "The subject is not allowed.")``,
        ``reject_record({"data.subject": "Hello"})``, ``reject_record(lambda record: "x" in record["data"])``.

        Args:
            which: A position in the request from 0, a vendor id, a mapping from paths to values, or a function.
            message: Message of the error.
            count: Number of requests with such a record. By default every request; for a position, the next one.
            **fields: Further attributes of the :class:`Fault`: ``code``, ``type``, ``product_id``, ``containing``.

        Returns:
            The number of the fault, for :meth:`remove_fault`.

        Raises:
            ValueError: An attribute is not valid.
        """
        fault = Fault.rejected_record(which, message, **fields)
        if count is None and not fault.is_permanent_by_default:
            count = 1
        return self.fail_next(fault, count=count)

    def inject(self, request: FaultRequest) -> ScriptedFault:
        """Inject a fault that was read from JSON or text.

        Raises:
            ValueError: Too many faults wait.
        """
        with self._api.lock:
            until = None if request.seconds is None else self._api.clock() + request.seconds
            return replace(self._api.faults.add(request.fault, request.count, until))

    def set_fail_percent(self, percent: float) -> None:
        """Set the share of the admitted requests that meet a random fault, from 0 to 100."""
        with self._api.lock:
            self._api.faults.percent = percent

    def waiting_faults(self) -> list[ScriptedFault]:
        """Return the injected faults that can still affect requests, in the order in which they were added."""
        with self._api.lock:
            return [replace(scripted) for scripted in self._api.faults.waiting(self._api.clock())]

    def remove_fault(self, fault_id: int) -> bool:
        """Remove an injected fault by its number. Return whether it was still waiting."""
        with self._api.lock:
            return self._api.faults.remove(fault_id)

    def clear_faults(self) -> None:
        """Remove the injected faults that no request has consumed yet."""
        with self._api.lock:
            self._api.faults.clear()

    def set_key(self, key: str, permissions: ApiKey | Collection[str]) -> None:
        """Add an API key, or replace its permissions and its workspace.

        Args:
            key: The API key.
            permissions: ``api:write``, ``api:read`` or both, or an :class:`ApiKey`.
        """
        with self._api.lock:
            self._api.keys.update(with_workspaces({key: permissions}))

    def remove_key(self, key: str) -> None:
        """Revoke an API key. Its requests get 401 from now on."""
        with self._api.lock:
            self._api.keys.pop(key, None)

    def refuse_keys(self, positions: Collection[int]) -> None:
        """Revoke the API keys at these positions of ``keys``, from 1, and accept the others again."""
        self._api.refuse_keys(positions)

    def set_scopes(self, *, listing: Scope | None = None, idempotency: Scope | None = None) -> None:
        """Change what the API keys of a workspace share: the listing of batches, and Idempotency-Keys."""
        with self._api.lock:
            self._api.listing_scope = listing or self._api.listing_scope
            self._api.idempotency_scope = idempotency or self._api.idempotency_scope

    @property
    def scopes(self) -> dict[str, Scope]:
        """What the API keys of a workspace share, as :meth:`set_scopes` takes it."""
        return {"listing": self._api.listing_scope, "idempotency": self._api.idempotency_scope}

    def forget_idempotency_keys(self) -> None:
        """Forget every Idempotency-Key. The contract does not say how long Evermuse stores them."""
        with self._api.lock:
            for workspace in self._api.workspaces.values():
                workspace.idempotent_responses.clear()

    # --- What arrived -----------------------------------------------------------------------------

    @property
    def arrivals(self) -> list[Arrival]:
        """Every request so far, including refused ones, in the order of arrival."""
        with self._api.lock:
            return list(self._api.arrivals)

    @property
    def violations(self) -> list[Arrival]:
        """The requests that were refused for something that a correct client never does."""
        return [arrival for arrival in self.arrivals if arrival.breaks_contract]

    def worst_second(self, key: str | None = None) -> int:
        """Return the highest number of requests of one API key in any ``window``, including refused ones.

        Args:
            key: The API key. By default, the key with the highest number.
        """
        arrivals = self.arrivals
        keys = {arrival.key for arrival in arrivals} if key is None else {key}
        counts = (
            max_count_in_window((arrival.at for arrival in arrivals if arrival.key == api_key), self.window)
            for api_key in keys
        )
        return max(counts, default=0)

    def records(self, workspace: str = "default") -> list[StoredRecord]:
        """Return the latest version of every identity, in the order of first arrival."""
        with self._api.lock:
            return list(self._api.workspaces[workspace].records.values())

    def record(
        self, record_type: str, vendor_ids: Mapping[str, str], event_at: str, workspace: str = "default"
    ) -> StoredRecord | None:
        """Return the latest version of one identity, or None if no record with it was accepted."""
        with self._api.lock:
            identity = Identity.of(record_type, vendor_ids, event_at)
            return self._api.workspaces[workspace].records.get(identity)

    def batches(self, workspace: str = "default") -> list[Batch]:
        """Return every batch, in the order of acceptance."""
        with self._api.lock:
            return list(self._api.workspaces[workspace].batches)

    @property
    def now(self) -> float:
        """The time of the sandbox's clock, in seconds."""
        return self._options.clock()

    def overview(self) -> dict[str, Any]:
        """Return figures about the sandbox as JSON."""
        options = self._options
        with self._api.lock:
            workspaces = list(self._api.workspaces.values())
            refused = [number for number, key in enumerate(options.keys, 1) if key not in self._api.keys]
            return {
                "contract": options.contract.name,
                "rate_limit": options.rate_limit,
                "batch_seconds": options.lifecycle.seconds,
                "strict": options.strict,
                "random_faults": self._api.faults.percent,
                "keys": {**self.scopes, "refused": refused},
                "batches": sum(len(workspace.batches) for workspace in workspaces),
                "identities": sum(len(workspace.records) for workspace in workspaces),
            }

    def batch_states(self, batch_ids: set[str]) -> dict[str, str]:
        """Return the status of those batches that are known, by id."""
        with self._api.lock:
            now, lifecycle = self._api.clock(), self._api.lifecycle
            return {
                batch.id: lifecycle.status(now - batch.created_at, batch.fails)
                for workspace in self._api.workspaces.values()
                for batch_id in batch_ids
                if (batch := workspace.by_id.get(batch_id)) is not None
            }


def with_workspaces(keys: Keys) -> dict[str, ApiKey]:
    """Return ``keys`` with an :class:`ApiKey` for each. Permissions without a workspace get the default workspace."""
    return {
        key: value if isinstance(value, ApiKey) else ApiKey(frozenset(value)) for key, value in keys.items()
    }


def create_monotonic_clock() -> Callable[[], float]:
    """Return a clock in seconds since the epoch that does not jump when the system time is adjusted."""
    offset = time.time() - time.monotonic()
    return lambda: offset + time.monotonic()
