"""``manage.py outbox_erase``: erase everything about a person, a record or a selection."""

from __future__ import annotations

import json
import os
import re
import sys
from argparse import ArgumentParser
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

from django.conf import settings as project
from django.core.management.base import CommandError
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from tqdm import tqdm

from ...delivery.context import Clock, retry_on_database_error, statement_deadlines
from ...models import Decision, PayloadsUnreadable, RecordState
from ...operations.erasing import (
    ERASED,
    AtEvermuse,
    Erased,
    ErasedRecord,
    Selection,
    describe_copies,
    destroy_keys,
    erase_records,
    find_records,
    forget_texts,
    scopes_of,
)
from .. import (
    USAGE,
    CommandWithExamples,
    add_reason,
    add_single_database,
    confirm,
    database_of,
)

RECORDS_PER_STEP = 200
"""Records that one transaction erases."""


class Command(CommandWithExamples):
    help = (
        "Erase everything that the outbox stores about a record, a participant or a selection, in any state. All "
        "conditions that are given must be met; other versions of the records are erased, too. The other records of "
        "their batches are not affected. What Evermuse has is not erased: the report says for each record whether "
        "Evermuse has it, and by which ids. The exit status is 0 if all is done, or if no record was found. It is "
        "1 after an error or without a confirmation, and 2 for wrong options. After an error, start the command again "
        "with another report file."
    )

    examples = (
        "examples:\n"
        "  manage.py outbox_erase --participant ada@example.com --dry-run\n"
        "                              count what would be erased\n"
        "  manage.py outbox_erase --participant ada@example.com --report ada.ndjson --reason 'request 4711'\n"
        "                              erase all records with this participant\n"
        "  manage.py outbox_erase --identity 20260224-1234-7abc-8def-0123456789ab --report one.ndjson --no-input\n"
        "                              erase one record with its versions, without a question\n"
        "  manage.py outbox_erase --product prod-1 --state rejected --enqueued-before 2026-01-01 --report old.ndjson\n"
        "                              erase what meets all of these conditions\n"
        "  manage.py outbox_erase --workspace emea --destroy-key --reason 'the contract ended'\n"
        "                              make all encrypted payloads of a workspace unreadable\n"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        chosen = parser.add_argument_group("what to erase")
        chosen.add_argument(
            "--participant",
            metavar="ID",
            default="",
            help="id or e-mail address of a participant, in any case",
        )
        chosen.add_argument("--identity", metavar="UUID", type=UUID, help="identity of a record")
        chosen.add_argument("--vendor-id", metavar="ID", default="", help="a value in the _vendor_ids")
        chosen.add_argument("--text", default="", help="a text anywhere in the payload, in any case")
        chosen.add_argument(
            "--record", metavar="ID", type=int, action="append", default=[], help="id of a record; repeatable"
        )
        chosen.add_argument("--workspace", metavar="NAME", default="", help="name of a workspace")
        chosen.add_argument("--type", default="", help="the _type")
        chosen.add_argument("--product", metavar="ID", default="", help="the _product_id")
        chosen.add_argument(
            "--state", choices=[state.value for state in RecordState], help="state of the record"
        )
        chosen.add_argument(
            "--enqueued-from", metavar="TIME", type=_time, help="enqueued at this time or later, in ISO 8601"
        )
        chosen.add_argument("--enqueued-before", metavar="TIME", type=_time, help="enqueued before this time")
        chosen.add_argument(
            "--destroy-key",
            action="store_true",
            help="destroy the data keys of --workspace instead: all payloads that they encrypt become unreadable",
        )
        chosen.add_argument(
            "--label",
            metavar="VALUE",
            default="",
            help="with --destroy-key: only the keys of this value of the label of ENCRYPTION_LABEL",
        )
        parser.add_argument(
            "--report",
            metavar="FILE",
            help="new file for the report: one JSON object for each record. Needed, except with --dry-run",
        )
        parser.add_argument("--dry-run", action="store_true", help="count and report, and change nothing")
        parser.add_argument(
            "--full-scan",
            action="store_true",
            help="read all payloads, also those that the search index has: it misses lines that were altered with SQL",
        )
        parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
        parser.add_argument(
            "--no-input", action="store_false", dest="interactive", help="do not ask for a confirmation"
        )
        add_reason(parser)
        add_single_database(parser)

    @statement_deadlines()
    def handle(self, *args: Any, **options: Any) -> None:
        using, selection = database_of(options), _selection_of(options)
        if options["destroy_key"] or options["label"]:
            self._destroy_keys(using, selection, options)
            return
        if not options["report"] and not options["dry_run"]:
            raise CommandError(
                "--report is missing: without it, the ids for a request to Evermuse are lost.",
                returncode=USAGE,
            )
        pks = _find(using, selection, uses_index=not options["full_scan"])
        with _new_file(options["report"]) as file:
            if options["dry_run"]:
                erased = _describe(using, pks, file)
            else:
                self._confirm(options, using, selection, len(pks))
                erased = self._erase(using, selection, pks, options, file)
        self._print(options, erased)

    def _destroy_keys(self, using: str, selection: Selection, options: dict[str, Any]) -> None:
        workspace, label = selection.workspace, options["label"]
        if selection != Selection(workspace=workspace) or not options["destroy_key"] or options["dry_run"]:
            raise CommandError("--destroy-key takes only --workspace and --label.", returncode=USAGE)
        scope = f"workspace {workspace}{f', label {label}' if label else ''}"
        if label not in scopes_of(using, workspace):
            raise CommandError(
                f"{scope} has no data keys in {using}, so nothing was destroyed.", returncode=USAGE
            )
        if options["interactive"]:
            confirm(f"Make all encrypted payloads of {scope} in {using} unreadable for good?")
        with tqdm(unit=" ids", desc="discarding", disable=None, file=sys.stderr) as bar:
            destroyed = destroy_keys(
                using,
                workspace,
                label,
                decision=Decision(reason=options["reason"]),
                progress=lambda done, last: _show(bar, done, last),
            )
        if options["json"]:
            self.stdout.write(json.dumps({"keys": destroyed.keys, "discarded": destroyed.discarded}))
            return
        self.stdout.write(
            f"Destroyed {len(destroyed.keys):,} data keys of {scope}, and discarded {destroyed.discarded:,} records."
        )

    def _confirm(self, options: dict[str, Any], using: str, selection: Selection, count: int) -> None:
        if count and options["interactive"]:
            confirm(f"Erase {count:,} records in {using} for good ({selection})?")

    def _erase(
        self,
        using: str,
        selection: Selection,
        pks: Sequence[int],
        options: dict[str, Any],
        file: BinaryIO | None,
    ) -> Erased:
        clock, texts = Clock.of(using), list(selection.personal.values())
        decision = Decision(reason=_without(options["reason"], texts))
        erased = Erased()
        with tqdm(total=len(pks), unit=" records", disable=None, file=sys.stderr) as bar:
            for start in range(0, len(pks), RECORDS_PER_STEP):
                step = list(pks[start : start + RECORDS_PER_STEP])
                erased = retry_on_database_error(
                    using,
                    clock,
                    erase_records,
                    using,
                    step,
                    decision,
                    target=str(selection),
                    erased=erased,
                    report=lambda lines: _write(file, lines),
                )
                bar.update(len(step))
        forget_texts(using, texts)
        return erased

    def _print(self, options: dict[str, Any], erased: Erased) -> None:
        counts = {state.value: erased.records[state] for state in AtEvermuse}
        if options["json"]:
            result = {
                "records": erased.count,
                "at_evermuse": counts,
                "dry_run": options["dry_run"],
                "report": options["report"],
                "action": erased.action.pk if erased.action else None,
            }
            self.stdout.write(json.dumps(result))
        elif not erased.count:
            self.stdout.write("No record meets the conditions.")
        else:
            done = "Would erase" if options["dry_run"] else "Erased"
            self.stdout.write(f"{done} {erased.count:,} records.")
            self.stdout.write(
                f"Evermuse has {counts['has']:,} of them and may have {counts['may_have']:,}. It refused "
                f"{counts['refused']:,}, and {counts['never_sent']:,} were never sent."
            )
            if options["report"]:
                self.stdout.write(
                    f"The ids are in {options['report']}. Delete that file when you have used it."
                )


def _show(bar: Any, done: int, last: int) -> None:
    bar.total, bar.n = last, done
    bar.refresh()


def _selection_of(options: dict[str, Any]) -> Selection:
    selection = Selection(
        ids=tuple(options["record"]),
        identity=options["identity"],
        participant=options["participant"],
        vendor_id=options["vendor_id"],
        text=options["text"],
        workspace=options["workspace"],
        type=options["type"].lower(),
        product_id=options["product"],
        state=options["state"] or "",
        enqueued_from=options["enqueued_from"],
        enqueued_before=options["enqueued_before"],
    )
    if selection.is_empty:
        raise CommandError("Say what to erase, for instance --participant ada@example.com.", returncode=USAGE)
    return selection


def _find(using: str, selection: Selection, *, uses_index: bool) -> Sequence[int]:
    """Return the ids of all records to erase. A million of them takes 8 MB."""
    pks = array("q")
    with tqdm(unit=" ids", desc="searching", disable=None, file=sys.stderr) as bar:
        try:
            for page in find_records(using, selection, uses_index=uses_index):
                pks.extend(page.pks)
                bar.total, bar.n = page.last, page.position
                bar.refresh()
        except PayloadsUnreadable as error:
            raise CommandError(f"Nothing was erased, because not all payloads can be read. {error}") from None
    return pks


def _describe(using: str, pks: Sequence[int], file: BinaryIO | None) -> Erased:
    """Report what would be erased."""
    erased = Erased()
    for start in range(0, len(pks), RECORDS_PER_STEP):
        lines, _, _ = describe_copies(using, list(pks[start : start + RECORDS_PER_STEP]))
        _write(file, lines)
        erased.records.update(line.at_evermuse for line in lines)
    return erased


@contextmanager
def _new_file(name: str | None) -> Iterator[BinaryIO | None]:
    """Create a file that only its owner can read."""
    if name is None:
        yield None
        return
    try:
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise CommandError(f"{name} exists already.", returncode=USAGE) from None
    except OSError as error:
        raise CommandError(f"{name} cannot be written: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
    finally:
        if not Path(name).stat().st_size:
            Path(name).unlink()


def _write(file: BinaryIO | None, lines: Sequence[ErasedRecord]) -> None:
    """Write lines of the report to the disk, before the records are erased."""
    if file is None:
        return
    for line in lines:
        file.write(json.dumps(asdict(line), ensure_ascii=False).encode("utf-8") + b"\n")
    file.flush()
    os.fsync(file.fileno())


def _without(reason: str, texts: Sequence[str]) -> str:
    """Return the reason without the person that is erased."""
    if not texts:
        return reason
    return re.sub("|".join(map(re.escape, texts)), ERASED, reason, flags=re.IGNORECASE)


def _time(value: str) -> datetime:
    """Return a time of an option; without a time zone, that of the project counts."""
    at = parse_datetime(value if "T" in value or " " in value else f"{value}T00:00:00")
    if at is None:
        raise ValueError(value)
    if project.USE_TZ:
        return timezone.make_aware(at) if timezone.is_naive(at) else at
    return at if timezone.is_naive(at) else timezone.make_naive(at)
