"""The base class of the commands that repair records: collect → preview → confirm → execute → report.

The command executes its job itself, chunk by chunk. Ctrl-C pauses it. If the process dies, the workers go on with it.
"""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from django.core.management.base import CommandError
from django.template.defaultfilters import filesizeformat
from tqdm import tqdm

from ... import jobs
from ...conf import get_settings
from ...delivery.context import statement_deadlines
from ...models import OperationState, OutboxOperation, OutboxOperationMember
from ...operations import NotPossible, RecordFilter
from ...wakeup import wake_workers
from .. import REFUSED, USAGE, CommandWithExamples, add_database, add_reason, confirm, databases_of
from .selecting import add_selection, explain_nothing, read_selection

COLLECT_SECONDS = 1.0
"""Seconds between two updates of the progress bar while members are collected."""

LOCKED_PAUSE = 0.2
"""Seconds until the command tries again after a worker has executed a chunk of the same job."""

SHOWN = 20
"""Records that were not changed, of which the output shows the reason."""


class RepairCommand(CommandWithExamples):
    """A command that changes the selected records by a job.

    Attributes:
        kind: name of the kind of job.
        state: the state of the records that it selects.
        done: what it has done, such as ``retried``.
    """

    kind = ""
    state = "rejected"
    done = ""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options that all of these commands have."""
        add_selection(parser)
        parser.add_argument("--dry-run", action="store_true", help="show the preview and change nothing")
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument(
            "--no-input", action="store_false", dest="interactive", help="do not ask for a confirmation"
        )
        parser.add_argument(
            "--continue",
            type=int,
            dest="job",
            metavar="N",
            help="go on with job N, which was paused or interrupted",
        )
        add_reason(parser)
        add_database(parser)

    def job_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return what the kind of job needs to know."""
        return {}

    def select(self, options: dict[str, Any], using: str) -> RecordFilter:
        """Return which records are meant."""
        return read_selection(options, using, self.state)

    def show_examples(self, using: str, selection: RecordFilter, options: dict[str, Any]) -> None:
        """Show what the change of a few records would be. Most kinds have nothing to show."""

    @statement_deadlines()
    def handle(self, *args: Any, **options: Any) -> None:
        """Execute a job on each selected database."""
        if options["json"] and options["interactive"] and not options["dry_run"]:
            raise CommandError("--json needs --no-input or --dry-run.", returncode=USAGE)
        try:
            results = [
                self._report(job, options)
                for using in databases_of(options)
                for job in self._run_on(using, options)
            ]
        except NotPossible as error:
            raise CommandError(error.message) from error
        if options["json"]:
            self.stdout.write(json.dumps({"jobs": results}))
        if options["job"] and not results:
            raise CommandError(f"No job {options['job']} of this kind that can go on.", returncode=USAGE)
        if not options["dry_run"] and any(result["refused"] + result["failed"] for result in results):
            sys.exit(REFUSED)

    def _run_on(self, using: str, options: dict[str, Any]) -> Iterator[OutboxOperation]:
        if options["job"] is not None:
            yield from self._continue(using, options)
            return
        selection = self.select(options, using)
        stored = {"select": selection.to_json()} | self.job_options(options)
        job = jobs.create(
            using, self.kind, reason=options["reason"], selection=str(selection), options=stored
        )
        try:
            self._collect(job, selection, options)
            if not job.total or options["dry_run"]:
                self.show_examples(using, selection, options)
                jobs.cancel(job, "There was nothing to do." if not job.total else "It was only a preview.")
                yield job
                return
            if options["interactive"]:
                self.show_examples(using, selection, options)
                self._ask(job)
        except (KeyboardInterrupt, CommandError):
            jobs.cancel(job, "The person did not confirm it.")
            raise
        jobs.confirm(job)
        self._execute(job)
        yield job

    def _continue(self, using: str, options: dict[str, Any]) -> Iterator[OutboxOperation]:
        going = (OperationState.RUNNING, OperationState.PAUSED, OperationState.FAILED)
        rows = OutboxOperation.objects.using(using).filter(pk=options["job"], kind=self.kind, state__in=going)
        for job in rows:
            if job.state != OperationState.RUNNING:
                jobs.proceed(job)
            self._execute(job)
            yield job

    def _collect(self, job: OutboxOperation, selection: RecordFilter, options: dict[str, Any]) -> None:
        with tqdm(unit=" records", disable=None, file=sys.stderr, desc="selecting") as bar:
            is_ready = False
            while not is_ready:
                is_ready = jobs.collect(job, selection.rows(job.using), limit_seconds=COLLECT_SECONDS)
                bar.update(job.total - bar.n)
        if not options["json"]:
            for line in describe_preview(job):
                self.stdout.write(line)

    def _ask(self, job: OutboxOperation) -> None:
        kind = jobs.get_kind(job.kind)
        final = " This cannot be undone." if kind.is_final else ""
        confirm(f"{kind.label}: {job.total:,} in {job.using}?{final}")

    def _execute(self, job: OutboxOperation) -> None:
        """Execute the job until it is over. Ctrl-C pauses it."""
        try:
            with tqdm(
                total=job.total, initial=job.done, unit=" records", disable=None, file=sys.stderr
            ) as bar:
                while job.state == OperationState.RUNNING:
                    if not jobs.run_chunk(job.using, job.pk):
                        time.sleep(0 if self._has_ended(job) else LOCKED_PAUSE)
                    job.refresh_from_db(using=job.using)
                    bar.update(job.done - bar.n)
        except KeyboardInterrupt:
            jobs.pause(job, "It was interrupted with Ctrl-C.")
            raise CommandError(
                f"Job #{job.pk} is paused after {job.done:,} of {job.total:,}. To go on: "
                f"manage.py {self._name()} --continue {job.pk} --database {job.using}"
            ) from None
        for workspace in {str(entry[0]) for entry in job.groups} & set(get_settings().workspaces):
            wake_workers(job.using, workspace)

    def _has_ended(self, job: OutboxOperation) -> bool:
        job.refresh_from_db(using=job.using)
        return job.state != OperationState.RUNNING

    def _name(self) -> str:
        return type(self).__module__.rpartition(".")[2]

    def _report(self, job: OutboxOperation, options: dict[str, Any]) -> dict[str, Any]:
        result = to_json(job)
        if not options["json"] and not options["dry_run"]:
            if not job.total:
                self.stdout.write(f"Nothing is selected in {job.using}: {job.selection}.")
                for line in explain_nothing(RecordFilter.from_json(job.options["select"]), job.using):
                    self.stdout.write(f"  {line}")
                return result
            self.stdout.write(
                f"Job #{job.pk} in {job.using}: {self.done} {job.changed:,} of {job.total:,}: {job.selection}."
            )
            if job.state != OperationState.FINISHED:
                self.stdout.write(f"It is {job.get_state_display()}. {job.message}", self.style.ERROR)
            for entry in result["not_changed"]:
                self.stdout.write(
                    f"  #{entry['id']} {entry['result']}: {entry['reason']}", self.style.WARNING
                )
            more = job.refused + job.failed - len(result["not_changed"])
            if more > 0:
                self.stdout.write(f"  … and {more:,} more; the admin lists all members of job #{job.pk}.")
        return result


def describe_preview(job: OutboxOperation) -> Iterator[str]:
    """Yield what a job would do: how many records and bytes, what it costs, and what will be refused."""
    cost = jobs.estimate(job)
    requests = (
        f", about {cost.requests:,} requests ({cost.seconds:,.1f} s of the rate limit)"
        if cost.requests
        else ""
    )
    size = filesizeformat(job.bytes).replace("\xa0", " ")
    yield f"{job.total:,} selected in {job.using}: {job.selection}. {size}{requests}."
    for reason, entry in job.expected.items():
        ids = ", ".join(f"#{pk}" for pk in entry["ids"][:5])
        yield f"  {entry['count']:,} will be refused: {reason} ({ids}{', …' if entry['count'] > 5 else ''})."


def to_json(job: OutboxOperation) -> dict[str, Any]:
    """Return a job as ``--json`` prints it."""
    cost = jobs.estimate(job)
    members = OutboxOperationMember.objects.using(job.using).not_changed(job)[:SHOWN]
    return {
        "job": job.pk,
        "kind": job.kind,
        "database": job.using,
        "state": job.state,
        "selection": job.selection,
        "message": job.message,
        "total": job.total,
        "bytes": job.bytes,
        "requests": cost.requests,
        "rate_limit_seconds": cost.seconds,
        "expected_refusals": job.expected,
        "changed": job.changed,
        "refused": job.refused,
        "failed": job.failed,
        "not_changed": [
            {"id": member.target, "result": member.result, "reason": member.note} for member in members
        ],
    }
