"""What a person does with a job: confirm, pause, continue or cancel it."""

from __future__ import annotations

from datetime import datetime

from django.utils.translation import gettext as _

from ..delivery.context import Clock
from ..models import OperationQuerySet, OutboxOperation
from ..operations import NotPossible
from .collect import forget_list


def confirm(job: OutboxOperation, *, reason: str = "", clock: Clock | None = None) -> None:
    """Let the workers execute a job that is ready. They find it within a second. ``reason`` replaces the job's.

    Raises:
        NotPossible: The job is not ready: it still collects, or it was confirmed or cancelled meanwhile.
    """
    _change(
        job, _rows(job).confirm(job.pk, _now(job, clock), reason or job.reason), _("It cannot be confirmed.")
    )


def pause(job: OutboxOperation, message: str = "") -> None:
    """Stop a job after its present chunk, until it is continued or cancelled. ``message`` says why.

    Raises:
        NotPossible: The job is not running.
    """
    _change(job, _rows(job).pause(job.pk, message), _("It cannot be paused."))


def proceed(job: OutboxOperation) -> None:
    """Continue a job that is paused or has failed.

    Raises:
        NotPossible: The job is in another state.
    """
    _change(job, _rows(job).proceed(job.pk), _("It cannot be continued."))


def cancel(job: OutboxOperation, message: str = "", *, clock: Clock | None = None) -> None:
    """End a job that is not finished. What it has changed stays so. ``message`` says why.

    Raises:
        NotPossible: The job is over.
    """
    _change(job, _rows(job).cancel(job.pk, _now(job, clock), message), _("It cannot be cancelled."))
    forget_list(job)


def _change(job: OutboxOperation, is_changed: bool, refusal: str) -> None:
    job.refresh_from_db(using=job.using)
    if not is_changed:
        text = _("Job #%(job)s is %(state)s. %(refusal)s")
        values = {"job": job.pk, "state": job.get_state_display(), "refusal": refusal}
        raise NotPossible(text % values)


def _rows(job: OutboxOperation) -> OperationQuerySet:
    return OutboxOperation.objects.using(job.using)


def _now(job: OutboxOperation, clock: Clock | None) -> datetime:
    return (clock or Clock.of(job.using)).now()
