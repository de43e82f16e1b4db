"""What Evermuse remembers: keys, batches and their life, records by identity, idempotency keys.

Nothing here locks or knows HTTP; `api.py` holds the one lock around it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple
from uuid import uuid4

WRITE = "api:write"
READ = "api:read"

RecordError = dict[str, Any]
Wording = Literal["details", "errors", "nowhere"]


@dataclass(frozen=True)
class ApiKey:
    """What a key may do (`api:write`, `api:read`), and in which workspace."""

    permissions: Collection[str] = frozenset({WRITE, READ})
    workspace: str = "default"


class Identity(NamedTuple):
    """What makes two records the same one; `event_at` in whole seconds."""

    type: str
    vendor_ids: tuple[tuple[str, str], ...]
    event_at: str

    @classmethod
    def of(cls, record_type: str, vendor_ids: Mapping[str, str], event_at: str) -> Identity:
        """The identity of these three fields, normalised as Evermuse does."""
        return cls(record_type.lower(), tuple(sorted(vendor_ids.items())), whole_second(event_at))


def whole_second(event_at: str) -> str:
    """A valid `_event_at` truncated to the second."""
    return event_at[:19] + "Z"


@dataclass(frozen=True, slots=True)
class Received:
    """One record as it came: parsed, and the exact bytes of its line where the body was NDJSON.

    `has_surrogates`: its JSON has such escapes, in pairs or not.
    """

    value: Any
    line: bytes | None = None
    has_surrogates: bool = False

    @property
    def identity(self) -> Identity:
        """The identity; only of a valid record."""
        return Identity.of(self.value["_type"], self.value["_vendor_ids"], self.value["_event_at"])


@dataclass(slots=True)
class StoredRecord:
    """The latest version of one identity.

    `times` counts every accepted arrival, `batch_ids` names them in order. `line` are the bytes of the
    last arrival where it came as NDJSON (without the newline). Without `keep_records`, `line` and
    `record` are None.
    """

    identity: Identity
    times: int = 0
    batch_ids: list[str] = field(default_factory=list)
    line: bytes | None = None
    _value: Any = None

    @property
    def record(self) -> dict[str, Any] | None:
        """The record as Evermuse keeps it: `_type` in lower case, `_event_at` in whole seconds."""
        value = json.loads(self.line) if self.line is not None else self._value
        if value is None:
            return None
        return {**value, "_type": self.identity.type, "_event_at": self.identity.event_at}

    def overwrite(self, received: Received, batch_id: str, keep: bool) -> None:
        """Take a newer arrival in place of what was there."""
        self.times += 1
        self.batch_ids.append(batch_id)
        if keep:
            self.line = received.line
            # A line is parsed when somebody looks: half the memory of a long demo.
            self._value = received.value if received.line is None else None


@dataclass(frozen=True)
class Life:
    """How long a batch takes, and how long its attachments take; seconds from its creation."""

    seconds: float
    attachment_seconds: float

    def status(self, age: float, fails: bool) -> str:
        """The status of a batch at `age` seconds."""
        if age >= self.seconds:
            return "FAILED" if fails else "COMPLETE"
        if age >= self.seconds / 2:
            return "PROCESSING"
        return "LANDED" if age >= self.seconds / 4 else "LANDING"

    def downloaded(self, age: float, total: int) -> int:
        """How many of `total` attachments are through, well or not; none before the batch landed."""
        landed = self.seconds / 4
        if age >= self.attachment_seconds:
            return total
        if age < landed:
            return 0
        return int(total * (age - landed) / (self.attachment_seconds - landed))


@dataclass(frozen=True)
class Batch:
    """One accepted request. `created_at` in seconds since the epoch; `attachments` to be downloaded."""

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

    def status(self, now: float, life: Life) -> dict[str, Any]:
        """The published status object at the moment `now`."""
        age = now - self.created_at
        status: dict[str, Any] = {
            "batchId": self.id,
            "status": life.status(age, self.fails),
            "createdAt": int(self.created_at * 1_000),
            "acceptedCount": self.accepted,
            "rejectedCount": self.rejected,
            "totalErrorCount": self.total_errors,
            "source": "api",
            "type": self.type,
        }
        if self.errors:
            status["errors"] = list(self.errors)
        return status | (self._attachments(age, life) if self.attachments else {})

    def _attachments(self, age: float, life: Life) -> dict[str, Any]:
        through = life.downloaded(age, self.attachments)
        failing = min(self.attachments_fail, self.attachments)
        complete = min(through, self.attachments - failing)
        return {
            "attachmentDownloadTotal": self.attachments,
            "attachmentDownloadComplete": complete,
            "attachmentDownloadFailed": through - complete,
            "attachmentDownloadStatus": self._attachment_status(through, failing, age < life.seconds / 4),
        }

    def _attachment_status(self, through: int, failing: int, waiting: bool) -> str:
        if through < self.attachments:
            return "PENDING" if waiting else "IN_PROGRESS"
        if not failing:
            return "COMPLETE"
        return "FAILED" if failing == self.attachments else "PARTIAL_FAILURE"


@dataclass(frozen=True, slots=True)
class Remembered:
    """The first answer to an Idempotency-Key, and the digest of the body that earned it."""

    digest: bytes
    answer: bytes
    batch_id: str


class Workspace:
    """The batches, records and idempotency keys that the keys of one workspace share."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.by_id: dict[str, Batch] = {}
        self.records: dict[Identity, StoredRecord] = {}
        self.remembered: dict[str, Remembered] = {}

    def keep(self, batch: Batch, records: Iterable[Received], keep_records: bool) -> None:
        """Add a batch and let its records overwrite the earlier versions.

        The records of a batch that is going to fail never get into the lake: only a later batch that
        completes brings them there.
        """
        self.batches.append(batch)
        self.by_id[batch.id] = batch
        if batch.fails:
            return
        for received in records:
            identity = received.identity
            stored = self.records.get(identity)
            if stored is None:
                stored = self.records[identity] = StoredRecord(identity)
            stored.overwrite(received, batch.id, keep_records)

    def page(self, limit: int, before: int | None) -> tuple[list[Batch], int | None]:
        """Up to `limit` batches, newest first, older than position `before`; and the next position."""
        end = len(self.batches) if before is None else min(before, len(self.batches))
        start = max(0, end - limit)
        return self.batches[start:end][::-1], start or None


def new_batch_id() -> str:
    """An id that no run of the sandbox has given before: the host's database outlives a run."""
    return f"batch_{uuid4().hex}"
