"""Pressure: how long a record that is enqueued now will probably wait.

The package only reads, except for one row of each workspace that says since when the pressure is high. Hosts import it
with ``outbox``, so nothing of the delivery is imported before the first measurement.
Its public interface is ``read_pressure``, ``refuse_if_full`` with ``OutboxFull``, and ``observe_pressure`` for workers.
"""

from .current import observe_pressure, read_pressure, refuse_if_full
from .figures import OutboxFull, Pressure

__all__ = ["OutboxFull", "Pressure", "observe_pressure", "read_pressure", "refuse_if_full"]
