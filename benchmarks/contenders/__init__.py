"""The packages that ``python -m benchmarks peers`` compares, one module for each, set up as its README recommends.

The module of a contender contains its Django settings and a function ``enqueue(record)``. The benchmark cannot import
it, because the package is installed in another virtual environment. So the facts that the benchmark needs are here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

IN_FLIGHT = 10
"""Concurrent sends, if a contender has such a setting. It is the default of ``SENDERS`` in this package."""

CELERY = ("-m", "celery", "-q", "-A")
WORKER = ("worker", "-l", "WARNING", "--without-gossip", "--without-mingle", "-P", "threads", "-c")


@dataclass(frozen=True)
class Contender:
    """A package to compare. ``workers`` are the command lines of its processes, as arguments of Python."""

    title: str
    module: str
    workers: tuple[tuple[str, ...], ...]
    in_flight: str
    durable: str
    undelivered_sql: str = "SELECT 0"
    """SQL for the number of rows that are not marked as delivered yet."""
    requires: str = ""
    """Package to install, at its version in ``requirements.txt``. Empty for evermuse_outbox, which is already there."""
    at_commit: bool = False
    """True if the record is enqueued when the transaction commits, and not by the call of ``enqueue``."""
    notify: str = "no"
    """Use of LISTEN and NOTIFY of PostgreSQL. NOTIFY takes a lock of the whole server while a transaction commits."""
    scale: int = 1
    """Factor for the number of records.

    A contender that sends many records per request needs a larger backlog, or the run is too short to be measured. The
    additional records are enqueued in bulk.
    """
    outbox: Mapping[str, Any] = field(default_factory=dict)
    """Settings in ``EVERMUSE_OUTBOX``."""

    @property
    def settings(self) -> str:
        """Return the dotted name of the settings module."""
        return f"{__name__}.{self.module}"


def _outbox_contender(title: str, scale: int, **outbox: Any) -> Contender:
    return Contender(
        title=f"evermuse_outbox, {title}",
        module="evermuse",
        workers=(
            (*CELERY, "example_project", *WORKER, "3"),
            (*CELERY, "example_project", "beat", "-l", "WARNING"),
        ),
        in_flight=f"{IN_FLIGHT}",
        durable="yes",
        undelivered_sql="SELECT count(*) FROM evermuse_outbox_outboxbatch WHERE state <> 'complete'",
        scale=scale,
        outbox=outbox,
    )


UNLIMITED_RATE = 100_000.0
"""A RATE_LIMIT that is never reached, in requests per second."""

CONTENDERS = (
    _outbox_contender("1,000 per request", 20, RATE_LIMIT=UNLIMITED_RATE),
    _outbox_contender("1,000 per request, at the published rate limit", 20),
    _outbox_contender("1 per request", 1, RATE_LIMIT=UNLIMITED_RATE, MAX_BATCH_RECORDS=1),
    Contender(
        title="Celery task per record",
        module="celery_task",
        requires="celery[redis]",
        at_commit=True,
        workers=((*CELERY, "benchmarks.contenders.celery_task", *WORKER, f"{IN_FLIGHT}"),),
        in_flight=f"{IN_FLIGHT}",
        durable="no: lost if the process crashes after COMMIT, or Redis loses data",
    ),
    Contender(
        title="django-celery-outbox",
        module="celery_outbox",
        requires="django-celery-outbox",
        workers=(
            ("-m", "django", "celery_outbox_relay"),
            (*CELERY, "benchmarks.contenders.celery_outbox", *WORKER, f"{IN_FLIGHT}"),
        ),
        in_flight=f"{IN_FLIGHT}",
        durable="yes, until it is in the broker",
        undelivered_sql="SELECT count(*) FROM celery_outbox",
    ),
    Contender(
        title="awa",
        module="awa",
        requires="awa-pg",
        workers=(("-m", "benchmarks.contenders.awa"),),
        in_flight=f"{IN_FLIGHT}",
        durable="yes; after a crash, the jobs that were running are sent again",
        undelivered_sql="SELECT count(*) FROM awa.jobs WHERE state <> 'completed'",
        notify="one NOTIFY per transaction and queue",
    ),
    Contender(
        title="django-post_office",
        module="post_office",
        requires="django-post_office",
        workers=(("-m", "benchmarks.contenders.post_office", "{home}/post_office"),),
        in_flight=f"{IN_FLIGHT}",
        durable="yes; after a crash, up to one batch is sent again",
        undelivered_sql="SELECT count(*) FROM post_office_email WHERE status IS DISTINCT FROM 0",
    ),
    Contender(
        title="django-outbox-pattern",
        module="outbox_pattern",
        requires="django-outbox-pattern",
        workers=(("-m", "django", "publish"),),
        in_flight="1",
        durable="yes; after a crash, all records since its BEGIN are sent again",
        undelivered_sql="SELECT count(*) FROM published WHERE status <> 2",
    ),
    Contender(
        title="django-jaiminho",
        module="jaiminho",
        requires="django-jaiminho",
        workers=(("-m", "django", "events_relay", "--run-in-loop", "--loop-interval", "0.1"),),
        in_flight="1",
        durable="yes; after a crash, one record is sent again",
        undelivered_sql="SELECT count(*) FROM jaiminho_event WHERE sent_at IS NULL",
    ),
)
