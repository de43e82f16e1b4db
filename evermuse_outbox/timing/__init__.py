"""When a record may be sent, as the host says it: ``send_after``, ``expires_at``, ``debounce`` and ``max_delay``.

The package must not change records. Its public interface is ``make_timing``, which checks :class:`Times`,
``insert_deferrals``, and ``read_time`` for times that a person enters.
"""

from .read_time import read_time
from .timing import MAX_DELAY_FACTOR, Times, Timing, When, insert_deferrals, make_timing

__all__ = ["MAX_DELAY_FACTOR", "Times", "Timing", "When", "insert_deferrals", "make_timing", "read_time"]
