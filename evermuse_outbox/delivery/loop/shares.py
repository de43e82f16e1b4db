"""How long a run may keep its slot of a worker while other runs wait for one. Pure.

Celery starts waiting runs in the order of their messages, and a workspace has at most one message. So busy workspaces
take turns. A turn of five seconds is efficient while there are few of them. If there are a hundred, each would wait
for minutes.
"""

from __future__ import annotations

MAX_RUN_SECONDS = 5.0
"""Seconds after which a run starts nothing new and ends, so that other tasks can use its worker process."""

MIN_RUN_SECONDS = 0.25
"""Seconds of the shortest run: two or three requests at the published rate limit. In a shorter one, the start would
cost more than the requests."""

ROUND_SECONDS = 10.0
"""Seconds in which each waiting run has its turn if there is one slot and the turns are longer than the shortest."""


def run_seconds(waiting: int) -> float:
    """Return the seconds of a run while so many other runs wait for a slot."""
    return max(MIN_RUN_SECONDS, min(MAX_RUN_SECONDS, ROUND_SECONDS / (1 + waiting)))
