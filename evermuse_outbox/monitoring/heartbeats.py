"""Heartbeats: each process that works on the outbox stores when it was seen last and what it does."""

from __future__ import annotations

import os
import re
import socket
import sys
import time
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from django.db import Error as DatabaseError
from django.db import connections

from ..database_clock import database_now
from ..foreign_text import get_logger, log_ids, summarise_error
from ..models import OutboxWorker
from ..version import WORKER_VERSION
from .incidents import remember_silence

logger = get_logger(__name__)

BEAT_INTERVAL = 10.0
"""Seconds of a process between two heartbeats. One UPDATE of a small row in this time costs nothing that is noticed."""

MISSING_AFTER = timedelta(minutes=3)
"""Time without any heartbeat after which workers are missing. Idle processes beat with their ticks, every second."""


@dataclass(slots=True)
class _Beat:
    """The heartbeat of this process in one database: its row, and when it was written, on the monotonic clock."""

    pk: uuid.UUID
    at: float


_beats: dict[tuple[int, str], _Beat] = {}
"""Process id and database alias → the last heartbeat. A fork has another process id, so it gets a row of its own."""


def beat(using: str, activity: str) -> bool:
    """Store that this process works, at most every ``BEAT_INTERVAL`` seconds. Return whether it was stored.

    A database error is logged and not raised, because the work does not depend on the heartbeat. If the error
    lasts, the work reports it as a warning.

    Args:
        using: Database alias.
        activity: What the process begins, in words, such as ``relay of workspace default``.
    """
    key, now = (os.getpid(), using), time.monotonic()
    last = _beats.get(key)
    if last and now - last.at < BEAT_INTERVAL:
        return False
    current = _Beat(last.pk if last else uuid.uuid4(), now)
    _beats[key] = current
    try:
        _store(using, current.pk, activity)
    except DatabaseError as error:
        ids = log_ids(database=using)
        logger.info("the heartbeat of this process was not stored (%s)", summarise_error(error), extra=ids)
        connections[using].close_if_unusable_or_obsolete()  # so that the work itself meets no lost connection
        return False
    return True


def _store(using: str, pk: uuid.UUID, activity: str) -> None:
    at, rows = database_now(using), OutboxWorker.objects.using(using)
    last_seen = rows.last_seen()
    if last_seen and at - last_seen > MISSING_AFTER:
        remember_silence(using, last_seen, at)
    if not rows.beat(pk, at, activity):
        rows.create(
            pk=pk,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=WORKER_VERSION,
            command=command_of_process(sys.argv),
            started_at=at,
            last_seen_at=at,
            activity=activity,
        )


def command_of_process(arguments: list[str]) -> str:
    """Return what runs this process: the program and its first word, such as ``celery worker``.

    Other arguments are left out, because they may contain secrets.
    """
    program = Path(arguments[0]).name if arguments else ""
    if program == "__main__.py":  # python -m celery
        program = Path(arguments[0]).parent.name
    words = [text for text in arguments[1:] if re.fullmatch(r"[a-z][a-z_]*", text)]
    if program == "celery":
        return "celery worker" if "worker" in words else "celery"
    if program in ("manage.py", "django-admin") and words:
        return words[0]
    return program or "python"


@dataclass(frozen=True, slots=True)
class WorkerSilence:
    """Whether workers are missing, and when one was seen last (None: never)."""

    is_missing: bool
    last_seen_at: datetime | None


def worker_silence(using: str) -> WorkerSilence:
    """Return whether no process was seen for ``MISSING_AFTER``. This costs one look-up in an index."""
    last_seen = OutboxWorker.objects.using(using).last_seen()
    is_missing = last_seen is None or database_now(using) - last_seen > MISSING_AFTER
    return WorkerSilence(is_missing, last_seen)
