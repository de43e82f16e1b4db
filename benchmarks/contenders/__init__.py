"""What ``python -m benchmarks peers`` sets side by side: one module a contender, each as its own README wants it.

A contender's module is its Django settings and has ``enqueue(record)``. What the benchmark must know without
importing it stands here: it may not be installed, and lives in an environment of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

IN_FLIGHT = 10
"""Sends at a time where a contender can be told: what ``SENDERS`` of ours is by default."""

CELERY = ("-m", "celery", "-q", "-A")
WORKER = ("worker", "-l", "WARNING", "--without-gossip", "--without-mingle", "-P", "threads", "-c")


@dataclass(frozen=True)
class Contender:
    """One of those compared; ``workers`` are arguments of Python, a process each."""

    title: str
    module: str
    workers: tuple[tuple[str, ...], ...]
    in_flight: str
    durable: str
    left: str = "SELECT 0"
    """SQL for the number of rows whose delivery has not been written down yet."""
    requires: str = ""
    """The package, its version in ``requirements.txt``; empty for ours, which runs where the benchmark does."""
    at_commit: bool = False
    """The work of enqueueing happens when the transaction commits."""
    scale: int = 1
    """Times as many records, the others in bulk: a backlog of ours is gone before it can be measured."""
    outbox: Mapping[str, Any] = field(default_factory=dict)
    """Keys of ``EVERMUSE_OUTBOX``."""

    @property
    def settings(self) -> str:
        """The dotted name of its settings module."""
        return f"{__name__}.{self.module}"


def _ours(title: str, scale: int, **outbox: Any) -> Contender:
    return Contender(
        title=f"evermuse_outbox, {title}",
        module="ours",
        workers=(
            (*CELERY, "example_project", *WORKER, "3"),
            (*CELERY, "example_project", "beat", "-l", "WARNING"),
        ),
        in_flight=f"{IN_FLIGHT}",
        durable="yes",
        left="SELECT count(*) FROM evermuse_outbox_outboxbatch WHERE state <> 'complete'",
        scale=scale,
        outbox=outbox,
    )


UNPACED = 100_000.0
"""RATE_LIMIT that holds nobody back."""

CONTENDERS = (
    _ours("1,000 a request", 20, RATE_LIMIT=UNPACED),
    _ours("1,000 a request, at the published pace", 20),
    _ours("one a request", 1, RATE_LIMIT=UNPACED, MAX_BATCH_RECORDS=1),
    Contender(
        title="Celery task a record",
        module="celery_task",
        requires="celery[redis]",
        at_commit=True,
        workers=((*CELERY, "benchmarks.contenders.celery_task", *WORKER, f"{IN_FLIGHT}"),),
        in_flight=f"{IN_FLIGHT}",
        durable="no: lost when the host dies after COMMIT, or Redis forgets",
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
        durable="yes, as far as the broker",
        left="SELECT count(*) FROM celery_outbox",
    ),
    Contender(
        title="django-post_office",
        module="post_office",
        requires="django-post_office",
        workers=(("-m", "django", "send_queued_mail", "--lockfile", "{home}/post_office"),),
        in_flight=f"{IN_FLIGHT}",
        durable="yes; a crash sends up to a batch again",
        left="SELECT count(*) FROM post_office_email WHERE status IS DISTINCT FROM 0",
    ),
    Contender(
        title="django-outbox-pattern",
        module="outbox_pattern",
        requires="django-outbox-pattern",
        workers=(("-m", "django", "publish"),),
        in_flight="1",
        durable="yes; a crash sends all since its BEGIN again",
        left="SELECT count(*) FROM published WHERE status <> 2",
    ),
    Contender(
        title="django-jaiminho",
        module="jaiminho",
        requires="django-jaiminho",
        workers=(("-m", "django", "events_relay", "--run-in-loop", "--loop-interval", "0.1"),),
        in_flight="1",
        durable="yes; a crash sends one again",
        left="SELECT count(*) FROM jaiminho_event WHERE sent_at IS NULL",
    ),
)
