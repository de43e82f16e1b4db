"""Backfill: enqueue the records of rows that exist already, in a low-priority lane beside live traffic.

A backfill reads a model in the order of its primary key, in chunks. A chunk locks its rows, inserts their records and
stores the progress in one transaction. So an interruption loses and repeats nothing, and a concurrent change of a row
always comes later than the version that the backfill has read.

The lane is a pace, not a second queue: few requests of the backfill are under way at any time, and the next chunk waits
while live traffic needs the rate limit. This package sends nothing. Its public interface is
:class:`Plan` to describe a backfill, :func:`begin`, :func:`run` and :func:`check`. :class:`Backfill` is the kind of its
job, which the admin shows.
"""

from .job import BackfillEnded, Plan, Progress, begin, find_unfinished, run_plan_of
from .kind import Backfill
from .rows import BadRow
from .runner import TooManyBadRows, check, run

__all__ = [
    "Backfill",
    "BackfillEnded",
    "BadRow",
    "Plan",
    "Progress",
    "TooManyBadRows",
    "begin",
    "check",
    "find_unfinished",
    "run",
    "run_plan_of",
]
