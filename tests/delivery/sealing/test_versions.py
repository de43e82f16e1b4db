"""The latest version wins: older versions are superseded, and a newer one waits while an older one is in flight."""

from __future__ import annotations

from evermuse_outbox.delivery.loop import poll, relay
from evermuse_outbox.models import OutboxRecord
from tests.delivery.helpers import state_of
from tests.records import enqueue


def test_an_unsent_older_version_is_superseded(context, alias, sandbox):
    first, second, third = (enqueue(alias, 1, data={"version": n})[0] for n in range(3))
    relay(context, 60)
    assert [state_of(row) for row in (first, second, third)] == ["superseded", "superseded", "in_flight"]
    assert (first.superseded_by, second.superseded_by) == (third.pk, third.pk)
    assert [stored.record["data"] for stored in sandbox.records()] == [{"version": 2}]


def test_an_older_version_in_another_group_is_superseded(context, alias, sandbox):
    (older,) = enqueue(alias, 1, _product_id="a")
    (newer,) = enqueue(alias, 1, _product_id="b")
    relay(context, 60)
    assert (state_of(older), state_of(newer)) == ("superseded", "in_flight")


def test_a_newer_version_waits_for_the_older_one_in_flight(context, alias, sandbox, clock):
    enqueue(alias, 1, data={"version": 1})
    relay(context, 60)
    (newer,) = enqueue(alias, 1, data={"version": 2})
    (other,) = enqueue(alias, 2)
    relay(context, 60)
    assert (state_of(newer), state_of(other)) == ("pending", "in_flight")

    clock.move(5)
    poll(context, 60)
    relay(context, 60)
    assert state_of(newer) == "in_flight"
    assert sandbox.records()[0].record["data"] == {"version": 2}


def test_an_older_version_that_is_committed_late_is_never_sent(context, alias, sandbox, clock):
    (late,), (newer,) = enqueue(alias, 1), enqueue(alias, 1, data={"version": 2})
    # The older row becomes visible only after the newer one was delivered: ids are not commit order.
    OutboxRecord.rows.using(alias).filter(pk=late.pk).delete()
    relay(context, 60)
    clock.move(5)
    poll(context, 60)
    late.save(using=alias, force_insert=True)
    relay(context, 60)
    assert state_of(late) == "superseded"
    assert state_of(newer) == "delivered"
    assert [stored.times for stored in sandbox.records()] == [1]
