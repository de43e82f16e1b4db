"""The latest version wins, whatever happens in whatever order.

A machine plays hosts, senders, people, trouble and time against a model that knows nothing of the pipeline
(`versions.py`), and looks after each step at what can be seen from outside: the states of the records, and what went
over the wire. At the end of each play time goes on until nothing is left, and then Evermuse must hold:

- of every identity the newest version that it ever accepted, whatever came of the others;
- so the last version that was committed, unless that one is refused for its own fault, was failed by Evermuse as often
  as we resend, or was discarded by a person. Then what it had accepted before stays, and nothing older follows.

``VERSIONS_EXAMPLES=500 VERSIONS_STEPS=50`` play longer, and another play each time.
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
    HEAVY,
    HEAVY_BYTES,
    POINTS,
    POISON,
    Host,
    Model,
    OnTheClock,
    RolledBack,
    Sender,
    Tapped,
    Version,
    Wire,
    enqueue,
    enqueue_together,
    never,
)

EXAMPLES = int(os.environ.get("VERSIONS_EXAMPLES", 0))
PLAYS = settings(
    max_examples=EXAMPLES or 12,
    stateful_step_count=int(os.environ.get("VERSIONS_STEPS", 40)),
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
KEY = "em_sk_sandbox"
WAYS = (
    {"errors_in": "details"},
    {"errors_in": "nowhere"},
    {"errors_in": "errors", "strict": True},
    {"errors_in": "nowhere", "strict": True},
)
"""How Evermuse may tell of bad records."""

RETENTION_DAYS = 0.5
TROUBLES = {
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
UNDER_WAY = (RecordState.PENDING, RecordState.IN_FLIGHT)
UNSENT = (RecordState.PENDING, RecordState.REJECTED)
OVER = (RecordState.DELIVERED, RecordState.SUPERSEDED, RecordState.DISCARDED)
TABLES = (OutboxAttempt, OutboxRejection, OutboxRecord, OutboxBatch, OutboxGroup, OutboxWorkspace)

pytestmark = [pytest.mark.commits, pytest.mark.long]

versions_of = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([GOOD, GOOD, GOOD, POISON, HEAVY]), st.integers(0, 1)),
    min_size=1,
    max_size=2,
)
some = st.sets(st.integers(0, 5), min_size=1, max_size=3)


def has(*states):
    """A rule that wants a record in one of these states."""
    return precondition(lambda self: self.in_states(*states))


def picked(rows, numbers):
    """Some of ``rows``, whatever there is."""
    return sorted({rows[number % len(rows)] for number in numbers})


class Versions(RuleBasedStateMachine):
    """One play on one database."""

    def __init__(self, alias, stage):
        super().__init__()
        self.alias, self.stage = alias, stage
        self.serial = 0
        self.states = {}
        self.stopped, self.hosts = [], []

    @initialize(way=st.integers(0, len(WAYS) - 1), max_resends=st.integers(0, 1))
    def opens(self, way, max_resends):
        self.sandbox = self.stage.sandboxes[way]
        self.sandbox.reset()
        self.clock = self.stage.clock
        self.model = Model(max_resends)
        self.wire = self.stage.wires[way] = Wire(self.alias, self.sandbox, self.model)
        client = Tapped(self.wire, self.stage.clients[way], never)
        self.context = dataclasses.replace(
            open_context(self.alias, "default"),
            client=client,
            throttle=OnTheClock(self.clock),
            clock=self.clock.clock(),
        )
        self.change_limits(max_resends=max_resends)

    def in_states(self, *states):
        return sorted(pk for pk, state in self.states.items() if state in states)

    # --- hosts ----------------------------------------------------------------------------------------

    def new(self, drawn):
        made = []
        for identity, kind, product in drawn:
            self.serial += 1
            made.append(Version(self.serial, identity, kind, product))
        return made

    @rule(drawn=versions_of)
    def enqueue(self, drawn):
        self.write(drawn, enqueue)

    @rule(drawn=versions_of)
    def enqueue_together(self, drawn):
        self.write(drawn, enqueue_together)

    def write(self, drawn, step):
        made = self.new(drawn)
        with transaction.atomic(using=self.alias):
            step(self.alias, made)
        pks = [version.pk for version in made]
        assert pks == sorted(pks)
        self.model.commit(made)

    @rule(drawn=versions_of)
    def roll_back(self, drawn):
        with contextlib.suppress(RolledBack), transaction.atomic(using=self.alias):
            enqueue(self.alias, self.new(drawn))
            raise RolledBack

    @precondition(lambda self: self.alias != "default" and len(self.hosts) < 2)
    @rule(drawn=versions_of)
    def write_and_stay_open(self, drawn):
        host = Host(self.alias, self.new(drawn))
        host.start(host.write)
        self.hosts.append(host)

    @precondition(lambda self: self.hosts)
    @rule(number=st.integers(0, 1), commits=st.booleans())
    def end_an_open_transaction(self, number, commits):
        self.end(self.hosts[number % len(self.hosts)], commits)

    def end(self, host, commits):
        self.hosts.remove(host)
        host.commits = commits
        host.go_on()
        if commits:
            self.model.commit(host.versions)

    # --- senders --------------------------------------------------------------------------------------

    @has(*UNDER_WAY)
    @rule(most=st.sampled_from([1, 1, 2, 100]))
    def send(self, most):
        for _ in range(most):
            if send_next(self.context) is not Step.SENT:
                break

    @has(RecordState.IN_FLIGHT)
    @rule(after=st.sampled_from([0, 3, 35, 70]))
    def follow(self, after):
        self.clock.move(after)
        poll(self.context, 60)

    @has(*UNDER_WAY)
    @rule(rounds=st.integers(1, 4), seconds=st.sampled_from([3, 35, 70]))
    def work_for_a_while(self, rounds, seconds):
        for _ in range(rounds):
            relay(self.context, 60)
            self.clock.move(seconds)
            poll(self.context, 60)

    @has(*UNDER_WAY)
    @precondition(lambda self: len(self.stopped) < 3)
    @rule(point=st.sampled_from(POINTS), step=st.sampled_from([send_next, send_next, poll_due_batch]))
    def one_stops(self, point, step):
        self.stop(point, step)

    def stop(self, point, step):
        sender = Sender(self.context, self.wire, point)
        sender.start(lambda: step(sender.context))
        if sender.at:
            self.stopped.append(sender)
        else:
            sender.client.close()

    @precondition(lambda self: self.stopped)
    @rule(number=st.integers(0, 2))
    def a_stopped_one_goes_on(self, number):
        self.go_on(self.stopped[number % len(self.stopped)])

    def go_on(self, sender):
        if self.would_post_too_late(sender):
            return
        self.stopped.remove(sender)
        sender.go_on()
        sender.client.close()

    def would_post_too_late(self, sender):
        """Between the last look at the lease and the POST a process may stand still until all is over without it.

        Evermuse's memory of keys is all that helps then; where that is gone as well, no client could help it.
        """
        if sender.at != "before the POST":
            return False
        key = sender.client.last_key
        is_open = OutboxBatch.objects.using(self.alias).open().filter(key=key).exists()
        return not is_open and key not in self.wire.remembered

    @rule(after=st.sampled_from([0, 200, 86_400, 86_400]))
    def maintain(self, after):
        self.clock.move(after)
        rescue_batches(self.alias, self.clock.clock())
        if not self.hosts:  # nothing is kept for transactions that outlive the retention
            self.purge()

    def purge(self):
        keys = OutboxBatch.objects.using(self.alias).values_list("key", flat=True)
        before = set(keys)
        purge_old_rows(self.alias, self.clock.clock(), RETENTION_DAYS)
        self.wire.purged |= before - set(keys.all())
        gone = set(self.states) - set(OutboxRecord.rows.using(self.alias).values_list("pk", flat=True))
        assert all(self.states.pop(pk) in OVER for pk in gone)

    # --- people ---------------------------------------------------------------------------------------

    @has(RecordState.REJECTED)
    @rule(numbers=some)
    def retry_records(self, numbers):
        chosen = picked(self.in_states(RecordState.REJECTED), numbers)
        came_to = retry_records(self.alias, chosen)
        assert set(came_to.refused) >= {pk for pk in chosen if self.is_overtaken(pk, "was_accepted")}
        assert set(came_to.refused) <= {pk for pk in chosen if self.is_overtaken(pk, "key")}
        assert set(came_to.reopened) == set(chosen) - set(came_to.refused)
        for pk, newer in came_to.refused.items():
            assert self.model.by_pk[newer] in self.model.newer(self.model.by_pk[pk])

    def is_overtaken(self, pk, told):
        alive = self.in_states(*UNDER_WAY, RecordState.DELIVERED)
        newer = self.model.newer(self.model.by_pk[pk])
        return any(getattr(version, told) or version.pk in alive for version in newer)

    @has(*UNSENT)
    @rule(numbers=some)
    def discard(self, numbers):
        chosen = picked(self.in_states(*UNSENT), numbers)
        assert OutboxRecord.objects.using(self.alias).filter(pk__in=chosen).discard() == len(chosen)
        for pk in chosen:
            self.model.by_pk[pk].was_discarded = True

    # --- Evermuse, and what else may change -----------------------------------------------------------

    @precondition(lambda self: len(self.wire.troubles) < 4)
    @rule(name=st.sampled_from([*sorted(TROUBLES), "failed", "failed"]), times=st.integers(1, 3))
    def trouble(self, name, times):
        self.wire.troubles.extend([TROUBLES[name]] * times)

    @rule(change=st.sampled_from(["limits", "key", "size", "memory", "trouble"]), data=st.data())
    def something_changes(self, change, data):
        match change:
            case "limits":
                records, body_format = st.sampled_from([1, 2, 3, 10]), st.sampled_from(["ndjson", "array"])
                self.change_limits(max_batch_records=data.draw(records), body_format=data.draw(body_format))
            case "key":
                self.refuse_key(data.draw(st.sampled_from([[], ["api:read"], ["api:write"]])))
            case "size":
                self.wire.lets_through = data.draw(st.sampled_from([900, HEAVY_BYTES]))
            case "memory":
                self.wire.forget_keys()
            case "trouble":
                self.wire.troubles.clear()

    def change_limits(self, **changed):
        self.context = dataclasses.replace(
            self.context, settings=dataclasses.replace(self.context.settings, **changed)
        )

    def refuse_key(self, permissions):
        """For a moment; that holds the workspace longer."""
        if permissions:
            self.sandbox.set_key(KEY, permissions)
        else:
            self.sandbox.remove_key(KEY)
        send_next(self.context)
        poll_due_batch(self.context)
        self.sandbox.set_key(KEY, ["api:read", "api:write"])

    # --- what must be true at any time ----------------------------------------------------------------

    @invariant()
    def nothing_is_wrong(self):
        assert self.model.wrong == []
        assert self.sandbox.violations == []
        before, self.states = self.states, self.look()
        assert set(before) <= set(self.states), "a record is lost"
        assert self.wire.stored() == {i: version.serial for i, version in self.model.store.items()}

    def look(self):
        """Return the state of each record, by id."""
        rows = OutboxRecord.objects.using(self.alias)
        found = list(rows.values_list("pk", "state", "batch__state", "superseded_by"))
        states = {pk: state for pk, state, *_ in found}
        assert set(states) <= set(self.model.by_pk), "a record that was rolled back"
        under_way = Counter(self.model.by_pk[pk].identity for pk in states if states[pk] == "in_flight")
        assert max(under_way.values(), default=0) <= 1, "two versions under way"
        for pk, state, of_batch, superseded_by in found:
            self.look_at(self.model.by_pk[pk], state, of_batch, self.model.by_pk.get(superseded_by))
        return states

    def look_at(self, version, state, of_batch, superseded_by):
        match state:
            case RecordState.IN_FLIGHT:
                assert of_batch in OPEN, "in a batch that is over, and nobody sends it any more"
            case RecordState.DELIVERED:
                assert version.was_accepted
            case RecordState.REJECTED:
                assert self.model.may_be_rejected(version), version
            case RecordState.SUPERSEDED:
                assert superseded_by in self.model.newer(version)

    def look_by_predicates(self):
        """A record in no state, or in two of them, is found out."""
        rows = OutboxRecord.rows.using(self.alias)
        found = [(pk, one) for one in RecordState for pk in rows.in_state(one).values_list("pk", flat=True)]
        assert sorted(found) == sorted(self.states.items())

    # --- the end --------------------------------------------------------------------------------------

    def teardown(self):
        try:
            if sys.exc_info()[0] is None and hasattr(self, "context"):
                self.play_to_the_end()
        finally:
            self.clear()

    def play_to_the_end(self):
        for host in list(self.hosts):
            self.end(host, commits=True)
        self.wire.troubles.clear()
        self.nothing_is_wrong()
        self.look_by_predicates()
        self.deliver()
        # And now those come back that were thought dead.
        for sender in list(self.stopped):
            self.go_on(sender)
        self.deliver()

    def deliver(self):
        for _ in range(60):
            rescue_batches(self.alias, self.clock.clock())
            relay(self.context, 60)
            poll(self.context, 60)
            self.nothing_is_wrong()
            if not self.is_under_way():
                break
            self.end_pauses()
            self.clock.move(70)
        assert not self.is_under_way(), "it never ends"
        self.look_by_predicates()
        for version in self.model.last():
            if not version.was_discarded and not self.model.may_be_rejected(version):
                assert self.states.get(version.pk, RecordState.DELIVERED) == RecordState.DELIVERED, version
                assert self.model.store[version.identity] is version

    def is_under_way(self):
        batches = OutboxBatch.objects.using(self.alias)
        followed = batches.polled("default") | batches.open()
        return bool(self.in_states(*UNDER_WAY)) or followed.exists()

    def end_pauses(self):
        """A group in which everything was bad is paused until somebody has written something good."""
        for group in OutboxGroup.objects.using(self.alias).paused("default"):
            self.write([(9, GOOD, int(group.product_id[1:]))], enqueue)

    def clear(self):
        for host in self.hosts:
            host.commits = False
            host.go_on()
        self.delete()
        for sender in self.stopped:
            sender.kill()
            sender.client.close()
        self.delete()

    def delete(self):
        with connections[self.alias].cursor() as cursor:
            for model in TABLES:
                cursor.execute(f"DELETE FROM {model._meta.db_table}")


@pytest.fixture
def stage(alias, clock, outbox_settings, monkeypatch):
    """What all plays share: a sandbox for each way in which Evermuse may tell of bad records, and a clock."""
    wires = {}

    def hear(way):
        return lambda arrival: wires[way].hear(arrival)

    sandboxes = [
        Sandbox(rate_limit=100_000, clock=lambda: clock.at.timestamp(), on_event=hear(way), **options).start()
        for way, options in enumerate(WAYS)
    ]
    outbox_settings(
        API_KEY=KEY,
        API_URL=sandboxes[0].url,
        BACKOFF_CAP=30,
        IDEMPOTENCY_KEY_TTL=600,
        RETENTION_DAYS=RETENTION_DAYS,  # as it is purged by: what was purged, the look-up must not believe
        DATABASES=[alias],
    )
    monkeypatch.setattr("evermuse_outbox.outbox.timezone", clock)
    if connections[alias].vendor == "postgresql":
        with connections[alias].cursor() as cursor:
            cursor.execute("SET synchronous_commit TO off")  # the power does not fail in this play
    clients = [Client(sandbox.url, lambda: KEY, 30) for sandbox in sandboxes]
    yield SimpleNamespace(clock=clock, sandboxes=sandboxes, wires=wires, clients=clients)
    for client in clients:
        client.close()
    for sandbox in sandboxes:
        sandbox.stop()


def test_the_latest_version_wins_in_any_order_of_events(alias, stage, only_legal_changes):
    run_state_machine_as_test(lambda: Versions(alias, stage), settings=PLAYS)
