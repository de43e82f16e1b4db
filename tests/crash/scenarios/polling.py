"""An accepted batch is followed to its end."""

from __future__ import annotations

from evermuse_outbox.models import OutboxBatch
from evermuse_outbox.sandbox import Fault

from ..scenario import scenario

DAY = 86_400


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


def unlisted_before(life):
    many_accepted_before(life)
    for batch in OutboxBatch.objects.using(life.alias).all():
        OutboxBatch.objects.using(life.alias).filter(pk=batch.pk).update(
            remote_id=f"batch_unknown_{batch.pk}"
        )
    life.clock.move(DAY)


@scenario(before=unlisted_before, ends="delivered " * 4, again=True)
def unlisted(life):
    """The listing does not show them; each is asked about alone, and sent again."""
    life.track()


@scenario(before=many_accepted_before, faults=[Fault.server_error(on="GET")], ends="delivered " * 4)
def listing_fails(life):
    """500 to the listing: one is asked about alone, the others later."""
    life.track()


def failed_before(life):
    life.enqueue(1, 2, 3)
    life.sandbox.fail_next(Fault.failed_batch())
    life.relay()
    life.clock.move(10)


@scenario(before=failed_before, wakes=True)
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
