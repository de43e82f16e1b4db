"""The beat schedule, in one line for a host that configures its own Celery app.

::

    app.conf.beat_schedule = {**beat_schedule(), …}     # or, in Django's settings:
    CELERY_BEAT_SCHEDULE = beat_schedule()

With django-celery-beat the same line is enough: its scheduler copies these entries into its tables.
"""

from __future__ import annotations

from typing import Any

TICK = 1.0
"""Seconds between two looks for work. A kick on commit is faster; the tick is what nothing can lose."""

MAINTAIN = 1.0
"""Seconds between two rescues and purges. Each purge is short, so that records go as fast as they may come."""


def beat_schedule(queue: str | None = None) -> dict[str, dict[str, Any]]:
    """Entries for Celery's ``beat_schedule``. Overlapping ticks, and two beats, do no harm.

    ``queue`` names the Celery queue of the ticks; leave it out for the default one.
    """
    return {
        "evermuse-outbox-tick": _entry("evermuse_outbox.tick", TICK, queue),
        "evermuse-outbox-maintain": _entry("evermuse_outbox.maintain", MAINTAIN, queue),
    }


def _entry(task: str, seconds: float, queue: str | None) -> dict[str, Any]:
    # A tick that could not run for ten rounds is stale: the next one does the same.
    options: dict[str, Any] = {"expires": 10 * seconds}
    return {"task": task, "schedule": seconds, "options": options | ({"queue": queue} if queue else {})}
