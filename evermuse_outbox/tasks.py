"""The Celery tasks. Each finds its work in the database, so a task may be lost, repeated or run twice at once.

A lease reserves a batch for one task for a limited time, so that two tasks do not send or poll it at once.
The messages contain only the names of a database and a workspace.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import current_task, shared_task

from .conf import get_settings
from .delivery.connections import close_thread_connections, share_connections
from .delivery.context import (
    Clock,
    isolate_database_errors,
    open_context,
    retry_on_database_error,
    statement_deadlines,
)
from .delivery.deferral import apply_all_due
from .delivery.loop import MAX_RUN_SECONDS, relay_run, run_seconds
from .delivery.loop import poll as poll_until
from .delivery.polling import poll_due_batch
from .delivery.scanning import find_work
from .delivery.scheduling import has_work
from .foreign_text import get_logger, log_ids
from .jobs import has_running_job, run_operations
from .messages import (
    MessageKey,
    OutboxTask,
    Publication,
    count_waiting,
    longest_waiting,
    publish,
    take_late,
)
from .monitoring import beat
from .upkeep import maintain_all

logger = get_logger(__name__)

RUN_SECONDS = MAX_RUN_SECONDS
"""Seconds after which a task starts nothing new and ends. If many others wait, a task ends earlier."""

IDLE_SECONDS = 0.5
"""Seconds of this process in which a repeated message is dropped: a tick that follows a tick.

So a backlog of messages, after a time without workers, costs no statement for each message.
"""

MAX_LINGER = 1.0
"""Seconds that a wake-up waits at most for records that linger. A later tick finds the others."""


@contextmanager
def _shared_connections() -> Iterator[None]:
    """Share the database connections of a worker's process between its threads; see ``delivery/connections``.

    A task that runs in a process of the host keeps the host's connection.
    """
    is_in_worker = current_task and not (
        current_task.request.called_directly or current_task.request.is_eager
    )
    if is_in_worker:
        close_thread_connections()  # an earlier task may have changed the session of an open connection
    with share_connections(is_worker=bool(is_in_worker)):
        yield


@shared_task(name="evermuse_outbox.tick", ignore_result=True, bind=True, base=OutboxTask)
@statement_deadlines()
@_shared_connections()
def tick(self: Any) -> None:
    """Request a run of :func:`relay` and :func:`poll` for each database and workspace where they have work.

    Request a run of :func:`operate` for each database with a job that a person has confirmed.

    Do nothing if this process did the same a moment ago. If the message of a relay has waited for long, run that relay
    here: then the queue is long, and the delivery must not depend on its end.
    """
    if _is_repeated(self):
        return
    late: list[MessageKey] = []
    for using in get_settings().databases:
        beat(using, "tick")
        with isolate_database_errors(using):
            clock = Clock.of(using)
            if retry_on_database_error(using, clock, has_running_job, using):
                _request_another(operate, using)
            names = get_settings().workspaces
            work = retry_on_database_error(using, clock, find_work, using, names, clock)
            opened = {name for name in work.deferred if apply_all_due(using, name, clock)}
            for workspace in names:
                if (
                    workspace in work.send | opened
                    and _request_another(relay, using, workspace) is Publication.LATE
                ):
                    late.append(MessageKey(using, relay.name, workspace))
                if workspace in work.poll:
                    _request_another(poll, using, workspace)
    if late:
        _run_late(late)


@shared_task(name="evermuse_outbox.relay", ignore_result=True, base=OutboxTask)
@statement_deadlines()
@_shared_connections()
def relay(using: str, workspace: str, linger: float = 0.0) -> int:
    """Seal and send batches for up to 5 seconds. If it sent any and records are left, request another run.

    If many other runs wait for a slot of the workers, the run is shorter, so that all workspaces have their turn.

    To seal a batch means to commit its records, their order, its exact bytes and its idempotency key.

    Args:
        using: Database alias.
        workspace: Name of the workspace.
        linger: Seconds after which another run is requested if records are left, because further ones arrive soon. A
            wake-up sets it. While this process waits for that, later wake-ups start no run of their own. The wait
            occupies no slot of the worker, since other workspaces need the slots.

    Returns:
        The number of batches sent.
    """
    if relay.is_copy():
        return 0
    is_in_worker = not (relay.request.called_directly or relay.request.is_eager)
    if linger and is_in_worker and not _request_later((using, workspace), min(linger, MAX_LINGER)):
        return 0
    sent = 0
    with isolate_database_errors(f"{using}/{workspace}"):
        beat(using, f"relay of workspace {workspace}")
        context = open_context(using, workspace)
        with relay_run(context, _run_seconds(using), is_needed=bool(linger)) as run:
            if run.sent and has_work(context):
                _request_another(relay, using, workspace)
        sent = run.sent
        # Relays can occupy all worker processes for a long time. Without this call, no batch would be polled then.
        poll_due_batch(context)
    return sent


@shared_task(name="evermuse_outbox.poll", ignore_result=True, base=OutboxTask)
@statement_deadlines()
@_shared_connections()
def poll(using: str, workspace: str) -> int:
    """Poll accepted batches that are due, for up to 5 seconds: ask Evermuse for their status, and store it.

    Returns:
        The number of batches polled.
    """
    if poll.is_copy():
        return 0
    with isolate_database_errors(f"{using}/{workspace}"):
        beat(using, f"poll of workspace {workspace}")
        return poll_until(open_context(using, workspace), _run_seconds(using))
    return 0


@shared_task(name="evermuse_outbox.operate", ignore_result=True, base=OutboxTask)
@statement_deadlines()
@_shared_connections()
def operate(using: str) -> int:
    """Execute chunks of confirmed jobs for up to 5 seconds. If any are left, request another run.

    Args:
        using: Database alias.

    Returns:
        The number of records or batches handled.
    """
    if operate.is_copy():
        return 0
    handled = 0
    beat(using, "jobs")
    with isolate_database_errors(using):
        handled = run_operations(using, _run_seconds(using))
        if handled and has_running_job(using):
            _request_another(operate, using)
    return handled


@shared_task(name="evermuse_outbox.maintain", ignore_result=True, bind=True, base=OutboxTask)
@statement_deadlines()
@_shared_connections()
def maintain(self: Any) -> None:
    """Rescue batches with an expired lease, purge rows that are older than the retention, and update statistics.

    Do nothing if this process did the same a moment ago.
    """
    if _is_repeated(self):
        return
    maintain_all()


def _run_seconds(using: str) -> float:
    """Return the seconds of a run. The relays that wait decide, because the other tasks are short or few."""
    return run_seconds(count_waiting(using, relay.name))


def _run_late(late: list[MessageKey]) -> None:
    """Run the relay that has waited longest, of those in the first database that has any."""
    using = late[0].using
    with isolate_database_errors(using):
        key = longest_waiting([key for key in late if key.using == using])
        if take_late(relay.name, using, key.workspace):
            relay(using, key.workspace)


def request_run(
    task: Any, using: str, workspace: str = "", linger: float = 0, *, is_host: bool = False
) -> Publication:
    """Publish a message that starts ``task`` for a database and a workspace, unless one waits in the queue.

    Args:
        task: :func:`relay`, :func:`poll` or :func:`operate`.
        using: Database alias.
        workspace: Name of the workspace; empty for a task that has none.
        linger: Seconds that the task waits for records that linger.
        is_host: Whether a process of the host publishes.

    Raises:
        Exception: The broker did not take the message; see :func:`evermuse_outbox.messages.publish`.
    """
    arguments = tuple(value for value in (using, workspace, linger) if value)
    return publish(task, arguments, is_host=is_host, queue=get_settings().celery_queue)


def _request_another(task: Any, using: str, workspace: str = "") -> Publication | None:
    """Request a run as :func:`request_run` does. If the broker fails, log a warning and return None."""
    try:
        return request_run(task, *((using, workspace) if workspace else (using,)))
    except Exception as error:
        logger.warning(
            "no run of %s could be requested; the next tick requests it (%s)",
            task.name,
            type(error).__name__,
            extra=log_ids(database=using, workspace=workspace),
        )
        return None


_last_run: dict[str, float] = {}
"""Name of a task that beat requests → when this process last began it, on the monotonic clock."""

_lingering: dict[tuple[str, str], float] = {}
"""Queue key with a timer → when the linger of its latest wake-up ends, on the monotonic clock."""

_lingering_lock = threading.Lock()


def _is_repeated(task: Any) -> bool:
    """Return whether the message is a copy, or a worker's process began the same task in the last ``IDLE_SECONDS``."""
    if task.is_copy():
        return True
    now = time.monotonic()
    if task.request.called_directly or now - _last_run.get(task.name, float("-inf")) >= IDLE_SECONDS:
        _last_run[task.name] = now
        return False
    return True


def _request_later(queue_key: tuple[str, str], linger: float) -> bool:
    """Request a relay after ``linger`` seconds if records are left then. Return False if a timer does it already.

    One timer of this process serves all wake-ups of a queue key. A timer that is lost with its process delays the
    records until the next tick.
    """
    with _lingering_lock:
        has_timer = queue_key in _lingering
        _lingering[queue_key] = time.monotonic() + linger
    if not has_timer:
        _start_timer(queue_key, linger)
    return not has_timer


def _start_timer(queue_key: tuple[str, str], seconds: float) -> None:
    timer = threading.Timer(seconds, _run_timer, (queue_key,))
    timer.daemon = True
    timer.start()


def _run_timer(queue_key: tuple[str, str]) -> None:
    try:
        with share_connections(is_worker=True):
            _end_linger(queue_key)
    finally:
        close_thread_connections()


def _end_linger(queue_key: tuple[str, str]) -> None:
    """Request a relay if records are left. If later wake-ups still linger, wait for them with another timer."""
    with _lingering_lock:
        left = _lingering[queue_key] - time.monotonic()
        if left <= 0:
            del _lingering[queue_key]
    if left > 0:
        _start_timer(queue_key, left)
    with isolate_database_errors("/".join(queue_key)), statement_deadlines():
        if has_work(open_context(*queue_key)):
            _request_another(relay, *queue_key)
