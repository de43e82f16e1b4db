"""What `test_versions.py` plays with: a model of every version, a wire that is listened to, and
senders and hosts that stop half way.

The model knows what was committed and what Evermuse took, from the wire alone; of the pipeline it knows nothing.
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
from tests.records import record

GOOD, POISON, HEAVY = "good", "poison", "heavy"
KINDS = {
    GOOD: {},
    # Valid for us; refused by Evermuse, which looks closer at addresses.
    POISON: {"_participants": [{"id": "x", "role": "external", "email": "someone@ab--1.example"}]},
    HEAVY: {},
}
HEAVY_BYTES = 5_000
"""More than something on the way to Evermuse lets through: 413, also for the record alone."""


# --- the model ----------------------------------------------------------------------------------------


@dataclass
class Version:
    """One version of one identity, and what Evermuse has made of it so far."""

    serial: int
    identity: int
    kind: str
    product: int = 0
    pk: int = 0
    was_accepted: bool = False
    key: str = ""
    """Under which it was sent last."""
    was_discarded: bool = False
    failures: int = 0

    def record(self) -> dict[str, Any]:
        text = "x" * HEAVY_BYTES if self.kind == HEAVY else "x"
        data = {"serial": self.serial, "text": text}
        return record(self.identity, _product_id=f"p{self.product}", data=data, **KINDS[self.kind])


@dataclass
class Model:
    """The committed versions, in the order of their enqueueing, and the store that Evermuse must end up with."""

    max_resends: int
    versions: dict[int, Version] = field(default_factory=dict)
    by_pk: dict[int, Version] = field(default_factory=dict)
    store: dict[int, Version] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def commit(self, versions: list[Version]) -> None:
        for version in versions:
            self.versions[version.serial] = version
            self.by_pk[version.pk] = version

    def newer(self, version: Version) -> list[Version]:
        return [v for v in self.by_pk.values() if v.identity == version.identity and v.pk > version.pk]

    def last(self) -> list[Version]:
        newest = {v.identity: v for v in sorted(self.by_pk.values(), key=lambda version: version.pk)}
        return list(newest.values())

    def is_overtaken(self, version: Version) -> bool:
        return any(newer.was_accepted for newer in self.newer(version))

    def may_be_rejected(self, version: Version) -> bool:
        return version.kind != GOOD or version.failures > self.max_resends

    def sent(self, serials: list[int]) -> list[Version]:
        """The versions of a body. What was never committed must never leave."""
        for unknown in set(serials) - set(self.versions):
            self.wrong.append(f"#{unknown} was sent and never committed")
        return [self.versions[serial] for serial in serials if serial in self.versions]

    def take(self, versions: list[Version], *, fails: bool) -> None:
        """Evermuse says 202 to a body that it has not seen under this key."""
        for version in versions:
            if version.kind == POISON:
                continue
            if self.is_overtaken(version):
                self.wrong.append(f"{version} was accepted after a newer one")
            version.was_accepted = True
            if fails:
                version.failures += 1
            else:
                self.store[version.identity] = version


# --- the wire -----------------------------------------------------------------------------------------


UNDECIDED = (BatchState.SEALED, BatchState.IN_DOUBT, BatchState.SENDING, None)
"""Of a batch that was sent; None where there is no batch of that key any more."""


class Wire:
    """Everything between the senders and one sandbox: bodies are read in passing, trouble waits its turn."""

    def __init__(self, alias: str, sandbox: Sandbox, model: Model) -> None:
        self.alias, self.sandbox, self.model = alias, sandbox, model
        self.troubles: deque[Fault] = deque()
        self.lets_through = HEAVY_BYTES
        self.bodies: dict[str, bytes] = {}
        self.members: dict[str, list[Version]] = {}
        self.remembered: set[str] = set()
        self.purged: set[str] = set()

    def post(self, client: Client, body: bytes, *, key: str, is_late: bool, **options: Any) -> Answer:
        if self.bodies.setdefault(key, body) != body:
            self.model.wrong.append(f"{key} came with two bodies")
        self.members[key] = self.model.sent(serials_of(body, options["content_type"]))
        for version in self.members[key]:
            if not is_late:
                self.look_at(version, key)
            version.key = key
        if len(body) > self.lets_through:
            self.sandbox.fail_next(Fault(status=413))
        elif self.troubles:
            self.sandbox.fail_next(self.troubles.popleft())
        try:
            return client.ingest(body, key=key, **options)
        finally:
            self.sandbox.clear_faults()  # a refused key uses none up

    def look_at(self, version: Version, key: str) -> None:
        if self.model.is_overtaken(version):
            self.model.wrong.append(f"{version} was sent after a newer one was accepted")
        if version.key not in ("", key) and self.is_undecided(version.key):
            self.model.wrong.append(f"{version} was sent under a second key, and the first is undecided")

    def is_undecided(self, key: str) -> bool:
        states = OutboxBatch.objects.using(self.alias).filter(key=key).values_list("state", flat=True)
        return key not in self.purged and states.first() in UNDECIDED

    def hear(self, arrival: Any) -> None:
        """The sandbox has decided on an arrival."""
        key = arrival.idempotency_key
        if arrival.method != "POST" or not arrival.batch_id or arrival.replayed or key not in self.members:
            return
        self.remembered.add(key)
        self.model.take(self.members[key], fails=bool(arrival.fault and arrival.fault.batch_fails))

    def forget_keys(self) -> None:
        self.remembered.clear()
        self.sandbox.forget_idempotency_keys()

    def stored(self) -> dict[int, int]:
        """Identity → serial, as the sandbox has them."""
        told = [stored.record for stored in self.sandbox.records()]
        return {int(r["_vendor_ids"]["message_id"][4:]): r["data"]["serial"] for r in told if r}


def serials_of(body: bytes, content_type: str) -> list[int]:
    if "ndjson" in content_type:
        read = [json.loads(line) for line in body.splitlines()]
    else:
        read = json.loads(body)
        read = read["records"] if isinstance(read, dict) else read
    return [line["data"]["serial"] for line in read]


class Tapped:
    """A client whose calls pass over the wire, and stop where ``stop_at`` wants them to."""

    def __init__(self, wire: Wire, client: Client, stop_at: Callable[[str], bool]) -> None:
        self.wire, self.client, self.stop_at = wire, client, stop_at
        self.last_key = ""
        self.seconds = 0.0

    def ingest(self, body: bytes, *, key: str, **options: Any) -> Answer:
        self.last_key = key
        late = self.stop_at("before the POST")
        answer = self.wire.post(self.client, body, key=key, is_late=late, **options)
        self.stop_at("after the POST")
        return answer

    def batch(self, remote_id: str) -> Answer:
        answer = self.client.batch(remote_id)
        self.stop_at("after the look")
        return answer

    def batches(self, **options: Any) -> Answer:
        answer = self.client.batches(**options)
        self.stop_at("after the look")
        return answer

    def close(self) -> None:
        self.client.close()


def never(point: str) -> bool:
    """Stops nowhere."""
    return False


class OnTheClock:
    """A throttle that has a slot for everybody, but for a hold on the test's clock."""

    def __init__(self, clock: Any, stop_at: Callable[[str], bool] = never) -> None:
        self.clock, self.stop_at = clock, stop_at
        self.until = 0.0

    def wait(self) -> float:
        return max(0.0, self.until - self.clock.monotonic())

    def reserve(self, patience: float) -> Reservation:
        return Reservation(self.wait(), taken=not self.wait())

    def acquire(self) -> Admission:
        self.stop_at("at the door")
        return Admission(self.wait(), None if self.wait() else "permit")

    def release(self, permit: str, *, is_send: bool) -> None:
        """Nobody counts."""

    def block(self, seconds: float) -> None:
        self.until = self.clock.monotonic() + seconds


# --- those who stop half way --------------------------------------------------------------------------

POINTS = ("at the door", "before the POST", "after the POST", "after the look")


class Killed(BaseException):
    """Ends a thread that stands for a process."""


class Stopping:
    """A step in a thread of its own, with a connection of its own, that stops on its way: a process that is
    paused, and for all that the others know dead.
    """

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.at = ""
        self.error: BaseException | None = None
        self._dies = False
        self._stands, self._go = threading.Event(), threading.Event()

    def start(self, step: Callable[[], object]) -> None:
        """Runs ``step`` until it stops or ends."""
        self._thread = threading.Thread(target=self._run, args=(step,), daemon=True)
        self._thread.start()
        self._await()

    def stop(self, at: str) -> None:
        """Called by the step itself: stands here until it is let go."""
        self.at = at
        self._stands.set()
        self._go.wait()
        if self._dies:
            raise Killed

    def go_on(self) -> None:
        """The step goes on to its end."""
        self._stands.clear()
        self.at = ""
        self._go.set()
        self._await()

    def kill(self) -> None:
        """Ends the thread. Nothing that it writes in doing so may matter any more."""
        self._dies = True
        self._go.set()
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
            self._stands.set()

    def _await(self) -> None:
        assert self._stands.wait(60), "nobody may wait so long"
        if self.error:
            raise self.error


class Sender(Stopping):
    """A sender or tracker that stops at the first time that it comes to ``point``."""

    def __init__(self, context: Any, wire: Wire, point: str) -> None:
        super().__init__(context.using)
        self.point = point
        self.client = Tapped(wire, Client(wire.sandbox.url, lambda: "em_sk_sandbox", 30), self.stop_at)
        throttle = OnTheClock(context.throttle.clock, self.stop_at)
        self.context = dataclasses.replace(context, client=self.client, throttle=throttle)

    def stop_at(self, point: str) -> bool:
        """Whether it stood here for a while."""
        if point != self.point:
            return False
        self.point = ""
        self.stop(point)
        return True


class Host(Stopping):
    """A transaction of the host that stays open: others commit higher ids before it does."""

    def __init__(self, alias: str, versions: list[Version]) -> None:
        super().__init__(alias)
        self.versions = versions
        self.commits = True

    def write(self) -> None:
        try:
            with transaction.atomic(using=self.alias):
                enqueue(self.alias, self.versions)
                self.stop("before the commit")
                if not self.commits:
                    raise RolledBack
        except RolledBack:
            pass


class RolledBack(Exception):
    """The host changes its mind."""


def enqueue(alias: str, versions: list[Version]) -> None:
    """One by one, in the transaction that is open."""
    for version in versions:
        version.pk = outbox.enqueue(version.record(), using=alias).pk


def enqueue_together(alias: str, versions: list[Version]) -> None:
    """As one call; a bulk insert gives no ids back on every database."""
    outbox.enqueue_many((version.record() for version in versions), using=alias)
    newest = OutboxRecord.rows.using(alias).order_by("-pk")[: len(versions)]
    pks = {row.envelope()["data"]["serial"]: row.pk for row in newest}
    for version in versions:
        version.pk = pks[version.serial]
