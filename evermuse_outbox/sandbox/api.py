"""The three endpoints and what stands before them: routes, keys, the rate limit, faults.

A request comes in two steps. `Api.arrive` sees its first lines and decides at that moment whether it is
admitted, so that a slow upload counts when it began; `Api.answer` gets the body.
"""

from __future__ import annotations

import base64
import hashlib
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from typing import Any
from urllib.parse import parse_qsl, unquote

from .responses import VALIDATION_ERROR, Answer, Refusal, encoded, error_code
from .contract import (
    DEFAULT_PAGE,
    FORMATS,
    MAX_CURSOR,
    MAX_IDEMPOTENCY_KEY,
    MAX_PAGE,
    Contract,
)
from .faults import Fault, FaultQueue
from .ingest import Judged, downloads_of, judge, read_records
from .rate_limit import SlidingWindow
from .store import (
    READ,
    WRITE,
    ApiKey,
    Batch,
    Life,
    Received,
    Remembered,
    Wording,
    Workspace,
    new_batch_id,
)

INGEST = "/api/v1/ingest"
BATCHES = "/api/v1/ingest/batches"


@dataclass
class Arrival:
    """One request, and what came of it: the sandbox's log, for tests and for the console.

    - `at`, `answered_at`: seconds of the sandbox's clock; the second is None while it is under way.
    - `status`: stays None where a fault dropped the connection.
    - `size`: the length of the body in bytes. `headers` are emptied where records are not kept.
    - `error`, `message`: of a refusal's envelope.
    - `during_hold`: it came before the `retryAfter` of an earlier 429 to the same key had passed.
    - `breaks_contract`: it was refused for something that a correct client never does (too much, too
      often, unreadable, a key used for two bodies).
    """

    at: float
    method: str
    path: str
    key: str
    headers: Message[str, str] = field(repr=False)
    query: list[tuple[str, str]] = field(default_factory=list)
    during_hold: bool = False
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
    refusal: Refusal | None = field(default=None, repr=False)
    idempotency_key: str = ""

    def __post_init__(self) -> None:
        self.idempotency_key = self.headers.get("Idempotency-Key", "")

    def refuse(self, refusal: Refusal) -> None:
        """Remember the first reason to turn it down."""
        self.refusal = self.refusal or refusal


class Api:
    """Evermuse without HTTP: arrivals in, answers out. Thread safe by one lock around all state."""

    def __init__(
        self,
        contract: Contract,
        *,
        keys: Mapping[str, ApiKey],
        new_window: Callable[[], SlidingWindow],
        life: Life,
        faults: FaultQueue,
        errors_in: Wording,
        strict: bool,
        keep_records: bool,
        clock: Callable[[], float],
        pause: Callable[[float], object],
    ) -> None:
        self.contract = contract
        self.keys = dict(keys)
        self.life = life
        self.faults = faults
        self.errors_in = errors_in
        self.strict = strict
        self.keep_records = keep_records
        self.clock = clock
        self.pause = pause
        self.lock = threading.Lock()
        self.arrivals: list[Arrival] = []
        self.workspaces: defaultdict[str, Workspace] = defaultdict(Workspace)
        self._windows: defaultdict[str, SlidingWindow] = defaultdict(new_window)
        self._holds: dict[str, float] = {}

    # --- the first lines ---------------------------------------------------------------------

    def arrive(self, method: str, target: str, headers: Message[str, str]) -> Arrival:
        """Log a request and decide whether it is admitted; a refusal stands in the arrival."""
        path, _, query_text = target.partition("?")
        query = parse_qsl(query_text, keep_blank_values=True)
        key = headers.get("x-api-key", "")
        with self.lock:
            # The time is taken under the lock: the window needs it in order.
            arrival = Arrival(self.clock(), method, unquote(path), key, headers, query)
            arrival.during_hold = arrival.at < self._holds.get(key, arrival.at)
            self.arrivals.append(arrival)
            try:
                self._admit(arrival)
            except Refusal as refusal:
                arrival.refuse(refusal)
        return arrival

    def _admit(self, arrival: Arrival) -> None:
        needed = permission_for(arrival.method, arrival.path)
        api_key = self.keys.get(arrival.key)
        if api_key is None:
            raise Refusal(401, "The x-api-key header is missing or not a known key.")
        wait = self._windows[arrival.key].wait(arrival.at)
        if wait:
            raise Refusal(429, "Too many requests for this key.", extra={"retryAfter": wait})
        if needed not in api_key.permissions:
            raise Refusal(403, f"This key lacks {needed}.")
        arrival.fault = self.faults.take(arrival.method)

    # --- the answer --------------------------------------------------------------------------

    def answer(self, arrival: Arrival, body: bytes) -> Answer | None:
        """The answer to an arrival; None is a connection to be dropped without one."""
        arrival.size = arrival.size or len(body)
        answer = self._answer_with_fault(arrival, body)
        self._log(arrival, answer)
        return answer

    def _answer_with_fault(self, arrival: Arrival, body: bytes) -> Answer | None:
        fault = arrival.fault
        if fault is None:
            return self._usual_answer(arrival, body)
        if not fault.after_handling:
            self.pause(fault.delay)
        usual = self._usual_answer(arrival, body) if fault.takes_effect else None
        if fault.after_handling:
            self.pause(fault.delay)
        if fault.drop:
            return None
        return usual if fault.status is None else fault.answer()

    def _usual_answer(self, arrival: Arrival, body: bytes) -> Answer:
        try:
            if arrival.refusal:
                raise arrival.refusal
            return self._endpoint(arrival, body)
        except Refusal as refusal:
            arrival.refuse(refusal)
            arrival.message = refusal.message
            arrival.breaks_contract = refusal.breaks_contract
            return refusal.answer()

    def _endpoint(self, arrival: Arrival, body: bytes) -> Answer:
        if arrival.path == INGEST:
            return self._ingest(arrival, body)
        with self.lock:
            workspace = self.workspaces[self._workspace_of(arrival)]
            if arrival.path == BATCHES:
                return Answer.of(200, self._page(arrival, workspace))
            return Answer.of(200, self._status(arrival, workspace))

    def _log(self, arrival: Arrival, answer: Answer | None) -> None:
        with self.lock:
            arrival.answered_at = self.clock()
            arrival.status = answer.status if answer else None
            arrival.error = error_of(arrival)
            self._hold(arrival)
            if not self.keep_records:
                arrival.headers = Message()

    def _hold(self, arrival: Arrival) -> None:
        refused = arrival.refusal.extra.get("retryAfter") if arrival.refusal else None
        scripted = arrival.fault.retry_after if arrival.fault else None
        seconds = refused or scripted
        if arrival.status == 429 and seconds and arrival.answered_at is not None:
            until = arrival.answered_at + seconds
            self._holds[arrival.key] = max(until, self._holds.get(arrival.key, until))

    def _workspace_of(self, arrival: Arrival) -> str:
        # A key can be taken away while its last request is under way.
        return self.keys.get(arrival.key, ApiKey()).workspace

    # --- POST /api/v1/ingest -----------------------------------------------------------------

    def _ingest(self, arrival: Arrival, body: bytes) -> Answer:
        check_ingest_headers(arrival)
        digest = hashlib.sha256(body).digest()
        with self.lock:
            workspace = self.workspaces[self._workspace_of(arrival)]
            first = remembered(workspace, arrival, digest)
        if first is None:
            records = read_records(arrival.headers.get("Content-Type", ""), body, self.contract)
            arrival.records = len(records)
            arrival.type = type_of(records)
            judged = judge(records, self.contract)
            arrival.accepted, arrival.rejected = len(judged.accepted), judged.rejected
            if not judged.accepted or (self.strict and judged.rejected):
                raise refused(judged, self.errors_in)
            with self.lock:  # between the two locks the same key may have been here twice
                first = remembered(workspace, arrival, digest)
                if first is None:
                    first = self._accept(workspace, arrival, judged, digest)
        arrival.batch_id = first.batch_id
        return Answer(202, first.answer)

    def _accept(self, workspace: Workspace, arrival: Arrival, judged: Judged, digest: bytes) -> Remembered:
        batch = self._batch(arrival, judged)
        workspace.keep(batch, judged.accepted, self.keep_records)
        first = Remembered(digest, encoded(accepted_content(batch)), batch.id)
        if arrival.idempotency_key:
            workspace.remembered[arrival.idempotency_key] = first
        return first

    def _batch(self, arrival: Arrival, judged: Judged) -> Batch:
        fault = arrival.fault or Fault()
        return Batch(
            id=new_batch_id(),
            workspace=self._workspace_of(arrival),
            type=arrival.type,
            created_at=self.clock(),
            accepted=len(judged.accepted),
            rejected=judged.rejected,
            total_errors=len(judged.errors),
            errors=() if self.errors_in == "nowhere" else tuple(judged.first_errors),
            attachments=downloads_of(judged.accepted),
            fails=fault.batch_fails,
            attachments_fail=fault.attachments_fail,
        )

    # --- GET /api/v1/ingest/batches ----------------------------------------------------------

    def _page(self, arrival: Arrival, workspace: Workspace) -> dict[str, Any]:
        query = dict(arrival.query)
        batches, following = workspace.page(page_limit(query), page_position(query))
        now = self.clock()
        return {
            "batches": [batch.status(now, self.life) for batch in batches],
            "nextCursor": None if following is None else cursor_of(following),
        }

    def _status(self, arrival: Arrival, workspace: Workspace) -> dict[str, Any]:
        arrival.batch_id = arrival.path.removeprefix(f"{BATCHES}/")
        batch = workspace.by_id.get(arrival.batch_id)
        if batch is None:
            raise Refusal(404, "There is no such batch in the workspace of this key.")
        return batch.status(self.clock(), self.life)


def error_of(arrival: Arrival) -> str:
    """The code in the envelope of an answered arrival; empty where it was taken, or got no answer."""
    if arrival.status is None or arrival.status < 400:
        return ""
    if arrival.refusal and arrival.refusal.status == arrival.status:
        return arrival.refusal.error
    return error_code(arrival.status)


def permission_for(method: str, path: str) -> str:
    """The permission that an endpoint needs; Refusal (404, 405) where there is none."""
    if path == INGEST:
        allowed, permission = "POST", WRITE
    elif path == BATCHES or re.fullmatch(rf"{BATCHES}/[^/]+", path):
        allowed, permission = "GET", READ
    else:
        raise Refusal(404, "There is nothing at this path.")
    if method != allowed:
        raise Refusal(405, f"This path takes {allowed} only.")
    return permission


def check_ingest_headers(arrival: Arrival) -> None:
    """Refusal (400) for what the head of a POST can have wrong."""
    if len(arrival.idempotency_key) > MAX_IDEMPOTENCY_KEY:
        raise Refusal(400, f"Idempotency-Key takes at most {MAX_IDEMPOTENCY_KEY} characters.")
    # Compression of request bodies is documented nowhere.
    if arrival.headers.get("Content-Encoding", "identity") != "identity":
        raise Refusal(400, "The body must not be compressed.")
    for name, value in arrival.query:
        if name == "format" and value not in FORMATS:
            raise Refusal(400, f"format is one of {', '.join(sorted(FORMATS))}.")


def remembered(workspace: Workspace, arrival: Arrival, digest: bytes) -> Remembered | None:
    """The first answer to the same key with the same body; None where the key is new or absent.

    Refusal (409) where the key came with another body. The contract is silent about that case: 409 is
    the sandbox's own choice, so that a client that changes a sealed batch is found out.
    """
    first = workspace.remembered.get(arrival.idempotency_key)
    if first is None:
        return None
    if first.digest != digest:
        raise Refusal(409, "This Idempotency-Key was used before with a different body.")
    arrival.replayed = True
    return first


def type_of(records: list[Received]) -> str:
    """The `_type` that the records share; empty where none has one."""
    for received in records:
        if isinstance(received.value, dict) and isinstance(received.value.get("_type"), str):
            return str(received.value["_type"])
    return ""


def accepted_content(batch: Batch) -> dict[str, Any]:
    """The published answer to an accepted request; `errors` is optional and left out when empty."""
    content: dict[str, Any] = {
        "batchId": batch.id,
        "acceptedCount": batch.accepted,
        "rejectedCount": batch.rejected,
        "totalErrorCount": batch.total_errors,
    }
    if batch.errors:
        content["errors"] = list(batch.errors)
    return content


def refused(judged: Judged, errors_in: Wording) -> Refusal:
    """The refusal (400) of a request for its invalid records: nothing of it is taken.

    The contract puts the errors into `errors` in its text and has room for them in `details` only.
    """
    extra: dict[str, Any] = {}
    if errors_in == "errors":
        extra = {"errors": judged.first_errors}
    elif errors_in == "details":
        counts = {"rejectedCount": judged.rejected, "totalErrorCount": len(judged.errors)}
        extra = {"details": {**counts, "errors": judged.first_errors}}
    message = f"{judged.rejected} of {judged.rejected + len(judged.accepted)} records are not valid."
    return Refusal(400, message, error=VALIDATION_ERROR, extra=extra)


def page_limit(query: Mapping[str, str]) -> int:
    """The page size of a listing; Refusal (400) for anything but 1 to 100."""
    given = query.get("limit", str(DEFAULT_PAGE))
    if not re.fullmatch(r"[0-9]{1,3}", given) or not 1 <= int(given) <= MAX_PAGE:
        raise Refusal(400, f"limit is a whole number from 1 to {MAX_PAGE}.")
    return int(given)


def cursor_of(position: int) -> str:
    """A position in the listing as an opaque text."""
    return base64.urlsafe_b64encode(f"before:{position}".encode()).decode().rstrip("=")


def page_position(query: Mapping[str, str]) -> int | None:
    """The position in a cursor; None without one; Refusal (400) for a text that is no cursor."""
    given = query.get("cursor")
    if given is None:
        return None
    match = re.fullmatch(rb"before:([0-9]{1,12})", decoded(given[: MAX_CURSOR + 1]))
    if match is None:
        raise Refusal(400, "cursor is not one that a listing gave.")
    return int(match[1])


def decoded(cursor: str) -> bytes:
    """The bytes of an opaque text; empty where it is none."""
    try:
        return base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    except ValueError:
        return b""
