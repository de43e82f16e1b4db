"""Some or all of a batch is refused: it is divided, or its group is paused."""

from __future__ import annotations

from evermuse_outbox.sandbox import Fault

from ..environment import Life
from ..scenario import scenario


@scenario(
    before=lambda life: life.enqueue(1, 2, 3, bad=(2,)),
    ends="delivered rejected delivered",
    main=True,
    wakes=True,
)
def rejected_and_named(life):
    """202 that names the record it has not taken."""
    life.relay()


@scenario(
    before=lambda life: life.enqueue(1, 2, bad=(2,)),
    sandbox={"errors_in": "nowhere"},
    ends="delivered rejected",
    again=True,
)
def rejected_and_not_named(life):
    """202 that took some and does not say whom: halves, under new keys."""
    life.send()


@scenario(
    before=lambda life: life.enqueue(1, 2, 3, bad=(2,)),
    sandbox={"strict": True},
    ends="delivered rejected delivered",
    wakes=True,
)
def refused_and_named(life):
    """400 for all because of one: the others go together under a new key."""
    life.send()


@scenario(
    before=lambda life: life.enqueue(1, 2, bad=(2,)),
    sandbox={"strict": True, "errors_in": "nowhere"},
    ends="delivered rejected",
)
def refused_and_not_named(life):
    """400 that names nobody: halves, until the bad one is alone."""
    life.send()


def divided_in_search(*bad):
    """Before it: a batch with these bad ones was refused without a name, and its first part is sealed."""

    def before(life):
        life.enqueue(1, 2, 3, 4, bad=bad)
        life.send()

    return before


@scenario(
    before=divided_in_search(1),
    sandbox={"strict": True, "errors_in": "nowhere"},
    ends="rejected delivered delivered delivered",
    wakes=True,
)
def part_refused(life):
    """The part that was tried has the bad one: it goes back, and a smaller part is next."""
    life.send()


@scenario(
    before=divided_in_search(4),
    sandbox={"strict": True, "errors_in": "nowhere"},
    ends="delivered delivered delivered rejected",
)
def part_accepted(life):
    """The part that was tried is good: the next one is tried."""
    life.send()


REFUSED_ALIKE = Fault(
    status=400,
    body={
        "error": "VALIDATION_ERROR",
        "message": "None of the records is valid.",
        "details": {"errors": [{"index": n, "code": "X", "message": "no such project"} for n in range(4)]},
    },
)


NOT_TAKEN = Fault.too_many(5)


def two_refused_alike(life, first=NOT_TAKEN):
    life.enqueue(*range(16))
    life.sandbox.fail_next(first)
    life.send()
    life.sandbox.fail_next(REFUSED_ALIKE, count=None)
    life.clock.move(600)
    life.send(prefer_new=True)
    life.send(prefer_new=True)


def all_or_those_not_taken_back(life: Life, states: list[str]) -> None:
    """Whoever died before the group was paused has left its rejections to a person."""
    assert states.count("delivered") in (8, 16)
    assert states.count("rejected") == 16 - states.count("delivered")


@scenario(
    before=two_refused_alike,
    settings={"MAX_BATCH_RECORDS": 4},
    mend=lambda life: life.sandbox.clear_faults(),
    ends=all_or_those_not_taken_back,
    wakes=True,
)
def group_is_paused(life):
    """The third batch in a row is refused alike: nobody is at fault, and all of the group waits."""
    life.send(prefer_new=True)


@scenario(
    before=lambda life: two_refused_alike(life, first=Fault.drop_after()),
    settings={"MAX_BATCH_RECORDS": 4},
    mend=lambda life: life.sandbox.clear_faults(),
    ends=all_or_those_not_taken_back,
)
def group_is_paused_beside_a_doubt(life):
    """A batch of the group is in doubt, for Evermuse may have it: it keeps its records and its key."""
    life.send(prefer_new=True)


def paused_group(life):
    two_refused_alike(life)
    life.send(prefer_new=True)
    life.clock.move(100)


@scenario(
    before=paused_group,
    settings={"MAX_BATCH_RECORDS": 4},
    mend=lambda life: life.sandbox.clear_faults(),
    ends="delivered " * 16,
)
def paused_group_is_probed(life):
    """One record of a paused group is tried, and refused as before."""
    life.send()


def mended_group(life):
    paused_group(life)
    life.sandbox.clear_faults()


@scenario(before=mended_group, settings={"MAX_BATCH_RECORDS": 4}, ends="delivered " * 16)
def paused_group_is_out_of_trouble(life):
    """The record that is tried is accepted: the group goes on."""
    life.send()


@scenario(faults=[Fault(status=413)])
def too_large(life):
    """413: halves."""
    life.send()


def divided_before(life):
    life.enqueue(1, 2, 3)
    life.sandbox.fail_next(Fault(status=413))
    life.send()


@scenario(before=divided_before)
def parts(life):
    """The parts of a batch go, each under its own key."""
    life.relay()
