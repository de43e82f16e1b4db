"""Django signals: what became of batches and records, and when a workspace or a group fails or recovers.

::

    from django.dispatch import receiver
    from evermuse_outbox.signals import records_settled

    @receiver(records_settled)
    def show_result(sender, using, workspace, batch_id, outcome, record_ids, **kwargs):
        Message.objects.filter(outbox_id__in=record_ids).update(outbox_state=outcome)

A signal is sent after the commit, in the process that made the change: a worker, a command or the admin. A transaction
that is rolled back sends nothing. Without a receiver, a signal costs nothing.

A signal is a notification and not a queue. If the process ends between the commit and the call, no receiver is called.
The tables have the truth. A receiver that raises an exception is logged, and the delivery goes on. The delivery waits
for receivers, so a slow receiver should start a task of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.db import connections, transaction
from django.dispatch import Signal

batch_settled = Signal()
"""Sent once for each change of a batch that ends sending or polling.

Arguments: ``using``, ``workspace``, ``batch_id``, ``type``, ``product_id``, ``record_count`` and ``outcome``:

* ``accepted``: Evermuse has taken the batch (202) and processes it;
* ``complete``: Evermuse has processed the batch;
* ``refused``: Evermuse has refused the batch or a part of it, and its other records go on in new batches;
* ``failed``: Evermuse reports FAILED for an accepted batch, and its records go on in a new batch;
* ``split``: records were removed or altered after the sealing, and the other ones go on in new batches;
* ``withdrawn``: the batch will not be sent, because its group was paused or a person gave it up.

The sender is the model ``OutboxBatch``.
"""

records_settled = Signal()
"""Sent once for each batch in which records were delivered or rejected.

Arguments: ``using``, ``workspace``, ``batch_id``, ``record_ids`` (a tuple of ids) and ``outcome``, ``delivered`` or
``rejected``. ``batch_id`` is None for records that were rejected before they were in a batch. A record that a newer
version supersedes sends no signal, and neither does a record that a person discards. The sender is the model
``OutboxRecord``.
"""

incident_opened = Signal()
"""Sent when an incident begins: something disturbs the delivery, or a worker is missing.

A process that maintains the outbox observes it every 10 seconds, so a shorter disturbance may be missed.

Arguments: ``using``, ``workspace``, ``kind``, ``subject`` (such as the name of a group; else empty), ``reason``,
``began_at`` and ``incident_id``. ``kind`` is a value of ``IncidentKind``. The sender is the model ``OutboxIncident``.
"""

incident_closed = Signal()
"""Sent when an incident is over: its condition was not observed for 30 seconds or longer, depending on the kind.

Arguments: those of :data:`incident_opened`, and ``ended_at``.
"""

workspace_failing = Signal()
"""Sent when a workspace stops sending: the API or the network fails, Evermuse throttles, or the key is refused.

A single failed request is not reported.

Arguments of this and the following signals: ``using``, ``workspace``, ``reason``, ``began_at`` and ``incident_id``. The
signals of groups have ``type`` and ``product_id``, too; ``*_recovered`` has ``ended_at``. The sender is the model
``OutboxIncident``.
"""

workspace_exhausted = Signal()
"""Sent when a failing workspace probably needs a person.

The key is refused or missing, there are no credits, or the database was restored.
"""

workspace_recovered = Signal()
"""Sent when a failing workspace has been active for 30 seconds."""

group_failing = Signal()
"""Sent when a group is paused, because Evermuse refuses all of its records with the same error."""

group_exhausted = Signal()
"""Sent when three probes of a paused group were refused, too: it probably needs a person."""

group_recovered = Signal()
"""Sent when a paused group has been out of trouble for 30 seconds."""


run_finished = Signal()
"""Sent when a run is finished: it is closed, and none of its records waits or is in flight.

It is sent again if the run was not finished meanwhile, because a person has retried records of it; and if a transaction
has added records after the run was closed.

Arguments of this and the next signal: ``using``, ``workspace``, ``run`` (the handle), ``counts`` (records by state) and
``is_clean``: whether the run is finished without rejected records. A worker sends both signals when it counts a run. If
it dies in that moment, the signal is sent twice. The sender is the model ``OutboxRun``.
"""

run_needs_person = Signal()
"""Sent when records of a run are rejected: a person should look at them. Sent again after all of them were handled."""


pressure_changed = Signal()
"""Sent when the probable wait of a new record has crossed the setting ``PRESSURE_THRESHOLD``.

Arguments: ``using``, ``workspace``, ``is_high`` (False if the wait is below half of the threshold again) and
``pressure``, see ``outbox.Pressure``. Workers measure it about every 10 seconds. The sender is the model
``OutboxPressure``.
"""


def send_after_commit(
    signal: Signal, sender: Any, using: str, events: Callable[[], Iterable[dict[str, Any]]]
) -> None:
    """Send a signal once for each event after the commit of the open transaction, or now if none is open.

    Args:
        signal: the signal.
        sender: the model that the events are about.
        using: database alias of the transaction.
        events: return the arguments of each call. It is called after the commit, and only if a receiver is connected.
    """
    if not signal.has_listeners(sender):
        return

    def send_events() -> None:
        for event in events():
            signal.send_robust(sender, using=using, **event)

    call_after_commit(send_events, using)


def call_after_commit(function: Callable[[], None], using: str) -> None:
    """Call a function after the commit, or now if no transaction is open. An exception is logged and not raised."""
    connection: Any = connections[using]
    # With autocommit off, the host commits by hand, and Django does not report it.
    if connection.in_atomic_block or connection.get_autocommit():
        transaction.on_commit(function, using=using, robust=True)


def is_in_transaction(using: str) -> bool:
    """Return whether a transaction of the host is open. That of a ``TestCase``, which never commits, is none."""
    connection: Any = connections[using]
    if connection.in_atomic_block:
        return not all(getattr(block, "_from_testcase", False) for block in connection.atomic_blocks)
    return not connection.get_autocommit()
