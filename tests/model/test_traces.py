"""What the pipeline does on a real database, with a sandbox over HTTP, is a behaviour of the model."""

from __future__ import annotations

import contextlib
import dataclasses
from random import Random

import pytest

from docs.model.protocol import Protocol
from docs.model.replay import NotInModel, Observation, Replay
from evermuse_outbox import outbox
from evermuse_outbox.delivery.loop import poll, send_next
from evermuse_outbox.models import BatchState, OutboxBatch, OutboxGroup, OutboxRecord
from evermuse_outbox.operations import pause_group, resume_group, resume_workspace, retry_records
from evermuse_outbox.sandbox import Fault
from evermuse_outbox.upkeep import rescue_batches
from tests.records import make_invalid, record

GROUP = ("message", "prod-abc")
IDENTITIES = (0, 0, 1, 0, 1)
REFUSED = frozenset({1})
STEPS = 40
FAULTS = (
    Fault.server_error(),
    Fault.bad_gateway(after_handling=True),
    Fault.drop_before(),
    Fault.drop_after(),
    Fault.too_many(retry_after=1),
    Fault.failed_batch(),
)


class Killed(BaseException):
    """Ends a sender as SIGKILL does: it writes nothing more."""


class Client:
    """A client that lets the replay look before and after a request, and that can be killed there."""

    def __init__(self, client, look, rng):
        self.client, self.look, self.rng = client, look, rng

    def ingest(self, body, **options):
        self.pass_point()
        answer = self.client.ingest(body, **options)
        self.pass_point()
        return answer

    def pass_point(self):
        self.look()
        if self.rng.random() < 0.08:
            raise Killed

    def __getattr__(self, name):
        return getattr(self.client, name)


class Pipeline:
    """The real pipeline, one random step after the other, beside the model."""

    def __init__(self, context, sandbox, clock, seed):
        self.rng, self.sandbox, self.clock, self.alias = Random(seed), sandbox, clock, context.using
        self.replay = Replay(Protocol(IDENTITIES, refused=REFUSED, senders=1))
        self.context = dataclasses.replace(context, client=Client(context.client, self.look, self.rng))
        self.pks = []

    def run(self):
        steps = [
            *[self.enqueue] * 3,
            *[self.send] * 4,
            *[self.poll] * 3,
            *[self.rescue, self.fail, self.retry, self.discard, self.hold],
        ]
        for _ in range(STEPS):
            with contextlib.suppress(Killed):
                self.rng.choice(steps)()
            self.look()

    def look(self):
        """Compare the tables with the model."""
        numbers = {pk: number for number, pk in enumerate(self.pks)}
        rows = OutboxRecord.objects.using(self.alias).order_by("pk").values_list("pk", "state", "batch_id")
        records = list(rows)
        batches = OutboxBatch.objects.using(self.alias).open().values_list("pk", "state")
        members = {
            batch: tuple(numbers[pk] for pk, state, of in records if of == batch and state == "in_flight")
            for batch, _ in batches
        }
        self.replay.follow(
            Observation.of(
                (str(state) for _, state, _ in records),
                ((members[batch], str(BatchState(state).value)) for batch, state in batches),
            )
        )

    def enqueue(self):
        number = len(self.pks)
        if number < len(IDENTITIES):
            row = outbox.enqueue(record(IDENTITIES[number], data={"n": number}), using=self.alias)
            if number in REFUSED:
                make_invalid(row)
            self.pks.append(row.pk)

    def send(self):
        self.clock.move(400)
        resume_workspace(self.alias, "default", clock=self.context.clock)
        send_next(self.context)

    def poll(self):
        self.clock.move(60)
        poll(self.context, 60)

    def rescue(self):
        self.clock.move(400)
        rescue_batches(self.alias, self.context.clock)

    def fail(self):
        self.sandbox.fail_next(self.rng.choice(FAULTS))

    def retry(self):
        if pks := self.in_state("rejected"):
            retry_records(self.alias, [self.rng.choice(pks)])

    def discard(self):
        if pks := [*self.in_state("pending"), *self.in_state("rejected")]:
            OutboxRecord.objects.using(self.alias).filter(pk=self.rng.choice(pks)).discard()

    def hold(self):
        pause_group(self.alias, "default", GROUP, clock=self.context.clock)
        resume_group(self.alias, OutboxGroup.objects.using(self.alias).get())

    def in_state(self, state):
        return list(OutboxRecord.objects.using(self.alias).filter(state=state).values_list("pk", flat=True))


@pytest.mark.parametrize("seed", range(10))
def test_each_step_of_the_pipeline_is_an_action_of_the_model(context, sandbox, clock, seed):
    pipeline = Pipeline(context, sandbox, clock, seed)
    pipeline.run()
    assert len(pipeline.replay.observations) > 4


@pytest.mark.parametrize(
    ("faults", "end"),
    [
        pytest.param(
            [Fault.server_error(), Fault.too_many(retry_after=1)], "in_doubt", id="429 while in doubt"
        ),
        pytest.param([Fault.failed_batch()], "sealed", id="sealed again after a failure"),
    ],
)
def test_a_held_group_keeps_what_evermuse_may_have(context, sandbox, clock, faults, end):
    pipeline = Pipeline(context, sandbox, clock, seed=0)
    pipeline.rng.random = lambda: 1.0  # nothing is killed
    pipeline.enqueue()
    for fault in faults:
        sandbox.fail_next(fault)
        for step in (pipeline.send, pipeline.poll, pipeline.hold):
            step()
            pipeline.look()
    assert pipeline.replay.observations[-1] == Observation(("in_flight",), (((0,), end),))


def test_what_no_action_does_is_reported():
    replay = Replay(Protocol((0,), senders=1))
    replay.follow(Observation.of(["pending"], []))
    replay.follow(Observation.of(["in_flight"], [((0,), "in_doubt")]))
    with pytest.raises(NotInModel, match=r"no actions of the model lead from .*in_doubt.* to .*pending"):
        replay.follow(Observation.of(["pending"], []))
