"""Helpers of ``test_versions.py``: a model of all versions, an observed wire, and threads that can be paused.

The model knows only what was committed and, from the wire, what Evermuse accepted. It knows nothing of the delivery.
"""

from __future__ import annotations

import dataclasses
import json
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django.db import connections, transaction

from evermuse_outbox import outbox
from evermuse_outbox.evermuse.api import Answer, Client
from evermuse_outbox.models import BatchState, OutboxBatch, OutboxRecord
from evermuse_outbox.ratelimit import Admission, Reservation
from evermuse_outbox.sandbox import Fault, Sandbox
from tests.records import make_invalid, record

GOOD, POISON, LARGE = "good", "poison", "large"
"""The kinds of versions. The stored line of a poison one is changed, so that Evermuse refuses it."""

LARGE_BYTES = 5_000
"""More than a proxy before Evermuse lets through: 413, also for the record alone."""


# --- the model ----------------------------------------------------------------------------------------


@dataclass
class Version:
    """One version of one identity, and what has happened to it."""

    serial: int
    identity: int
    kind: str
    product: int = 0
    pk: int = 0
    is_accepted: bool = False
    key: str = ""
    """The idempotency key under which it was sent last."""
    is_discarded: bool = False
    failures: int = 0

    def record(self) -> dict[str, Any]:
        text = "x" * LARGE_BYTES if self.kind == LARGE else "x"
        data = {"serial": self.serial, "text": text}
        return record(self.identity, _product_id=f"p{self.product}", data=data)


@dataclass
class Model:
    """The committed versions in the order of enqueueing, and the store that Evermuse must have at the end.

    ``violations`` are the broken guarantees.
    """

    max_resends: int
    versions: dict[int, Version] = field(default_factory=dict)
    by_pk: dict[int, Version] = field(default_factory=dict)
    store: dict[int, Version] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    def commit(self, versions: list[Version]) -> None:
        for version in versions:
            self.versions[version.serial] = version
            self.by_pk[version.pk] = version

    def newer(self, version: Version) -> list[Version]:
        return [v for v in self.by_pk.values() if v.identity == version.identity and v.pk > version.pk]

    def last_versions(self) -> list[Version]:
        """Return the newest version of each identity."""
        newest = {v.identity: v for v in sorted(self.by_pk.values(), key=lambda version: version.pk)}
        return list(newest.values())

    def is_overtaken(self, version: Version) -> bool:
        return any(newer.is_accepted for newer in self.newer(version))

    def may_be_rejected(self, version: Version) -> bool:
        return version.kind != GOOD or version.failures > self.max_resends

    def find(self, serials: list[int]) -> list[Version]:
        """Return the versions of a body. A version that was never committed must never be sent."""
        for unknown in set(serials) - set(self.versions):
            self.violations.append(f"#{unknown} was sent and never committed")
        return [self.versions[serial] for serial in serials if serial in self.versions]

    def accept(self, versions: list[Version], *, fails: bool) -> None:
        """Note a 202 for a body that is new under its key; ``fails``: the batch becomes FAILED later."""
        for version in versions:
            if version.kind == POISON:
                continue
            if self.is_overtaken(version):
                self.violations.append(f"{version} was accepted after a newer one")
            version.is_accepted = True
            if fails:
                version.failures += 1
            else:
                self.store[version.identity] = version


# --- the wire -----------------------------------------------------------------------------------------


UNDECIDED = (BatchState.SEALED, BatchState.IN_DOUBT, BatchState.SENDING, None)
"""States of a sent batch that Evermuse may still accept; None if no batch has that key."""


class Wire:
    """The connection between the senders and one sandbox: it reads each body, and causes the next fault."""

    def __init__(self, alias: str, sandbox: Sandbox, model: Model) -> None:
        self.alias, self.sandbox, self.model = alias, sandbox, model
        self.faults: deque[Fault] = deque()
        self.max_bytes = LARGE_BYTES
        self.bodies: dict[str, bytes] = {}
        self.members: dict[str, list[Version]] = {}
        self.remembered_keys: set[str] = set()
        self.purged_keys: set[str] = set()

    def post(
        self, client: Client, body: bytes, *, key: str, is_paused_before: bool, **options: Any
    ) -> Answer:
        if self.bodies.setdefault(key, body) != body:
            self.model.violations.append(f"{key} came with two bodies")
        self.members[key] = self.model.find(serials_of(body, options["content_type"]))
        for version in self.members[key]:
            if not is_paused_before:
                self._check_version(version, key)
            version.key = key
        if len(body) > self.max_bytes:
            self.sandbox.fail_next(Fault(status=413))
        elif self.faults:
            self.sandbox.fail_next(self.faults.popleft())
        try:
            return client.ingest(body, key=key, **options)
        finally:
            self.sandbox.clear_faults()  # a request with a refused key causes no fault

    def _check_version(self, version: Version, key: str) -> None:
        if self.model.is_overtaken(version):
            self.model.violations.append(f"{version} was sent after a newer one was accepted")
        if version.key not in ("", key) and self._is_undecided(version.key):
            self.model.violations.append(f"{version} was sent under a second key, and the first is undecided")

    def _is_undecided(self, key: str) -> bool:
        states = OutboxBatch.objects.using(self.alias).filter(key=key).values_list("state", flat=True)
        return key not in self.purged_keys and states.first() in UNDECIDED

    def note_arrival(self, arrival: Any) -> None:
        """Note how the sandbox answered a request."""
        key = arrival.idempotency_key
        if arrival.method != "POST" or not arrival.batch_id or arrival.replayed or key not in self.members:
            return
        self.remembered_keys.add(key)
        self.model.accept(self.members[key], fails=bool(arrival.fault and arrival.fault.batch_fails))

    def forget_keys(self) -> None:
        self.remembered_keys.clear()
        self.sandbox.forget_idempotency_keys()

    def stored(self) -> dict[int, int]:
        """Return identity → serial of the version that the sandbox has stored."""
        records = [stored.record for stored in self.sandbox.records() if stored.record]
        return {int(fields["_vendor_ids"]["message_id"][4:]): fields["data"]["serial"] for fields in records}


def serials_of(body: bytes, content_type: str) -> list[int]:
    if "ndjson" in content_type:
        records = [json.loads(line) for line in body.splitlines()]
    else:
        parsed = json.loads(body)
        records = parsed["records"] if isinstance(parsed, dict) else parsed
    return [fields["data"]["serial"] for fields in records]


class ObservedClient:
    """A client that sends over the wire, and calls ``pause_at`` before and after a request."""

    def __init__(self, wire: Wire, client: Client, pause_at: Callable[[str], bool]) -> None:
        self.wire, self.client, self.pause_at = wire, client, pause_at
        self.last_key = ""
        self.seconds = 0.0

    def ingest(self, body: bytes, *, key: str, **options: Any) -> Answer:
        self.last_key = key
        is_paused_before = self.pause_at("before the POST")
        answer = self.wire.post(self.client, body, key=key, is_paused_before=is_paused_before, **options)
        self.pause_at("after the POST")
        return answer

    def batch(self, remote_id: str) -> Answer:
        answer = self.client.batch(remote_id)
        self.pause_at("after the read")
        return answer

    def batches(self, **options: Any) -> Answer:
        answer = self.client.batches(**options)
        self.pause_at("after the read")
        return answer

    @property
    def is_connected(self) -> bool:
        return self.client.is_connected

    @property
    def has_connected(self) -> bool:
        return self.client.has_connected

    def connect(self) -> None:
        self.client.connect()

    def close(self) -> None:
        self.client.close()


def never_pause(point: str) -> bool:
    """Pause at no point."""
    return False


class UnlimitedThrottle:
    """A throttle without a rate limit. Only ``block`` delays requests, by the test's clock."""

    def __init__(self, clock: Any, pause_at: Callable[[str], bool] = never_pause) -> None:
        self.clock, self.pause_at = clock, pause_at
        self.blocked_until = 0.0

    def wait(self) -> float:
        return max(0.0, self.blocked_until - self.clock.monotonic())

    def reserve(self, patience: float) -> Reservation:
        return Reservation(self.wait(), taken=not self.wait())

    def acquire(self) -> Admission:
        self.pause_at("before the permit")
        return Admission(self.wait(), None if self.wait() else "permit")

    def release(self, permit: str, *, is_comparable: bool) -> None:
        """Do nothing, because permits are not counted."""

    def block(self, seconds: float) -> None:
        self.blocked_until = self.clock.monotonic() + seconds


# --- threads that can be paused -----------------------------------------------------------------------

PAUSE_POINTS = ("before the permit", "before the POST", "after the POST", "after the read")


class Killed(BaseException):
    """Ends a thread that represents a process."""


class PausableThread:
    """A step in a thread of its own, with a connection of its own, which pauses on its way.

    It represents a process that is paused. Other processes cannot tell it from a dead one.
    """

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.paused_at = ""
        self.error: BaseException | None = None
        self._dies = False
        self._is_paused_or_ended, self._may_go_on = threading.Event(), threading.Event()

    def start(self, step: Callable[[], object]) -> None:
        """Run ``step`` until it pauses or ends."""
        self._thread = threading.Thread(target=self._run, args=(step,), daemon=True)
        self._thread.start()
        self._await()

    def pause(self, point: str) -> None:
        """Pause the step, which calls this itself, until another thread calls ``go_on`` or ``kill``."""
        self.paused_at = point
        self._is_paused_or_ended.set()
        self._may_go_on.wait()
        if self._dies:
            raise Killed

    def go_on(self) -> None:
        """Let the step go on to its end."""
        self._is_paused_or_ended.clear()
        self.paused_at = ""
        self._may_go_on.set()
        self._await()

    def kill(self) -> None:
        """End the thread. What it writes while it ends must not matter."""
        self._dies = True
        self._may_go_on.set()
        self._thread.join(60)

    def _run(self, step: Callable[[], object]) -> None:
        try:
            step()
        except Killed:
            pass
        except BaseException as error:
            self.error = error
        finally:
            connections[self.alias].close()
            self._is_paused_or_ended.set()

    def _await(self) -> None:
        assert self._is_paused_or_ended.wait(60), "the step neither pauses nor ends"
        if self.error:
            raise self.error


class PausableSender(PausableThread):
    """A sender or poller that pauses when it reaches ``point`` for the first time."""

    def __init__(self, context: Any, wire: Wire, point: str) -> None:
        super().__init__(context.using)
        self.point = point
        self.client = ObservedClient(
            wire, Client(wire.sandbox.url, lambda: "em_sk_sandbox", 30), self.pause_at
        )
        throttle = UnlimitedThrottle(context.throttle.clock, self.pause_at)
        self.context = dataclasses.replace(context, client=self.client, throttle=throttle)

    def pause_at(self, point: str) -> bool:
        """Pause if ``point`` is the chosen one and reached for the first time; return whether it paused."""
        if point != self.point:
            return False
        self.point = ""
        self.pause(point)
        return True


class OpenTransaction(PausableThread):
    """A transaction of the host that stays open while others commit higher ids."""

    def __init__(self, alias: str, versions: list[Version]) -> None:
        super().__init__(alias)
        self.versions = versions
        self.must_commit = True

    def write(self) -> None:
        try:
            with transaction.atomic(using=self.alias):
                enqueue_one_by_one(self.alias, self.versions)
                self.pause("before the commit")
                if not self.must_commit:
                    raise RolledBack
        except RolledBack:
            pass


class RolledBack(Exception):
    """Rolls a transaction of the host back."""


def enqueue_one_by_one(alias: str, versions: list[Version]) -> None:
    """Enqueue versions one by one, in the open transaction."""
    for version in versions:
        row = outbox.enqueue(version.record(), using=alias)
        version.pk = row.pk
        if version.kind == POISON:
            make_invalid(row)


def enqueue_together(alias: str, versions: list[Version]) -> None:
    """Enqueue versions with one call. The ids are read back, because MariaDB returns none from a bulk insert."""
    outbox.enqueue_many((version.record() for version in versions), using=alias)
    newest = OutboxRecord.rows.using(alias).order_by("-pk")[: len(versions)]
    rows = {row.envelope()["data"]["serial"]: row for row in newest}
    for version in versions:
        version.pk = rows[version.serial].pk
        if version.kind == POISON:
            make_invalid(rows[version.serial])
