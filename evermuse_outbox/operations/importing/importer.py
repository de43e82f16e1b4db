"""Insert the records of a stream: each chunk and the progress of the import in one transaction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import BinaryIO

from django.db import connections, transaction

from ...delivery.context import Clock, retry_on_database_error
from ...models import ActionKind, Decision, OutboxAction, OutboxImport, import_key
from ...models.insert import insert_many
from ...runs import RunPlan, default_run_name
from .bad_lines import BadLinesFile
from .lines import Chunk, LineReader, StreamDiffers


class ImportRefused(Exception):
    """The stream is not the one whose import was begun, or another process imports it now. ``message`` says which."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class TooManyBadLines(Exception):
    """More lines are bad than the caller allows. What was imported before stays, and the import can continue."""


@dataclass(frozen=True, slots=True)
class Totals:
    """How far an import has come, with the chunks of earlier starts: bytes, lines, records and bad lines."""

    position: int = 0
    lines: int = 0
    records: int = 0
    bad_lines: int = 0


@dataclass(frozen=True, slots=True)
class Import:
    """Where records are imported to, from what, and by which decision.

    Attributes:
        using: database alias.
        workspace: name of a workspace in the settings.
        contract: the contract of the workspace.
        name: the name by which an interrupted import is found again, for instance the path of the file.
        decision: the person and the reason.
        max_bad_lines: number of bad lines after which the import stops; None for no limit.
        run: the run that the records join; None for a run with the name of the import.
    """

    using: str
    workspace: str
    contract: str
    name: str
    decision: Decision
    max_bad_lines: int | None = None
    run: RunPlan | None = None

    @property
    def run_plan(self) -> RunPlan:
        """The run that the records join."""
        return self.run or RunPlan(default_run_name(f"import of {self.name}"))

    def earlier(self) -> OutboxImport | None:
        """Return the progress of an earlier start, or None."""
        return OutboxImport.objects.using(self.using).of(self.workspace, self.name).first()

    def restart(self) -> None:
        """Forget an earlier start, so that the file is imported from its beginning."""
        OutboxImport.objects.using(self.using).of(self.workspace, self.name).delete()


def import_lines(
    job: Import, stream: BinaryIO, bad_lines: BadLinesFile, clock: Clock | None = None
) -> Iterator[Totals]:
    """Import a stream from where the last start ended. Yield the totals at the start and after each chunk.

    Raises:
        ImportRefused: The stream does not begin with what was imported before, or another process imports it.
        TooManyBadLines: More lines are bad than ``max_bad_lines``.
        FileExistsError: The file for bad lines has lines of another import.
    """
    clock = clock or Clock.of(job.using)
    if job.earlier() is None:
        bad_lines.check_new()
    progress = _begin(job, clock)
    reader = LineReader(stream, job.contract, job.workspace)
    try:
        reader.skip(progress.position, progress.sha256, progress.lines)
    except StreamDiffers:
        raise ImportRefused(
            f"The first {progress.position:,} bytes are not those that were imported before as {job.name}."
        ) from None
    bad_lines.open_at(progress.bad_bytes)
    yield _totals(progress)
    for chunk in reader.chunks():
        size = bad_lines.write(chunk.bad)
        retry_on_database_error(job.using, clock, _write_chunk, job, progress, chunk, size, clock)
        yield _totals(progress)
        if job.max_bad_lines is not None and progress.bad_lines > job.max_bad_lines:
            raise TooManyBadLines
    job.run_plan.end(job.using, job.workspace)
    rows = OutboxImport.objects.using(job.using)
    rows.advance(progress, clock.now(), finished_at=clock.now())


def check_lines(job: Import, stream: BinaryIO) -> Iterator[tuple[Totals, Chunk]]:
    """Validate a stream from its beginning, without the database. Yield the totals with each chunk."""
    totals = Totals()
    for chunk in LineReader(stream, job.contract, job.workspace).chunks():
        totals = Totals(
            position=chunk.position,
            lines=chunk.lines,
            records=totals.records + len(chunk.envelopes),
            bad_lines=totals.bad_lines + len(chunk.bad),
        )
        yield totals, chunk


def _begin(job: Import, clock: Clock) -> OutboxImport:
    """Return the progress of the import, which now belongs to this process; insert it at its first start."""
    now = clock.now()
    progress, _ = OutboxImport.objects.using(job.using).get_or_create(
        scope=import_key(job.workspace, job.name),
        defaults={
            "workspace": job.workspace,
            "name": job.name,
            "sha256": sha256().hexdigest(),
            "started_at": now,
            "updated_at": now,
        },
    )
    OutboxImport.objects.using(job.using).take_over(progress)
    return progress


def _write_chunk(job: Import, progress: OutboxImport, chunk: Chunk, bad_bytes: int, clock: Clock) -> None:
    """Insert the records of a chunk and advance the progress, in one transaction."""
    rows = OutboxImport.objects.using(job.using)
    with transaction.atomic(using=job.using):
        locked = rows.select_for_update() if connections[job.using].features.has_select_for_update else rows
        stored = locked.filter(pk=progress.pk).first()
        if stored is None or stored.run != progress.run:
            raise ImportRefused(f"Another process has imported {job.name} meanwhile.")
        if stored.position == chunk.position:  # the answer to the COMMIT was lost, and the chunk is repeated
            _copy(stored, progress)
            return
        if chunk.envelopes:
            extras = job.run_plan.columns(job.using, job.workspace)
            insert_many(job.using, job.workspace, job.contract, chunk.envelopes, extras)
            stored.action_id = _log(job, stored, len(chunk.envelopes))
        rows.advance(
            stored,
            clock.now(),
            position=chunk.position,
            sha256=chunk.sha256,
            lines=chunk.lines,
            records=stored.records + len(chunk.envelopes),
            bad_lines=stored.bad_lines + len(chunk.bad),
            bad_bytes=bad_bytes,
            action_id=stored.action_id,
            finished_at=None,  # a file that has grown since its end was reached
        )
    _copy(stored, progress)


def _log(job: Import, progress: OutboxImport, count: int) -> int:
    """Insert the row of the action log with the first records, and add to it later. Return its id."""
    actions = OutboxAction.objects.using(job.using)
    if progress.action_id:
        actions.add_records(progress.action_id, count)
        return progress.action_id
    target = f"file {job.name}"
    decision, workspace = job.decision, job.workspace
    return actions.log(ActionKind.IMPORT, decision, workspace=workspace, target=target, records=count).pk


def _copy(stored: OutboxImport, progress: OutboxImport) -> None:
    for field in OutboxImport._meta.concrete_fields:
        setattr(progress, field.attname, getattr(stored, field.attname))


def _totals(progress: OutboxImport) -> Totals:
    return Totals(progress.position, progress.lines, progress.records, progress.bad_lines)
