"""The beat schedule of the outbox, for a host that configures its own Celery app.

::

    CELERY_BEAT_SCHEDULE = beat_schedule()              # in the settings of Django, or:
    app.conf.beat_schedule = {**beat_schedule(), …}

The same line is enough with django-celery-beat: its scheduler copies these entries into its tables.
"""

from __future__ import annotations

from typing import Any

TICK = 1.0
"""Seconds between two ticks. A tick looks for work in the database, so it also finds records without a wake-up."""

MAINTAIN = 1.0
"""Seconds between two runs of maintenance. Each run deletes a limited number of rows, so it must run often."""

STALE_ROUNDS = 10
"""Periods of a task after which RabbitMQ drops a message that no worker has read. Later messages request the same.

It is a time to live on the broker's clock. Celery's ``expires`` would compare the clocks of beat and worker.
"""


def beat_schedule(queue: str | None = None) -> dict[str, dict[str, Any]]:
    """Return the entries for Celery's ``beat_schedule``.

    Overlapping ticks do no harm, and neither does a second beat process.

    Args:
        queue: Celery queue of the messages; by default Celery's default queue.
    """
    return {
        "evermuse-outbox-tick": _entry("evermuse_outbox.tick", TICK, queue),
        "evermuse-outbox-maintain": _entry("evermuse_outbox.maintain", MAINTAIN, queue),
    }


def _entry(task: str, seconds: float, queue: str | None) -> dict[str, Any]:
    options: dict[str, Any] = {"expiration": STALE_ROUNDS * seconds}
    return {"task": task, "schedule": seconds, "options": options | ({"queue": queue} if queue else {})}
