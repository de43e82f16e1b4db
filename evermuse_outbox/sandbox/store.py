"""State of the sandbox in memory: API keys, batches, records by identity, idempotency keys.

The module does not depend on HTTP and takes no lock. ``api.py`` holds a lock while it uses the state.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple
from uuid import uuid4

WRITE = "api:write"
READ = "api:read"

Scope = Literal["workspace", "key"]
"""What shares something: all API keys of a workspace, or nothing beyond one key. The contract does not say."""

RecordError = dict[str, Any]
"""An entry of ``errors``: ``index`` of the record in its request, ``code``, ``message``."""


@dataclass(frozen=True)
class ApiKey:
    """Permissions of an API key (``api:write``, ``api:read``) and the workspace that it belongs to."""

    permissions: Collection[str] = frozenset({WRITE, READ})
    workspace: str = "default"


# --- Records ------------------------------------------------------------------------------------


class Identity(NamedTuple):
    """Identity of a record, normalised as by Evermuse. A later record with the same identity overwrites the record.

    Attributes:
        type: ``_type`` in lower case.
        vendor_ids: Pairs of name and value, sorted by name.
        event_at: ``_event_at``, truncated to the second.
    """

    type: str
    vendor_ids: tuple[tuple[str, str], ...]
    event_at: str

    @classmethod
    def of(cls, record_type: str, vendor_ids: Mapping[str, str], event_at: str) -> Identity:
        """Return the identity of a record with these three fields."""
        return cls(record_type.lower(), tuple(sorted(vendor_ids.items())), truncate_to_second(event_at))


def truncate_to_second(event_at: str) -> str:
    """Return a valid ``_event_at`` without its fraction of a second."""
    return event_at[:19] + "Z"


@dataclass(frozen=True, slots=True)
class ReceivedRecord:
    """A record of a request, valid or not.

    Attributes:
        value: The parsed JSON.
        line: The exact bytes of its line, if the body was NDJSON.
        has_surrogates: The line, or the JSON body, contains escapes of surrogates.
    """

    value: Any
    line: bytes | None = None
    has_surrogates: bool = False

    @property
    def identity(self) -> Identity:
        """The identity of the record, which must be valid."""
        return Identity.of(self.value["_type"], self.value["_vendor_ids"], self.value["_event_at"])


@dataclass(slots=True)
class StoredRecord:
    """The latest version of one identity.

    Attributes:
        identity: The identity of the record.
        times: Number of accepted records with this identity.
        batch_ids: The last batches of these records, in order of acceptance.
        line: The bytes of the latest version, without newline, if it was sent as NDJSON. None without
            ``keep_records``.
    """

    identity: Identity
    times: int = 0
    batch_ids: list[str] = field(default_factory=list)
    line: bytes | None = None
    _value: Any = None

    @property
    def record(self) -> dict[str, Any] | None:
        """The latest version as Evermuse stores it, with a normalised identity. None without ``keep_records``."""
        value = json.loads(self.line) if self.line is not None else self._value
        if value is None:
            return None
        return {**value, "_type": self.identity.type, "_event_at": self.identity.event_at}

    def overwrite(self, received: ReceivedRecord, batch_id: str, keep_records: bool) -> None:
        """Replace the stored version with a newer one and count it."""
        self.times += 1
        self.batch_ids.append(batch_id)
        if len(self.batch_ids) > 2 * MAX_BATCH_IDS:
            del self.batch_ids[:-MAX_BATCH_IDS]
        if keep_records:
            self.line = received.line
            # Store only the bytes of a line, which halves the memory of a long demo. They are parsed when needed.
            self._value = received.value if received.line is None else None


# --- Batches ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BatchLifecycle:
    """Duration of the processing of a batch.

    A batch is LANDING for the first quarter of ``seconds``, then LANDED for a quarter, then PROCESSING.

    Attributes:
        seconds: Seconds from the creation of a batch until it is COMPLETE or FAILED.
        attachment_seconds: Seconds from the creation until all attachments are downloaded.
    """

    seconds: float
    attachment_seconds: float

    @property
    def landed_after(self) -> float:
        """Seconds from the creation until the batch is LANDED and its downloads start."""
        return self.seconds / 4

    def status(self, age: float, fails: bool) -> str:
        """Return the status of a batch that was created ``age`` seconds ago."""
        if age >= self.seconds:
            return "FAILED" if fails else "COMPLETE"
        if age >= self.seconds / 2:
            return "PROCESSING"
        return "LANDED" if age >= self.landed_after else "LANDING"

    def finished_downloads(self, age: float, total: int) -> int:
        """Return how many of ``total`` downloads have ended after ``age`` seconds, with success or without."""
        if age >= self.attachment_seconds:
            return total
        if age < self.landed_after:
            return 0
        return int(total * (age - self.landed_after) / (self.attachment_seconds - self.landed_after))


@dataclass(frozen=True)
class Batch:
    """An accepted request.

    Attributes:
        created_at: Seconds since the epoch.
        accepted: Number of accepted records.
        rejected: Number of rejected records.
        total_errors: Number of errors in the rejected records.
        errors: The first of these errors, as many as a response may contain.
        attachments: Number of attachments that Evermuse downloads.
        fails: The batch ends as FAILED.
        attachments_fail: Number of downloads that fail.
        key: The API key of the request.
    """

    id: str
    workspace: str
    type: str
    created_at: float
    accepted: int
    rejected: int
    total_errors: int
    errors: tuple[RecordError, ...]
    attachments: int
    fails: bool = False
    attachments_fail: int = 0
    key: str = field(default="", repr=False)

    def accepted_content(self) -> dict[str, Any]:
        """Return the published response to the request. The optional field ``errors`` is omitted if there are none."""
        content: dict[str, Any] = {
            "batchId": self.id,
            "acceptedCount": self.accepted,
            "rejectedCount": self.rejected,
            "totalErrorCount": self.total_errors,
        }
        if self.errors:
            content["errors"] = list(self.errors)
        return content

    def status(self, now: float, lifecycle: BatchLifecycle) -> dict[str, Any]:
        """Return the published status object of the batch at the time ``now``."""
        age = now - self.created_at
        status: dict[str, Any] = {
            "batchId": self.id,
            "status": lifecycle.status(age, self.fails),
            "createdAt": int(self.created_at * 1_000),
            "acceptedCount": self.accepted,
            "rejectedCount": self.rejected,
            "totalErrorCount": self.total_errors,
            "source": "api",
            "type": self.type,
        }
        if self.errors:
            status["errors"] = list(self.errors)
        return status | (self._download_status(age, lifecycle) if self.attachments else {})

    def _download_status(self, age: float, lifecycle: BatchLifecycle) -> dict[str, Any]:
        finished = lifecycle.finished_downloads(age, self.attachments)
        failing = min(self.attachments_fail, self.attachments)
        complete = min(finished, self.attachments - failing)  # the failing downloads end last
        if finished == self.attachments:
            status = self._final_download_status(failing)
        else:
            status = "PENDING" if age < lifecycle.landed_after else "IN_PROGRESS"
        return {
            "attachmentDownloadTotal": self.attachments,
            "attachmentDownloadComplete": complete,
            "attachmentDownloadFailed": finished - complete,
            "attachmentDownloadStatus": status,
        }

    def _final_download_status(self, failing: int) -> str:
        if not failing:
            return "COMPLETE"
        return "FAILED" if failing == self.attachments else "PARTIAL_FAILURE"


@dataclass(frozen=True, slots=True)
class IdempotentResponse:
    """The first response to an Idempotency-Key, and the SHA-256 digest of the body of that request."""

    digest: bytes
    body: bytes
    batch_id: str


MAX_ARRIVALS = 100_000
"""Requests in the log of the sandbox. The oldest is forgotten first."""

MAX_NAME = 1_024
"""Characters that an arrival keeps of a path, an API key, a ``_type`` and a ``_product_id``."""

MAX_BATCHES = 100_000
MAX_RECORDS_KEPT = 1_000_000
MAX_IDEMPOTENCY_KEYS = 100_000
MAX_BATCH_IDS = 1_000
"""What is kept of one workspace, and of one record. The oldest is forgotten first, so that a long run needs no more
memory. A record is as old as its first version."""


class Workspace:
    """Batches, records and idempotency keys that the API keys of one workspace share."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.by_id: dict[str, Batch] = {}
        self.records: OrderedDict[Identity, StoredRecord] = OrderedDict()
        self.idempotent_responses: OrderedDict[tuple[str, str], IdempotentResponse] = OrderedDict()
        self._forgotten = 0

    def add_response(self, scope: str, key: str, response: IdempotentResponse) -> None:
        """Store the first response to an Idempotency-Key. ``scope`` is the API key, or empty for all of them."""
        self.idempotent_responses[scope, key] = response
        if len(self.idempotent_responses) > MAX_IDEMPOTENCY_KEYS:
            self.idempotent_responses.popitem(last=False)

    def _forget_oldest_batches(self) -> None:
        # Many at once, because the deletion at the beginning of a list moves all the others.
        if len(self.batches) <= MAX_BATCHES:
            return
        count = max(1, MAX_BATCHES // 10)
        for batch in self.batches[:count]:
            del self.by_id[batch.id]
        del self.batches[:count]
        self._forgotten += count

    def add_batch(self, batch: Batch, records: Iterable[ReceivedRecord], keep_records: bool) -> None:
        """Store a batch and overwrite the earlier versions of its records.

        The records of a batch that will end as FAILED are not stored. They must be sent again in a later batch.
        """
        self.batches.append(batch)
        self.by_id[batch.id] = batch
        self._forget_oldest_batches()
        if batch.fails:
            return
        for received in records:
            identity = received.identity
            stored = self.records.get(identity)
            if stored is None:
                stored = self.records[identity] = StoredRecord(identity)
                if len(self.records) > MAX_RECORDS_KEPT:
                    self.records.popitem(last=False)
            stored.overwrite(received, batch.id, keep_records)

    def list_batches(self, limit: int, before: int | None) -> tuple[list[Batch], int | None]:
        """Return a page of the listing of batches, newest first.

        Args:
            limit: Maximum number of batches.
            before: Position that ends the page; None starts with the newest batch.

        Returns:
            The batches, and the ``before`` of the next page. It is None on the last page.
        """
        # A position counts the batches that were forgotten, so that it means the same batch on every page.
        newest = len(self.batches) if before is None else before - self._forgotten
        end = max(0, min(newest, len(self.batches)))
        start = max(0, end - limit)
        return self.batches[start:end][::-1], self._forgotten + start if start else None

    def list_batches_of(self, key: str, limit: int, before: int | None) -> tuple[list[Batch], int | None]:
        """Return a page as :meth:`list_batches` does, with the batches of one API key only."""
        newest = len(self.batches) if before is None else before - self._forgotten
        end = max(0, min(newest, len(self.batches)))
        positions = [position for position in reversed(range(end)) if self.batches[position].key == key]
        page = [self.batches[position] for position in positions[:limit]]
        return page, self._forgotten + positions[limit - 1] if len(positions) > limit else None


def new_batch_id() -> str:
    """Return a new batch id. It is unique across runs, because the database of the host outlives the sandbox."""
    return f"batch_{uuid4().hex}"
