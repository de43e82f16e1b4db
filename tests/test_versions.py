"""The latest version wins, in any order of events.

A state machine of Hypothesis runs hosts, senders, operators, faults and time in random order. After each step it
compares the states of the records and the requests with a model that knows nothing of the delivery
(``versions_model.py``). At the end of each run, time passes until nothing is left to do. Then Evermuse must have:

- of each identity, the newest version that it ever accepted;
- so the last committed version, unless it is refused for an error of its own, Evermuse failed it more often than
  MAX_RESENDS, or an operator discarded it. Then the version accepted before it stays, and no older one follows.

``VERSIONS_EXAMPLES=500 VERSIONS_STEPS=50`` runs longer, and with other random steps each time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections import Counter
from types import SimpleNamespace

import pytest
from django.db import connections, transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from evermuse_outbox.delivery.context import open_context
from evermuse_outbox.delivery.loop import Step, poll, relay, send_next
from evermuse_outbox.delivery.polling import poll_due_batch
from evermuse_outbox.evermuse.api import Client
from evermuse_outbox.models import (
    OutboxAttempt,
    OutboxBatch,
    OutboxGroup,
    OutboxRecord,
    OutboxRejection,
    OutboxWorkspace,
    RecordState,
)
from evermuse_outbox.models.batch import OPEN
from evermuse_outbox.operations import retry_records
from evermuse_outbox.sandbox import Fault, Sandbox
from evermuse_outbox.upkeep import purge_old_rows, rescue_batches
from tests.versions_model import (
    GOOD,
    LARGE,
    LARGE_BYTES,
    PAUSE_POINTS,
    POISON,
    Model,
    ObservedClient,
    OpenTransaction,
    PausableSender,
    RolledBack,
    UnlimitedThrottle,
    Version,
    Wire,
    enqueue_one_by_one,
    enqueue_together,
    never_pause,
)

EXAMPLES = int(os.environ.get("VERSIONS_EXAMPLES", 0))
SETTINGS = settings(
    max_examples=EXAMPLES or 12,
    stateful_step_count=int(os.environ.get("VERSIONS_STEPS", 40)),
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
KEY = "em_sk_sandbox"
ERROR_STYLES = (
    {"errors_in": "details"},
    {"errors_in": "nowhere"},
    {"errors_in": "errors", "strict": True},
    {"errors_in": "nowhere", "strict": True},
)
"""How Evermuse may report bad records: arguments of the ``Sandbox``."""

RETENTION_DAYS = 0.5
FAULTS = {
    "500": Fault.server_error(),
    "html 502": Fault.bad_gateway(),
    "502 after handling": Fault.bad_gateway(after_handling=True),
    "drop before": Fault.drop_before(),
    "drop after": Fault.drop_after(),
    "garbage": Fault.garbage(),
    "other counts": Fault(
        status=202,
        body={"batchId": "b", "acceptedCount": 70, "rejectedCount": 0, "totalErrorCount": 0},
        after_handling=True,
    ),
    "429": Fault.too_many(retry_after=20),
    "failed": Fault.failed_batch(),
}
UNFINISHED = (RecordState.PENDING, RecordState.IN_FLIGHT)
UNSENT = (RecordState.PENDING, RecordState.REJECTED)
FINISHED = (RecordState.DELIVERED, RecordState.SUPERSEDED, RecordState.DISCARDED)
TABLES = (OutboxAttempt, OutboxRejection, OutboxRecord, OutboxBatch, OutboxGroup, OutboxWorkspace)

pytestmark = [pytest.mark.commits, pytest.mark.long]

new_versions = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([GOOD, GOOD, GOOD, POISON, LARGE]), st.integers(0, 1)),
    min_size=1,
    max_size=2,
)
indexes = st.sets(st.integers(0, 5), min_size=1, max_size=3)


def needs_record(*states):
    """Return the precondition that a record is in one of these states."""
    return precondition(lambda self: self.in_states(*states))


def pick(rows, numbers):
    """Return the rows at these numbers, modulo the number of rows."""
    return sorted({rows[number % len(rows)] for number in numbers})


class Versions(RuleBasedStateMachine):
    """One run on one database."""

    def __init__(self, alias, services):
        super().__init__()
        self.alias, self.services = alias, services
        self.serial = 0
        self.states = {}
        self.paused_senders, self.open_transactions = [], []

    @initialize(style=st.integers(0, len(ERROR_STYLES) - 1), max_resends=st.integers(0, 1))
    def open(self, style, max_resends):
        self.sandbox = self.services.sandboxes[style]
        self.sandbox.reset()
        self.clock = self.services.clock
        self.model = Model(max_resends)
        self.wire = self.services.wires[style] = Wire(self.alias, self.sandbox, self.model)
        client = ObservedClient(self.wire, self.services.clients[style], never_pause)
        self.context = dataclasses.replace(
            open_context(self.alias, "default"),
            client=client,
            throttle=UnlimitedThrottle(self.clock),
            clock=self.clock.clock(),
        )
        self.change_limits(max_resends=max_resends)

    def in_states(self, *states):
        return sorted(pk for pk, state in self.states.items() if state in states)

    # --- hosts ----------------------------------------------------------------------------------------

    def make_versions(self, drawn):
        versions = []
        for identity, kind, product in drawn:
            self.serial += 1
            versions.append(Version(self.serial, identity, kind, product))
        return versions

    @rule(drawn=new_versions)
    def enqueue(self, drawn):
        self.write(drawn, enqueue_one_by_one)

    @rule(drawn=new_versions)
    def enqueue_together(self, drawn):
        self.write(drawn, enqueue_together)

    def write(self, drawn, step):
        versions = self.make_versions(drawn)
        with transaction.atomic(using=self.alias):
            step(self.alias, versions)
        pks = [version.pk for version in versions]
        assert pks == sorted(pks)
        self.model.commit(versions)

    @rule(drawn=new_versions)
    def roll_back(self, drawn):
        with contextlib.suppress(RolledBack), transaction.atomic(using=self.alias):
            enqueue_one_by_one(self.alias, self.make_versions(drawn))
            raise RolledBack

    @precondition(lambda self: self.alias != "default" and len(self.open_transactions) < 2)
    @rule(drawn=new_versions)
    def write_and_stay_open(self, drawn):
        opened = OpenTransaction(self.alias, self.make_versions(drawn))
        opened.start(opened.write)
        self.open_transactions.append(opened)

    @precondition(lambda self: self.open_transactions)
    @rule(number=st.integers(0, 1), must_commit=st.booleans())
    def end_an_open_transaction(self, number, must_commit):
        transactions = self.open_transactions
        self.end_transaction(transactions[number % len(transactions)], must_commit)

    def end_transaction(self, opened, must_commit):
        self.open_transactions.remove(opened)
        opened.must_commit = must_commit
        opened.go_on()
        if must_commit:
            self.model.commit(opened.versions)

    # --- senders --------------------------------------------------------------------------------------

    @needs_record(*UNFINISHED)
    @rule(limit=st.sampled_from([1, 1, 2, 100]))
    def send(self, limit):
        for _ in range(limit):
            if send_next(self.context) is not Step.SENT:
                break

    @needs_record(RecordState.IN_FLIGHT)
    @rule(after=st.sampled_from([0, 3, 35, 70]))
    def poll(self, after):
        self.clock.move(after)
        poll(self.context, 60)

    @needs_record(*UNFINISHED)
    @rule(rounds=st.integers(1, 4), seconds=st.sampled_from([3, 35, 70]))
    def work_for_a_while(self, rounds, seconds):
        for _ in range(rounds):
            relay(self.context, 60)
            self.clock.move(seconds)
            poll(self.context, 60)

    @needs_record(*UNFINISHED)
    @precondition(lambda self: len(self.paused_senders) < 3)
    @rule(point=st.sampled_from(PAUSE_POINTS), step=st.sampled_from([send_next, send_next, poll_due_batch]))
    def pause_a_sender(self, point, step):
        sender = PausableSender(self.context, self.wire, point)
        sender.start(lambda: step(sender.context))
        if sender.paused_at:
            self.paused_senders.append(sender)
        else:
            sender.client.close()

    @precondition(lambda self: self.paused_senders)
    @rule(number=st.integers(0, 2))
    def let_a_paused_sender_go_on(self, number):
        self.go_on(self.paused_senders[number % len(self.paused_senders)])

    def go_on(self, sender):
        if self.would_post_too_late(sender):
            return
        self.paused_senders.remove(sender)
        sender.go_on()
        sender.client.close()

    def would_post_too_late(self, sender):
        """Return whether a paused sender would POST a batch that is finished, under a key that Evermuse forgot.

        A process may pause between its last check of the lease and the POST until the batch is finished without it.
        Then only Evermuse's memory of keys prevents a repetition. No client can prevent it if the key is forgotten.
        """
        if sender.paused_at != "before the POST":
            return False
        key = sender.client.last_key
        is_open = OutboxBatch.objects.using(self.alias).open().filter(key=key).exists()
        return not is_open and key not in self.wire.remembered_keys

    @rule(after=st.sampled_from([0, 200, 86_400, 86_400]))
    def maintain(self, after):
        self.clock.move(after)
        rescue_batches(self.alias, self.clock.clock())
        if not self.open_transactions:  # the purge may not wait for transactions longer than the retention
            self.purge()

    def purge(self):
        keys = OutboxBatch.objects.using(self.alias).values_list("key", flat=True)
        before = set(keys)
        purge_old_rows(self.alias, self.clock.clock(), RETENTION_DAYS)
        self.wire.purged_keys |= before - set(keys.all())
        gone = set(self.states) - set(OutboxRecord.rows.using(self.alias).values_list("pk", flat=True))
        assert all(self.states.pop(pk) in FINISHED for pk in gone)

    # --- operators ------------------------------------------------------------------------------------

    @needs_record(RecordState.REJECTED)
    @rule(numbers=indexes)
    def retry_records(self, numbers):
        chosen = pick(self.in_states(RecordState.REJECTED), numbers)
        result = retry_records(self.alias, chosen)
        assert set(result.refused) >= {pk for pk in chosen if self.is_overtaken(pk, "is_accepted")}
        assert set(result.refused) <= {pk for pk in chosen if self.is_overtaken(pk, "key")}
        assert set(result.reopened) == set(chosen) - set(result.refused)
        for pk, newer in result.refused.items():
            assert self.model.by_pk[newer] in self.model.newer(self.model.by_pk[pk])

    def is_overtaken(self, pk, attribute):
        """Return whether a newer version is unfinished or delivered, or has the attribute of the model set."""
        unfinished_or_delivered = self.in_states(*UNFINISHED, RecordState.DELIVERED)
        newer = self.model.newer(self.model.by_pk[pk])
        return any(getattr(version, attribute) or version.pk in unfinished_or_delivered for version in newer)

    @needs_record(*UNSENT)
    @rule(numbers=indexes)
    def discard(self, numbers):
        chosen = pick(self.in_states(*UNSENT), numbers)
        assert OutboxRecord.objects.using(self.alias).filter(pk__in=chosen).discard() == len(chosen)
        for pk in chosen:
            self.model.by_pk[pk].is_discarded = True

    # --- Evermuse and the settings --------------------------------------------------------------------

    @precondition(lambda self: len(self.wire.faults) < 4)
    @rule(name=st.sampled_from([*sorted(FAULTS), "failed", "failed"]), times=st.integers(1, 3))
    def cause_faults(self, name, times):
        self.wire.faults.extend([FAULTS[name]] * times)

    @rule(change=st.sampled_from(["limits", "key", "size", "memory", "faults"]), data=st.data())
    def change_surroundings(self, change, data):
        match change:
            case "limits":
                records, body_format = st.sampled_from([1, 2, 3, 10]), st.sampled_from(["ndjson", "array"])
                self.change_limits(max_batch_records=data.draw(records), body_format=data.draw(body_format))
            case "key":
                self.refuse_key(data.draw(st.sampled_from([[], ["api:read"], ["api:write"]])))
            case "size":
                self.wire.max_bytes = data.draw(st.sampled_from([900, LARGE_BYTES]))
            case "memory":
                self.wire.forget_keys()
            case "faults":
                self.wire.faults.clear()

    def change_limits(self, **changed):
        self.context = dataclasses.replace(
            self.context, settings=dataclasses.replace(self.context.settings, **changed)
        )

    def refuse_key(self, permissions):
        """Refuse the API key during one send and one poll, which blocks the workspace for longer."""
        if permissions:
            self.sandbox.set_key(KEY, permissions)
        else:
            self.sandbox.remove_key(KEY)
        send_next(self.context)
        poll_due_batch(self.context)
        self.sandbox.set_key(KEY, ["api:read", "api:write"])

    # --- invariants -----------------------------------------------------------------------------------

    @invariant()
    def keeps_all_guarantees(self):
        assert self.model.violations == []
        assert self.sandbox.violations == []
        before, self.states = self.states, self.read_states()
        assert set(before) <= set(self.states), "a record is lost"
        assert self.wire.stored() == {i: version.serial for i, version in self.model.store.items()}

    def read_states(self):
        """Return the state of each record, by id."""
        rows = OutboxRecord.objects.using(self.alias)
        columns = list(rows.values_list("pk", "state", "batch__state", "superseded_by"))
        states = {pk: state for pk, state, *_ in columns}
        assert set(states) <= set(self.model.by_pk), "a record that was rolled back"
        in_flight = Counter(self.model.by_pk[pk].identity for pk in states if states[pk] == "in_flight")
        assert max(in_flight.values(), default=0) <= 1, "two versions in flight"
        for pk, state, batch_state, superseded_by in columns:
            self.check_version(self.model.by_pk[pk], state, batch_state, self.model.by_pk.get(superseded_by))
        return states

    def check_version(self, version, state, batch_state, superseded_by):
        match state:
            case RecordState.IN_FLIGHT:
                assert batch_state in OPEN, "in a finished batch, so it is never sent"
            case RecordState.DELIVERED:
                assert version.is_accepted
            case RecordState.REJECTED:
                assert self.model.may_be_rejected(version), version
            case RecordState.SUPERSEDED:
                assert superseded_by in self.model.newer(version)

    def check_predicates(self):
        """Check that each record is in exactly one state by the predicates that use indexes."""
        rows = OutboxRecord.rows.using(self.alias)
        pairs = [
            (pk, state) for state in RecordState for pk in rows.in_state(state).values_list("pk", flat=True)
        ]
        assert sorted(pairs) == sorted(self.states.items())

    # --- the end --------------------------------------------------------------------------------------

    def teardown(self):
        try:
            if sys.exc_info()[0] is None and hasattr(self, "context"):
                self.run_to_the_end()
        finally:
            self.clear()

    def run_to_the_end(self):
        for opened in list(self.open_transactions):
            self.end_transaction(opened, must_commit=True)
        self.wire.faults.clear()
        self.keeps_all_guarantees()
        self.check_predicates()
        self.deliver()
        # The paused senders go on when everything is finished without them.
        for sender in list(self.paused_senders):
            self.go_on(sender)
        self.deliver()

    def deliver(self):
        for _ in range(60):
            rescue_batches(self.alias, self.clock.clock())
            relay(self.context, 60)
            poll(self.context, 60)
            self.keeps_all_guarantees()
            if not self.is_unfinished():
                break
            self.clear_paused_groups()
            self.clock.move(70)
        assert not self.is_unfinished(), "it never ends"
        self.check_predicates()
        for version in self.model.last_versions():
            if not version.is_discarded and not self.model.may_be_rejected(version):
                assert self.states.get(version.pk, RecordState.DELIVERED) == RecordState.DELIVERED, version
                assert self.model.store[version.identity] is version

    def is_unfinished(self):
        batches = OutboxBatch.objects.using(self.alias)
        unfinished = batches.polled("default") | batches.open()
        return bool(self.in_states(*UNFINISHED)) or unfinished.exists()

    def clear_paused_groups(self):
        """Enqueue a good record in each paused group; a group of bad records stays paused until then."""
        for group in OutboxGroup.objects.using(self.alias).paused("default"):
            self.write([(9, GOOD, int(group.product_id[1:]))], enqueue_one_by_one)

    def clear(self):
        for opened in self.open_transactions:
            opened.must_commit = False
            opened.go_on()
        self.delete()
        for sender in self.paused_senders:
            sender.kill()
            sender.client.close()
        self.delete()

    def delete(self):
        with connections[self.alias].cursor() as cursor:
            for model in TABLES:
                cursor.execute(f"DELETE FROM {model._meta.db_table}")


@pytest.fixture
def services(alias, clock, outbox_settings):
    """The services that all runs share: a sandbox and a client for each of ``ERROR_STYLES``, and a clock."""
    wires = {}

    def note_arrivals(style):
        return lambda arrival: wires[style].note_arrival(arrival)

    sandboxes = [
        Sandbox(
            rate_limit=100_000, clock=lambda: clock.at.timestamp(), on_event=note_arrivals(style), **options
        ).start()
        for style, options in enumerate(ERROR_STYLES)
    ]
    outbox_settings(
        API_KEY=KEY,
        API_URL=sandboxes[0].url,
        BACKOFF_CAP=30,
        IDEMPOTENCY_KEY_TTL=600,
        RETENTION_DAYS=RETENTION_DAYS,  # the same as of the purge, because the reconciliation relies on it
        DATABASES=[alias],
    )
    if connections[alias].vendor == "postgresql":
        with connections[alias].cursor() as cursor:
            cursor.execute("SET synchronous_commit TO off")  # no test here cuts the power
    clients = [Client(sandbox.url, lambda: KEY, 30) for sandbox in sandboxes]
    yield SimpleNamespace(clock=clock, sandboxes=sandboxes, wires=wires, clients=clients)
    for client in clients:
        client.close()
    for sandbox in sandboxes:
        sandbox.stop()


def test_the_latest_version_wins_in_any_order_of_events(alias, services, only_legal_changes):
    run_state_machine_as_test(lambda: Versions(alias, services), settings=SETTINGS)
