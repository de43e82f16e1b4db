"""What may be under way when a process dies.

To add a piece of the pipeline, add one function with ``@scenario``. What it does is played by a process of its
own, which is killed after each of its steps in turn; what happened before, and what Evermuse will answer, are
the arguments. The docstring says what is under way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis
from django.contrib.auth.models import Group
from django.db import transaction

from evermuse_outbox import outbox
from evermuse_outbox.models import OutboxBatch
from evermuse_outbox.pipeline.retry import retry
from evermuse_outbox.pipeline.seal import seal_next
from evermuse_outbox.sandbox import Fault
from tests.records import record
from tests.services import REDIS_URL

from .life import Life, Play

DAY = 86_400


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One piece of the pipeline's life.

    - ``before`` prepares the rows; then Evermuse meets the next POSTs or GETs with ``faults``.
    - ``play`` is what the dying process does.
    - ``mend`` ends the trouble that was not over by itself, before workers start again.
    - ``ends``: the states of all records at the end, in the order of enqueueing; or a check of them.
    - ``settings``: keys of ``EVERMUSE_OUTBOX``; ``sandbox``: arguments of the ``Sandbox``.
    - ``again``: Evermuse may rightly get a good record more than once, under another key.
    - ``purges``: rows go, so that they can no longer be compared with what Evermuse has.
    - ``paced``: the keeper of the pace is the one of the settings (else everybody may go at once).
    - ``main``: dies at every step on every database, and on SQLite after each write of a transaction, too.
    - ``wakes``: also played by a worker that is only paused, and wakes when others have taken over.
    """

    play: Play
    mend: Play = lambda life: None
    before: Play = lambda life: life.enqueue(1, 2, 3)
    faults: Sequence[Fault] = ()
    ends: str | Callable[[Life, list[str]], object] = "delivered delivered delivered"
    settings: Mapping[str, Any] = field(default_factory=dict)
    sandbox: Mapping[str, Any] = field(default_factory=dict)
    again: bool = False
    purges: bool = False
    paced: bool = False
    main: bool = False
    wakes: bool = False

    @property
    def name(self) -> str:
        """The name of its function."""
        return self.play.__name__


SCENARIOS: dict[str, Scenario] = {}


def scenario(**arguments: Any) -> Callable[[Play], Play]:
    """Makes a function the ``play`` of a :class:`Scenario` with these arguments."""

    def add(play: Play) -> Play:
        SCENARIOS[play.__name__] = Scenario(play=play, **arguments)
        return play

    return add


# --- enqueue ------------------------------------------------------------------------------------------


def nothing(life: Life) -> None:
    """Nothing was before."""


def all_or_nothing(life: Life, states: list[str]) -> None:
    """The host's row is there if, and only if, its records are."""
    assert states == ["delivered"] * (4 if Group.objects.using(life.alias).exists() else 0)


@scenario(before=nothing, ends=all_or_nothing, main=True)
def enqueue(life):
    """A host writes a row of its own and records, in one transaction."""
    with transaction.atomic(using=life.alias):
        Group.objects.using(life.alias).create(name="a row of the host")
        outbox.enqueue(record(1), using=life.alias)
        outbox.enqueue_many([record(n) for n in (2, 3, 4)], using=life.alias)


def three_or_none(life: Life, states: list[str]) -> None:
    """All of the call, or nothing of it."""
    assert states in ([], ["delivered"] * 3)


@scenario(before=nothing, ends=three_or_none)
def enqueue_many(life):
    """A host writes records in no transaction of its own: all or none."""
    outbox.enqueue_many([record(n) for n in (1, 2, 3)], using=life.alias)


# --- seal, send, settle -------------------------------------------------------------------------------


@scenario(main=True, wakes=True)
def accepted(life):
    """202 for all."""
    life.relay()


@scenario()
def sealed(life):
    """A batch is sealed in a workspace that nobody has used before."""
    seal_next(life.channel)


@scenario()
def given_back(life):
    """The lease would not last until an answer: the batch is given back unsent."""
    with life.under(LEASE=1):
        life.relay()


@scenario(paced=True, settings={"RATE_LIMIT": 100_000})
def paced_by_the_database(life):
    """202, each slot from the row of the throttle."""
    life.relay()


@scenario(paced=True, settings={"RATE_LIMIT": 100_000}, faults=[Fault.too_many(0.001)])
def throttled(life):
    """429 holds everybody, in the workspace and at the keeper of the pace."""
    life.relay()


def known_to_redis(life):
    life.enqueue(1, 2, 3)
    pace, _ = life.channel.throttle.keys
    redis.Redis.from_url(REDIS_URL).hset(pace, "free_at", 0)  # a keeper that forgot lets nobody in at first


if REDIS_URL:

    @scenario(
        before=known_to_redis,
        paced=True,
        settings={"RATE_LIMIT": 100_000, "REDIS_URL": REDIS_URL},
    )
    def paced_by_redis(life):
        """202, each slot from Redis."""
        life.relay()


def two_versions(life):
    life.enqueue(1, 2)
    life.enqueue(1, data={"version": 2})


@scenario(before=two_versions, ends="superseded delivered delivered")
def unsent_versions(life):
    """Two versions of one identity wait: the older one is set aside."""
    life.relay()


def older_in_flight(life):
    life.enqueue(1)
    life.relay()
    life.enqueue(1, data={"version": 2})
    life.clock.move(10)


@scenario(before=older_in_flight, ends="delivered delivered", again=True)
def newer_version_waits(life):
    """The older version comes to its end; then the newer one goes."""
    life.relay()
    life.track()
    life.relay()


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
    main=True,
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


def two_refused_alike(life):
    life.enqueue(*range(16))
    life.sandbox.fail_next(Fault.too_many(5))
    life.send()
    life.sandbox.fail_next(REFUSED_ALIKE, count=None)
    life.clock.move(10)
    life.send(new_first=True)
    life.send(new_first=True)


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
    life.send(new_first=True)


def paused_group(life):
    two_refused_alike(life)
    life.send(new_first=True)
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


@scenario(faults=[Fault(status=401)])
def key_refused(life):
    """401 pauses the workspace."""
    life.relay()


@scenario()
def no_key(life):
    """No key is set: the workspace is paused before anything is sealed."""
    with life.under(API_KEY=""):
        life.relay()


@scenario(paced=True, settings={"RATE_LIMIT": 100_000})
def keeper_is_down(life):
    """Redis keeps the pace and is not there: nothing is sent."""
    with life.under(REDIS_URL="redis://127.0.0.1:1/0"):
        life.relay()


@scenario(faults=[Fault.server_error()])
def server_error(life):
    """500: in doubt, and the workspace backs off."""
    life.relay()


@scenario(faults=[Fault.drop_after()], wakes=True)
def dropped_after_handling(life):
    """Taken, and the answer lost: in doubt."""
    life.relay()


@scenario(faults=[Fault(status=418)])
def not_an_evermuse(life):
    """Another answer than Evermuse gives: nothing was taken."""
    life.relay()


def in_doubt(life):
    life.enqueue(1, 2, 3)
    life.sandbox.fail_next(Fault.drop_after())
    life.relay()
    life.clock.move(600)


@scenario(before=in_doubt, main=True, wakes=True)
def doubt_ends(life):
    """The batch in doubt is asked about again with its key: one sender tries, and the workspace opens."""
    life.relay()


@scenario(before=in_doubt, faults=[Fault.too_many(5)])
def doubt_goes_on(life):
    """429 for a batch in doubt, which stays in doubt."""
    life.relay()


def long_in_doubt(life):
    in_doubt(life)
    life.clock.move(2 * DAY)
    life.sandbox.forget_idempotency_keys()


@scenario(before=long_in_doubt, wakes=True)
def found_in_the_listing(life):
    """Evermuse may have forgotten the key, and has the batch: it is recognised."""
    life.relay()


def long_in_doubt_and_not_there(life):
    life.enqueue(1, 2, 3)
    life.sandbox.fail_next(Fault.drop_before())
    life.relay()
    life.clock.move(2 * DAY)


@scenario(before=long_in_doubt_and_not_there)
def not_in_the_listing(life):
    """Evermuse may have forgotten the key, and does not have the batch: it is sent again."""
    life.relay()


def held_before(life):
    life.enqueue(1, 2, 3)
    life.sandbox.fail_next(Fault.too_many(5))
    life.relay()
    life.clock.move(10)


@scenario(before=held_before)
def hold_is_over(life):
    """The ``retryAfter`` of a 429 has passed."""
    life.relay()


def altered(life):
    life.enqueue(1, 2, 3)
    life.sandbox.fail_next(Fault.drop_before())
    life.relay()
    life.clock.move(600)
    life.rewrite(life.records[0], "Hello", "Goodbye")


@scenario(before=altered, ends="rejected rejected rejected")
def altered_after_sealing(life):
    """The lines no longer give the bytes that were sealed: given up, and never sent."""
    life.relay()


def in_the_other_contract(life):
    with life.under(CONTRACT="openapi"):
        life.enqueue(1, 2)
        life.enqueue(3, _project_id=None, _project_ids=["p1", "p2"])


@scenario(before=in_the_other_contract, ends="delivered delivered rejected")
def other_contract(life):
    """Lines of another contract are rewritten at sealing; one that cannot be is rejected."""
    life.relay()


# --- track --------------------------------------------------------------------------------------------


def accepted_before(life):
    life.enqueue(1, 2, 3)
    life.relay()
    life.clock.move(10)


@scenario(before=accepted_before, main=True, wakes=True)
def complete(life):
    """COMPLETE."""
    life.track()


def many_accepted_before(life):
    for number in range(20, 24):
        life.enqueue(number, _product_id=f"product-{number}")
    life.relay()
    life.clock.move(10)


@scenario(before=many_accepted_before, ends="delivered " * 4)
def many_complete(life):
    """One listing tells of many."""
    life.track()


def failed_before(life):
    life.enqueue(1, 2, 3)
    life.sandbox.fail_next(Fault.failed_batch())
    life.relay()
    life.clock.move(10)


@scenario(before=failed_before, main=True, wakes=True)
def failed(life):
    """FAILED: sealed again under a new key."""
    life.track()


@scenario(before=failed_before, settings={"MAX_RESENDS": 0}, ends="rejected rejected rejected")
def failed_too_often(life):
    """FAILED for the last time: its records wait for a person."""
    life.track()


def one_more_rejected(life):
    accepted_before(life)
    life.change_its_mind(1, named=True)


@scenario(before=one_more_rejected, ends="delivered rejected delivered", wakes=True)
def complete_but_for_one(life):
    """COMPLETE, and a record rejected that the 202 did not tell of."""
    life.track()


def one_more_rejected_somewhere(life):
    accepted_before(life)
    life.change_its_mind(1, named=False)


@scenario(before=one_more_rejected_somewhere, again=True)
def complete_but_for_somebody(life):
    """COMPLETE, and a record rejected that nobody names: halves, under new keys."""
    life.track()


def forgotten_before(life):
    accepted_before(life)
    OutboxBatch.objects.using(life.alias).update(remote_id="batch_unknown")
    life.clock.move(DAY)


@scenario(before=forgotten_before, again=True)
def forgotten(life):
    """404 for long counts as FAILED."""
    life.track()


@scenario(before=accepted_before, faults=[Fault.server_error(on="GET")])
def read_fails(life):
    """500 to a read, which holds nobody."""
    life.track()


@scenario(before=accepted_before, faults=[Fault.too_many(5, on="GET")])
def read_throttled(life):
    """429 to a read, which holds everybody."""
    life.track()


@scenario(before=accepted_before, faults=[Fault(status=401, on="GET")])
def read_refused(life):
    """401 to a read, which pauses the workspace."""
    life.track()


def paused_by_a_read(life):
    accepted_before(life)
    life.sandbox.fail_next(Fault(status=401, on="GET"))
    life.track()
    life.clock.move(100)


@scenario(before=paused_by_a_read)
def read_ends_the_pause(life):
    """The key works again, and a read is the first to find out."""
    life.track()


# --- maintain, and what a person asks for -------------------------------------------------------------


def lease_expired(life):
    life.enqueue(1, 2, 3)
    seal_next(life.channel)
    life.clock.move(life.channel.settings.lease + 1)


@scenario(before=lease_expired, main=True)
def rescued(life):
    """A batch whose worker never came back becomes in doubt."""
    life.maintain()


def long_over(life):
    life.enqueue(1, 2, 3, bad=(3,))
    life.enqueue(1, data={"version": 2})
    life.relay()
    life.clock.move(10)
    life.enqueue(*range(10, 16))
    many_accepted_before(life)
    life.track()
    life.records.model.rows.using(life.alias).update(enqueued_at=life.clock.now())
    life.clock.move(30 * DAY)


def only_the_rejected_is_left(life: Life, states: list[str]) -> None:
    """What is over went, and what waits for a person stays."""
    assert states == ["rejected"]


@scenario(before=long_over, ends=only_the_rejected_is_left, purges=True)
def purged(life):
    """What was over long ago goes."""
    life.maintain()


def rejected_before(life):
    _, row, _ = life.enqueue(1, 2, 3, bad=(2,))
    life.relay()
    life.rewrite(row, "nonsense", "evidence")


def back_or_not(life: Life, states: list[str]) -> None:
    """Either the person's word was heard, or it can be given again."""
    assert states in (["delivered"] * 3, ["delivered", "rejected", "delivered"])


@scenario(before=rejected_before, ends=back_or_not, main=True)
def retried(life):
    """A person asks for a rejected record once more."""
    retry(life.alias, [row.pk for row in life.records.filter(state="rejected")])


def discarded_or_not(life: Life, states: list[str]) -> None:
    """A pending record that was not discarded in time goes its way."""
    assert states in (["delivered"] * 3, ["discarded"] * 3)


@scenario(ends=discarded_or_not)
def discarded(life):
    """A person gives records up."""
    life.records.model.rows.using(life.alias).discard()
