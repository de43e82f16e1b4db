"""The handle of a run: what a host keeps to add records and to see how far they have come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from ..database_clock import database_now
from ..models import OutboxRun
from .counts import RunStatus, read_status
from .label_sets import forget_label_sets
from .rules import check_labels, check_run_name


class RunNotFound(LookupError):
    """The row of a run does not exist."""


@dataclass(frozen=True)
class Run:
    """A run: records that belong together, such as those of one import.

    A handle contains no row. For a task of Celery, pass its ``id``, and call ``outbox.find_run(id)`` there: the JSON of
    messages has no handles. As a context manager, it closes the run at the end
    of the block. After an exception the run stays open, so that the work can continue.

    Attributes:
        id: the primary key of the row.
        name: the name; closed runs may have it, too.
        workspace: name of the workspace.
        using: alias of the database.
        labels: labels of all its records.
    """

    id: int
    name: str
    workspace: str
    using: str
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)

    def status(self) -> RunStatus:
        """Count the records and return how far the run has come, in about one query.

        Raises:
            RunNotFound: Its row was deleted, or its transaction was rolled back.
        """
        row = OutboxRun.objects.using(self.using).filter(pk=self.id).first()
        if row is None:
            raise RunNotFound(f"The run {self.name} (#{self.id}) is not in the database {self.using}.")
        return read_status(self.using, row)

    def counts(self) -> dict[str, int]:
        """Count the records by state; every state has an entry."""
        return self.status().counts

    @property
    def progress(self) -> float:
        """The share of the records that have ended, from 0 to 1. It counts them."""
        return self.status().progress

    @property
    def is_finished(self) -> bool:
        """Whether the run is closed and no record of it waits for the delivery or is in flight. It counts them."""
        return self.status().is_finished

    def close(self) -> None:
        """Record that no more records will join the run. It is finished when none of them waits or is in flight.

        This process refuses further records of it from now on, and other processes within ``REMEMBERED_OF_RUN``.
        """
        OutboxRun.objects.using(self.using).close(self.id, database_now(self.using))
        forget_label_sets()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()


def start_run(
    using: str,
    workspace: str,
    name: str,
    labels: Mapping[str, str] | None = None,
    expected: int | None = None,
) -> Run:
    """Start a run, or return the open run of this name."""
    checked = check_labels(labels or {})
    rows = OutboxRun.objects.using(using)
    return as_handle(
        rows.open_or_start(workspace, check_run_name(name), database_now(using), checked, expected), using
    )


def find_run(using: str, workspace: str, name_or_id: str | int) -> Run | None:
    """Return the latest run of a name, or the run with an id; None if there is none."""
    rows = OutboxRun.objects.using(using)
    if isinstance(name_or_id, int):
        row = rows.filter(pk=name_or_id).first()
    else:
        row = rows.filter(name=name_or_id, workspace=workspace).order_by("-pk").first()
    return as_handle(row, using) if row else None


def resolve_run(using: str, workspace: str, run: Run | str | None) -> Run | None:
    """Return the handle for the argument ``run`` of a call: a handle, or the name of a run that is started if needed.

    Raises:
        ValueError: The run belongs to another database or workspace.
    """
    if not isinstance(run, Run):
        return None if run is None else start_run(using, workspace, run)
    if (run.using, run.workspace) != (using, workspace):
        raise ValueError(
            f"The run {run.name} belongs to the workspace {run.workspace} in the database {run.using}, "
            f"not to {workspace} in {using}."
        )
    return run


def as_handle(row: OutboxRun, using: str) -> Run:
    """Return the handle of a row."""
    return Run(row.pk, row.name, row.workspace, using, row.labels)
