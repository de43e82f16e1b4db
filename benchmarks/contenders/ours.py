"""evermuse_outbox as its README wants it, in the example project: enqueue, a Celery worker and beat."""

from benchmarks.settings import *  # noqa: F403


def enqueue(record):
    from evermuse_outbox import outbox

    outbox.enqueue(record)


def enqueue_many(records):
    from evermuse_outbox import outbox

    outbox.enqueue_many(records)
