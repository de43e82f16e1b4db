"""A batch is refused, in full or in part: its bad records are isolated, or its group is paused."""

from __future__ import annotations

from evermuse_outbox.sandbox import Fault

from ..environment import Environment
from ..scenario import scenario


@scenario(
    prepare=lambda env: env.enqueue(1, 2, 3, invalid=(2,)),
    expected="delivered rejected delivered",
    is_main=True,
    is_paused=True,
)
def rejected_and_named(env):
    """202 that names the rejected record."""
    env.relay()


@scenario(
    prepare=lambda env: env.enqueue(1, 2, invalid=(2,)),
    sandbox={"errors_in": "nowhere"},
    expected="delivered rejected",
    may_repeat=True,
)
def rejected_and_not_named(env):
    """202 that rejects a record without a name: the batch is sent again in parts under new keys."""
    env.send()


@scenario(
    prepare=lambda env: env.enqueue(1, 2, 3, invalid=(2,)),
    sandbox={"strict": True},
    expected="delivered rejected delivered",
    is_paused=True,
)
def refused_and_named(env):
    """400 that names the bad record: the others go on together under a new key."""
    env.send()


@scenario(
    prepare=lambda env: env.enqueue(1, 2, invalid=(2,)),
    sandbox={"strict": True, "errors_in": "nowhere"},
    expected="delivered rejected",
)
def refused_and_not_named(env):
    """400 without a name: parts are sent until the bad record is alone."""
    env.send()


def prepare_isolating(*invalid):
    """Return a preparation: a batch of four is refused without a name, and its first part is sealed."""

    def prepare(env):
        env.enqueue(1, 2, 3, 4, invalid=invalid)
        env.send()

    return prepare


@scenario(
    prepare=prepare_isolating(1),
    sandbox={"strict": True, "errors_in": "nowhere"},
    expected="rejected delivered delivered delivered",
    is_paused=True,
)
def part_refused(env):
    """The part contains the bad record: it goes back, and a smaller part is next."""
    env.send()


@scenario(
    prepare=prepare_isolating(4),
    sandbox={"strict": True, "errors_in": "nowhere"},
    expected="delivered delivered delivered rejected",
)
def part_accepted(env):
    """The part is good: the next one is tried."""
    env.send()


@scenario(
    prepare=prepare_isolating(4),
    sandbox={"strict": True, "errors_in": "nowhere"},
    expected="delivered delivered delivered rejected",
)
def isolation_ends(env):
    """All parts are sent until no record is left in the isolating batch."""
    env.relay()


REFUSED_ALIKE = Fault(
    status=400,
    body={
        "error": "VALIDATION_ERROR",
        "message": "None of the records is valid.",
        "details": {"errors": [{"index": n, "code": "X", "message": "no such project"} for n in range(4)]},
    },
)


NOT_TAKEN = Fault.too_many(5)


def prepare_two_refused_alike(env, first=NOT_TAKEN):
    env.enqueue(*range(16))
    env.sandbox.fail_next(first)
    env.send()
    env.sandbox.fail_next(REFUSED_ALIKE, count=None)
    env.clock.move(600)
    env.send(prefer_new=True)
    env.send(prefer_new=True)


def check_all_or_half_delivered(env: Environment, states: list[str]) -> None:
    """Check that records rejected before the pause stay rejected if the process died before the group was paused."""
    assert states.count("delivered") in (8, 16)
    assert states.count("rejected") == 16 - states.count("delivered")


@scenario(
    prepare=prepare_two_refused_alike,
    settings={"MAX_BATCH_RECORDS": 4},
    repair=lambda env: env.sandbox.clear_faults(),
    expected=check_all_or_half_delivered,
    is_paused=True,
)
def group_is_paused(env):
    """The third batch in a row is refused alike: no record is at fault, and the group is paused."""
    env.send(prefer_new=True)


@scenario(
    prepare=lambda env: prepare_two_refused_alike(env, first=Fault.drop_after()),
    settings={"MAX_BATCH_RECORDS": 4},
    repair=lambda env: env.sandbox.clear_faults(),
    expected=check_all_or_half_delivered,
)
def group_is_paused_with_batch_in_doubt(env):
    """Another batch of the group is in doubt: it keeps its records and its key."""
    env.send(prefer_new=True)


def prepare_paused_group(env):
    prepare_two_refused_alike(env)
    env.send(prefer_new=True)
    env.clock.move(100)


@scenario(
    prepare=prepare_paused_group,
    settings={"MAX_BATCH_RECORDS": 4},
    repair=lambda env: env.sandbox.clear_faults(),
    expected="delivered " * 16,
)
def paused_group_is_probed(env):
    """One record of a paused group is sent as a probe, and refused as before."""
    env.send()


def prepare_repaired_group(env):
    prepare_paused_group(env)
    env.sandbox.clear_faults()


@scenario(prepare=prepare_repaired_group, settings={"MAX_BATCH_RECORDS": 4}, expected="delivered " * 16)
def paused_group_is_cleared(env):
    """The probe is accepted: the group goes on."""
    env.send()


@scenario(faults=[Fault(status=413)])
def too_large(env):
    """413: the batch is split in halves."""
    env.send()


def prepare_split_batch(env):
    env.enqueue(1, 2, 3)
    env.sandbox.fail_next(Fault(status=413))
    env.send()


@scenario(prepare=prepare_split_batch)
def parts(env):
    """The parts of a split batch are sent, each under a key of its own."""
    env.relay()
