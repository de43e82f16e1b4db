"""``manage.py import_mbox FILE``: import the mails of files and enqueue their records."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import IO, Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from tqdm import tqdm

from example_project.support.importer import Entry, Fate, Importer
from example_project.support.mbox import FromLine, Mbox, NotAnMbox, RawMail, split
from example_project.support.sources import Source, find_files, is_in_maildir, open_source, size_of

SHOWN = 20  # lines of each kind that are printed; the report has all
STATUS_REFUSED, STATUS_DOUBTFUL = 1, 3


class Command(BaseCommand):
    """Import the mails of files."""

    help = (
        "Import the mails of mbox files, single mails, Maildirs or directories, and enqueue a record for each. Mails "
        "already imported are skipped. Exit status: 0 if every mail is imported, 1 if a mail or a file was refused, "
        "3 if a line that may begin a mail was not taken as a separator."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the files and the options."""
        parser.add_argument(
            "file",
            nargs="+",
            help="mbox (also compressed with gzip, bzip2 or xz), .eml, Maildir or directory; - for standard input",
        )
        parser.add_argument(
            "--limit", type=_positive, metavar="N", help="import only the first N mails (default: all)"
        )
        parser.add_argument(
            "--chunk",
            type=_positive,
            default=200,
            metavar="N",
            help="mails per transaction, at most 1000 (default: %(default)s)",
        )
        parser.add_argument("--dry-run", action="store_true", help="do everything, and roll it back")
        parser.add_argument(
            "--mboxrd",
            action="store_true",
            help="remove one > from each line that begins with >From, >>From and so on (as in git mailsplit)",
        )
        parser.add_argument(
            "--report",
            metavar="FILE",
            help="write a line of JSON for each mail and for each From line that is no separator",
        )
        bar = parser.add_mutually_exclusive_group()
        bar.add_argument(
            "--progress",
            dest="progress",
            action="store_true",
            default=None,
            help="show a progress bar even if standard error is not a terminal",
        )
        bar.add_argument("--no-progress", dest="progress", action="store_false", help="show no progress bar")

    def handle(self, *, file: str | list[str], **options: Any) -> None:
        """Import the files and print the counts. Raises ``CommandError`` if something was refused or is doubtful."""
        paths = _paths([file] if isinstance(file, str) else file)
        with ExitStack() as stack:
            run = _Run(paths, options, stack)
            run.importer.import_mails(islice(run.mails(paths), options["limit"]))
            run.bar.update(max(0, run.finished - run.bar.n))
        self._print(run)

    def _print(self, run: _Run) -> None:
        tally = run.importer.tally
        if tally.read == 0 and len(run.errors) == 1:
            raise CommandError(run.errors[0])
        for text in [*run.errors[:SHOWN], *run.notes, *run.refusals]:
            self.stderr.write(text)
        if run.line_count > len(run.lines):
            self.stderr.write(
                f"… and {run.line_count - len(run.lines):,} more such lines: use --report FILE."
            )
        self.stdout.write(
            f"{tally.read:,} mails read: {tally.imported + tally.different:,} imported, {tally.same:,} already there, "
            f"{tally.refused:,} refused.\n"
            f"Of the imported mails, {tally.different:,} differ from another mail with their Message-ID, "
            f"{tally.guessed:,} have a guessed date, {tally.shortened:,} are shortened.\n"
            f'{run.line_count:,} lines begin with "From " and are text, {run.doubtful:,} of them doubtful.'
        )
        if run.importer.is_dry_run:
            self.stdout.write("This was a dry run: nothing is saved.")
        else:
            self.stdout.write("To see their delivery: python manage.py outbox_status")
        self._raise_for_status(run)

    def _raise_for_status(self, run: _Run) -> None:
        if run.importer.tally.refused or run.errors:
            raise CommandError(
                f"{run.importer.tally.refused:,} mails were refused; the others are imported. "
                f"{len(run.errors):,} files could not be read to the end.",
                returncode=STATUS_REFUSED,
            )
        if run.doubtful:
            raise CommandError(
                f"{run.doubtful:,} lines may begin a mail and were not taken as separators; the mails are imported. "
                "Look at the lines above.",
                returncode=STATUS_DOUBTFUL,
            )


class _Run:
    """One run of the command: what it reads, and what it reports."""

    def __init__(self, paths: list[Path | None], options: dict[str, Any], stack: ExitStack) -> None:
        self.report: IO[str] | None = _opened_report(options["report"], stack)
        self.importer = Importer(
            chunk=min(options["chunk"], 1_000),
            now=timezone.now(),
            on_mail=self._on_mail,
            is_dry_run=options["dry_run"],
            is_quoted=options["mboxrd"],
        )
        self.bar = stack.enter_context(_bar(sum(map(size_of, paths)), options["progress"]))
        self.errors: list[str] = []
        self.notes: list[str] = []
        self.refusals: list[str] = []
        self.lines: list[FromLine] = []
        self.line_count = self.doubtful = 0
        self.name = ""  # of the file that is read
        self.count = self.count_before = 0  # mails read, and those in the files before this one
        self.finished = 0  # bytes read

    def mails(self, paths: list[Path | None]) -> Iterator[RawMail]:
        """Yield the mails of the files. A file that cannot be read is an error, and the next file is read."""
        for path in paths:
            self.name, self.count_before, before = (
                "-" if path is None else str(path),
                self.count,
                self.finished,
            )
            try:
                with open_source(path, in_maildir=path is not None and is_in_maildir(path)) as source:
                    for mail in self._mails_of(source):
                        self.finished = before + (source.raw.tell() if source.raw.seekable() else 0)
                        yield mail
            except NotAnMbox as error:
                self._add_error(
                    f"{self.name} is not an mbox: it begins with {error.args[0][:40]!r}, not with a line like "
                    "'From ada@example.org Mon Sep 17 00:00:00 2001' or with the header of a mail."
                )
            except OSError as error:
                self._add_error(f"Cannot read {self.name}: {error.strerror}.")
            self.finished = before + size_of(path)

    def _mails_of(self, source: Source) -> Iterator[RawMail]:
        mbox = split(source.stream, self._on_line, is_single=source.is_single)
        for mail in mbox:
            self.count += 1
            mail.file = self.name
            yield mail
        for error in source.errors:
            self._add_error(f"{self.name} cannot be read to its end: {error}. The mails before are imported.")
        if self.count == self.count_before and not source.errors:
            self._add_error(f"{self.name} is empty: it contains no mail.")
        if mbox.skipped:
            self._add_skipped(mbox)

    def _add_error(self, text: str) -> None:
        self.errors.append(text)
        self._write({"kind": "error", "file": self.name, "reason": text})

    def _add_skipped(self, mbox: Mbox) -> None:
        self.notes.append(f"{self.name}: {mbox.skipped:,} bytes before the first mail belong to no mail.")
        self._write({"kind": "skipped", "file": self.name, "bytes": mbox.skipped})

    def _on_line(self, line: FromLine) -> None:
        self.line_count += 1
        self.doubtful += line.is_doubtful
        if len(self.lines) < SHOWN or (line.is_doubtful and self.doubtful <= SHOWN):
            self.lines.append(line)
            doubt = " It may begin a mail." if line.is_doubtful else ""
            self.notes.append(
                f"{self.name}, line {line.line:,}: no separator, because {line.reason}.{doubt} {line.text!r}"
            )
        values = {**asdict(line), "mail": line.mail and line.mail + self.count_before}
        self._write({"kind": "from_line", "file": self.name, **values})

    def _on_mail(self, entry: Entry) -> None:
        if entry.fate is Fate.REFUSED and len(self.refusals) < SHOWN:
            self.refusals.append(f"mail {entry.number} {entry.mail.message_id}: {entry.reason}")
        if self.report:
            self._write({"kind": "mail", "file": entry.raw.file, **_fate_of(entry)})
        self.bar.set_description(f"{entry.number:,} mails", refresh=False)
        self.bar.update(max(0, self.finished - self.bar.n))

    def _write(self, values: dict[str, Any]) -> None:
        if self.report:
            self.report.write(json.dumps(values, ensure_ascii=False) + "\n")


def _fate_of(entry: Entry) -> dict[str, Any]:
    mail = entry.mail
    return {
        "number": entry.number,
        "line": entry.raw.line,
        "position": entry.raw.position,
        "bytes": entry.raw.size,
        "message_id": mail.message_id,
        "content_sha256": mail.digest,
        "sent_at": mail.sent_at.isoformat(),
        "fate": entry.fate.value,
        "reason": entry.reason,
        "date_guessed_from": mail.date_guess,
        "shortened": entry.shortened,
    }


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not an integer above 0.")
    return int(text)


def _paths(names: list[str]) -> list[Path | None]:
    """Return the files to read, None for standard input. Raises ``CommandError`` if there is none."""
    paths: list[Path | None] = []
    for name in names:
        try:
            files = [None] if name == "-" else find_files(name)
        except OSError as error:
            raise CommandError(f"Cannot read {name}: {error.strerror}.") from error
        if not files:
            raise CommandError(f"{name} contains no files.")
        paths += files
    return paths


def _opened_report(name: str | None, stack: ExitStack) -> IO[str] | None:
    if name is None:
        return None
    try:
        return stack.enter_context(Path(name).open("w", encoding="utf-8", errors="backslashreplace"))
    except OSError as error:
        raise CommandError(f"Cannot write {name}: {error.strerror}.") from error


def _bar(size: int, wanted: bool | None) -> tqdm:
    """Return a progress bar over the bytes of the files. ``wanted=None`` shows it only on a terminal."""
    hidden = None if wanted is None else not wanted  # None has the same meaning in tqdm
    return tqdm(total=size or None, unit="B", unit_scale=True, desc="0 mails", disable=hidden)
