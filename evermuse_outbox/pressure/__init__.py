"""Pressure: how long a record that is enqueued now will probably wait.

The package only reads, except for one row of each workspace that says since when the pressure is high. Hosts import it
with ``outbox``, so nothing of the delivery is imported before the first measurement.
Its public interface is ``read_pressure``, ``refuse_if_full`` with ``OutboxFull``, ``observe_pressure`` for workers, and
``measure_now`` for the pace of a backfill.
"""

from .current import measure_now, observe_pressure, read_pressure, refuse_if_full
from .figures import OutboxFull, Pressure

__all__ = ["OutboxFull", "Pressure", "measure_now", "observe_pressure", "read_pressure", "refuse_if_full"]
