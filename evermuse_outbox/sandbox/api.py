"""The three endpoints without HTTP, and the checks before them: route, API key, rate limit, faults.

A request has two steps. :meth:`Api.receive` gets its request line and headers, and decides whether it is admitted. A
slow upload therefore counts from its start. :meth:`Api.respond` gets the body and returns the response.
"""

from __future__ import annotations

import hashlib
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from email.message import Message
from typing import Any
from urllib.parse import parse_qsl, unquote

from .contract import MAX_IDEMPOTENCY_KEY, Contract
from .faults import Fault, FaultQueue
from .ingest import (
    ErrorPlacement,
    ValidationResult,
    check_headers,
    count_downloads,
    read_records,
    record_error,
    shared_value,
    validate_records,
)
from .listing import format_cursor, parse_cursor, parse_limit
from .rate_limit import SlidingWindow
from .responses import RequestRefused, Response, encode_json, error_code
from .routes import BATCHES, INGEST, permission_for
from .store import (
    MAX_ARRIVALS,
    MAX_NAME,
    ApiKey,
    Batch,
    BatchLifecycle,
    IdempotentResponse,
    ReceivedRecord,
    RecordError,
    Scope,
    Workspace,
    new_batch_id,
)


@dataclass
class Arrival:
    """A request that the sandbox received, and its result. The list of them is the log of the sandbox.

    Attributes:
        at: Time of arrival, in seconds of the sandbox's clock.
        answered_at: Time of the response, in the same seconds. None while the request is in progress.
        headers, query: Headers and query of the request. Empty without ``keep_records`` after the response.
        size: Length of the body in bytes.
        records: Number of records in the body.
        type, product_id: ``_type`` and ``_product_id`` that the records share.
        accepted, rejected: Numbers of valid and of invalid records in the body.
        batch_id: The batch that a POST created or that a GET requested.
        ignores_retry_after: It arrived before the ``retryAfter`` of an earlier 429 to the same key was over.
        replayed: The response repeats that of an earlier request with the same Idempotency-Key.
        fault: The injected fault.
        status: HTTP status of the response. None if a fault dropped the connection.
        error: Code of the error envelope. Empty on success.
        message: Message of the refusal. Empty if the request was not refused.
        breaks_contract: It was refused for something that a correct client never does. Examples are too many records,
            too many requests, an unreadable body, and one Idempotency-Key for two bodies.
        refusal: The first reason to refuse it. It is kept until the response is sent.
        errors: Errors of the records. They are kept until the response is sent.
    """

    at: float
    method: str
    path: str
    key: str
    headers: Message[str, str] = field(repr=False)
    query: list[tuple[str, str]] = field(default_factory=list)
    ignores_retry_after: bool = False
    size: int = 0
    records: int = 0
    type: str = ""
    accepted: int = 0
    rejected: int = 0
    batch_id: str = ""
    replayed: bool = False
    fault: Fault | None = None
    status: int | None = None
    error: str = ""
    message: str = ""
    breaks_contract: bool = False
    answered_at: float | None = None
    refusal: RequestRefused | None = field(default=None, repr=False)
    idempotency_key: str = ""
    product_id: str = ""
    errors: Sequence[RecordError] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        self.idempotency_key = self.headers.get("Idempotency-Key", "")[:MAX_IDEMPOTENCY_KEY]

    def refuse(self, refusal: RequestRefused) -> None:
        """Store a reason to refuse the request, unless there is an earlier one."""
        self.refusal = self.refusal or refusal

    def release(self, keep_headers: bool) -> None:
        """Drop what only the response needs. The log has many arrivals, and each must be small."""
        # Through its traceback and its cause, an exception refers to the body and to the records.
        self.refusal = None
        self.errors = ()
        if not keep_headers:
            self.headers, self.query = Message(), []
            self.key, self.path, self.batch_id = (
                text[:MAX_NAME] for text in (self.key, self.path, self.batch_id)
            )


@dataclass(frozen=True)
class ApiOptions:
    """Options of an :class:`Api`. The class ``Sandbox`` describes those that are not described here.

    Attributes:
        lifecycle: How long a batch is processed.
        clock: Function that returns the time in seconds.
        sleep: Function that waits for a number of seconds.
    """

    contract: Contract
    keys: Mapping[str, ApiKey]
    rate_limit: int
    window: float
    lifecycle: BatchLifecycle
    errors_in: ErrorPlacement
    strict: bool
    fail_percent: float
    seed: int | None
    keep_records: bool
    clock: Callable[[], float]
    sleep: Callable[[float], object]
    listing_scope: Scope = "workspace"
    idempotency_scope: Scope = "workspace"


class Api:
    """The Evermuse API without HTTP. Its methods are thread-safe: one lock protects the state."""

    def __init__(self, options: ApiOptions) -> None:
        self.options = options
        self.clock, self.lifecycle = options.clock, options.lifecycle
        self.lock = threading.Lock()
        # State, which the lock protects.
        self.keys = dict(options.keys)
        self.listing_scope, self.idempotency_scope = options.listing_scope, options.idempotency_scope
        self.faults = FaultQueue(options.fail_percent, options.seed)
        self.arrivals: deque[Arrival] = deque(maxlen=MAX_ARRIVALS)
        self.workspaces: defaultdict[str, Workspace] = defaultdict(Workspace)
        self._windows: defaultdict[str, SlidingWindow] = defaultdict(
            lambda: SlidingWindow(options.rate_limit, options.window)
        )
        self._retry_at: dict[str, float] = {}

    def refuse_keys(self, positions: Collection[int]) -> None:
        """Revoke the keys of the options at these positions, from 1, and accept the others again."""
        with self.lock:
            refused = {key for number, key in enumerate(self.options.keys, 1) if number in positions}
            known = {**self.options.keys, **self.keys}
            self.keys = {key: known[key] for key in known if key not in refused}

    # --- Step 1: request line and headers ---------------------------------------------------------

    def receive(self, method: str, target: str, headers: Message[str, str]) -> Arrival:
        """Log a request and decide whether it is admitted. If it is not, the returned arrival contains the refusal."""
        path, _, query_text = target.partition("?")
        query = parse_qsl(query_text, keep_blank_values=True)
        key = headers.get("x-api-key", "")
        with self.lock:
            # Read the clock under the lock, because the window of the rate limit needs times in ascending order.
            arrival = Arrival(self.clock(), method, unquote(path), key, headers, query)
            arrival.ignores_retry_after = arrival.at < self._retry_at.get(key, arrival.at)
            self.arrivals.append(arrival)
            try:
                self._admit(arrival)
            except RequestRefused as refusal:
                arrival.refuse(refusal)
        return arrival

    def _admit(self, arrival: Arrival) -> None:
        permission = permission_for(arrival.method, arrival.path)
        api_key = self.keys.get(arrival.key)
        if api_key is None:
            raise RequestRefused(401, "The x-api-key header is missing or not a known key.")
        wait = self._windows[arrival.key].acquire(arrival.at)
        if wait:
            raise RequestRefused(429, "Too many requests for this key.", extra={"retryAfter": wait})
        if permission not in api_key.permissions:
            raise RequestRefused(403, f"This key lacks {permission}.")
        arrival.fault = self.faults.take(arrival.method, arrival.at)

    # --- Step 2: body and response ----------------------------------------------------------------

    def respond(self, arrival: Arrival, body: bytes) -> Response | None:
        """Process a request and return the response, or None if the connection must be closed without a response."""
        arrival.size = arrival.size or len(body)
        response = self._process_with_fault(arrival, body)
        self._record_result(arrival, response)
        return response

    def _process_with_fault(self, arrival: Arrival, body: bytes) -> Response | None:
        with self.lock:
            now = self.clock()
            fault = arrival.fault or self.faults.take_by_content(arrival.method, body, now)
            arrival.fault = fault
        if fault is None:
            return self._process(arrival, body)
        if not fault.after_handling:
            self.options.sleep(fault.delay)
        response = self._process(arrival, body) if fault.is_request_processed else None
        if fault.after_handling:
            self.options.sleep(fault.delay)
        if fault.drop:
            return None
        return response if fault.status is None else fault.to_response()

    def _process(self, arrival: Arrival, body: bytes) -> Response:
        try:
            if arrival.refusal:
                raise arrival.refusal
            return self._call_endpoint(arrival, body)
        except RequestRefused as refusal:
            arrival.refuse(refusal)
            arrival.message = refusal.message
            arrival.breaks_contract = refusal.breaks_contract
            return refusal.to_response()

    def _call_endpoint(self, arrival: Arrival, body: bytes) -> Response:
        if arrival.path == INGEST:
            return self._ingest(arrival, body)
        with self.lock:
            workspace = self.workspaces[self._workspace_name(arrival)]
            if arrival.path == BATCHES:
                return Response.with_json(200, self._listing(arrival, workspace))
            return Response.with_json(200, self._batch_status(arrival, workspace))

    def _record_result(self, arrival: Arrival, response: Response | None) -> None:
        with self.lock:
            arrival.answered_at = self.clock()
            arrival.status = response.status if response else None
            arrival.error = error_of(arrival)
            self._record_retry_after(arrival, arrival.answered_at)

    def release(self, arrival: Arrival) -> None:
        """Drop what only the response of a request needs, after its end or its loss."""
        with self.lock:
            arrival.release(self.options.keep_records)

    def _record_retry_after(self, arrival: Arrival, now: float) -> None:
        refused = arrival.refusal.extra.get("retryAfter") if arrival.refusal else None
        injected = arrival.fault.retry_after if arrival.fault else None
        seconds = refused or injected
        if arrival.status == 429 and seconds:
            retry_at = now + seconds
            self._retry_at[arrival.key] = max(retry_at, self._retry_at.get(arrival.key, retry_at))

    def _workspace_name(self, arrival: Arrival) -> str:
        # The key may have been removed while the request was in progress.
        return self.keys.get(arrival.key, ApiKey()).workspace

    def _idempotency_scope(self, arrival: Arrival) -> str:
        """Return the API key if each has Idempotency-Keys of its own, else an empty text."""
        return arrival.key if self.idempotency_scope == "key" else ""

    # --- POST /api/v1/ingest ----------------------------------------------------------------------

    def _ingest(self, arrival: Arrival, body: bytes) -> Response:
        check_headers(arrival.headers, arrival.query)
        digest = hashlib.sha256(body).digest()
        with self.lock:
            workspace = self.workspaces[self._workspace_name(arrival)]
            first = find_first_response(workspace, arrival, digest, self._idempotency_scope(arrival))
        if first is None:
            result = self._validate(arrival, body)
            with self.lock:  # another request may have used the same key between the two locks
                first = find_first_response(workspace, arrival, digest, self._idempotency_scope(arrival))
                if first is None:
                    first = self._accept(workspace, arrival, result, digest)
        arrival.batch_id = first.batch_id
        return Response(202, first.body)

    def _validate(self, arrival: Arrival, body: bytes) -> ValidationResult:
        contract = self.options.contract
        records = read_records(arrival.headers.get("Content-Type", ""), body, contract)
        arrival.records = len(records)
        # A value that is too long is invalid. So no accepted record has one that is cut here.
        arrival.type = shared_value("_type", records)[:MAX_NAME]
        arrival.product_id = shared_value("_product_id", records)[:MAX_NAME]
        result = validate_records(records, contract, self._injected_errors(arrival, records, body))
        arrival.accepted, arrival.rejected = len(result.accepted), result.rejected
        arrival.errors = result.errors
        if not result.accepted or (self.options.strict and result.rejected):
            raise result.refusal(self.options.errors_in)
        return result

    def _injected_errors(
        self, arrival: Arrival, records: list[ReceivedRecord], body: bytes
    ) -> dict[int, list[RecordError]]:
        """Return the errors that faults inject into records, by position."""
        with self.lock:
            waiting = self.faults.rejections(body, self.clock())
        errors: dict[int, list[RecordError]] = {}
        for scripted in waiting:  # without the lock, because a selector can be a function of the user
            fault = scripted.fault
            indexes = [index for index, record in enumerate(records) if fault.selects(index, record.value)]
            with self.lock:
                if not indexes or not self.faults.consume(scripted):
                    continue
            arrival.fault = arrival.fault or fault
            for index in indexes:
                errors.setdefault(index, []).append(record_error(index, fault.text, fault.code))
        return errors

    def _accept(
        self, workspace: Workspace, arrival: Arrival, result: ValidationResult, digest: bytes
    ) -> IdempotentResponse:
        batch = self._new_batch(arrival, result)
        workspace.add_batch(batch, result.accepted, self.options.keep_records)
        response = IdempotentResponse(digest, encode_json(batch.accepted_content()), batch.id)
        if arrival.idempotency_key:
            workspace.add_response(self._idempotency_scope(arrival), arrival.idempotency_key, response)
        return response

    def _new_batch(self, arrival: Arrival, result: ValidationResult) -> Batch:
        fault = arrival.fault or Fault()
        return Batch(
            id=new_batch_id(),
            workspace=self._workspace_name(arrival),
            key=arrival.key,
            type=arrival.type,
            created_at=self.clock(),
            accepted=len(result.accepted),
            rejected=result.rejected,
            total_errors=len(result.errors),
            errors=() if self.options.errors_in == "nowhere" else tuple(result.first_errors),
            attachments=count_downloads(result.accepted),
            fails=fault.batch_fails,
            attachments_fail=fault.attachments_fail,
        )

    # --- GET /api/v1/ingest/batches and GET /api/v1/ingest/batches/{id} ---------------------------

    def _listing(self, arrival: Arrival, workspace: Workspace) -> dict[str, Any]:
        query = dict(arrival.query)
        limit, before = parse_limit(query), parse_cursor(query)
        batches, next_position = (
            workspace.list_batches_of(arrival.key, limit, before)
            if self.listing_scope == "key"
            else workspace.list_batches(limit, before)
        )
        now = self.clock()
        return {
            "batches": [batch.status(now, self.lifecycle) for batch in batches],
            "nextCursor": None if next_position is None else format_cursor(next_position),
        }

    def _batch_status(self, arrival: Arrival, workspace: Workspace) -> dict[str, Any]:
        arrival.batch_id = arrival.path.removeprefix(f"{BATCHES}/")
        batch = workspace.by_id.get(arrival.batch_id)
        if batch is None:
            raise RequestRefused(404, "There is no such batch in the workspace of this key.")
        return batch.status(self.clock(), self.lifecycle)


# --- Checks of a request ------------------------------------------------------------------------


def find_first_response(
    workspace: Workspace, arrival: Arrival, digest: bytes, scope: str
) -> IdempotentResponse | None:
    """Return the response to an earlier request with the same Idempotency-Key and body, and mark the replay.

    Raises:
        RequestRefused: 409, if the earlier request had another body. The contract does not define this case. The 409
            reveals a client that changes a batch but keeps its key.
    """
    first = workspace.idempotent_responses.get((scope, arrival.idempotency_key))
    if first is None:
        return None
    if first.digest != digest:
        raise RequestRefused(409, "This Idempotency-Key was used before with a different body.")
    arrival.replayed = True
    return first


def error_of(arrival: Arrival) -> str:
    """Return the error code of a response, or an empty string on success and without a response."""
    if arrival.status is None or arrival.status < 400:
        return ""
    if arrival.refusal and arrival.refusal.status == arrival.status:
        return arrival.refusal.error
    return error_code(arrival.status)
