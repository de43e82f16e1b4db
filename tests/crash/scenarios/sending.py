"""A batch is sealed and sent, and what comes back is settled."""

from __future__ import annotations

import redis

from evermuse_outbox.delivery.loop import seal_next
from evermuse_outbox.sandbox import Fault
from tests.services import REDIS_URL

from ..scenario import scenario

DAY = 86_400


@scenario(main=True, wakes=True)
def accepted(life):
    """202 for all."""
    life.relay()


@scenario()
def sealed(life):
    """A batch is sealed in a workspace that nobody has used before."""
    seal_next(life.context)


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
    pace, _ = life.context.throttle.keys
    redis.Redis.from_url(REDIS_URL).hset(
        pace, "next_slot_at", 0
    )  # a keeper that forgot lets nobody in at first


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


@scenario(before=in_doubt, wakes=True)
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
