"""``manage.py import_mbox FILE``: import the mails of an mbox file and enqueue their records."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentTypeError
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from example_project.support.importer import Tally, import_mails
from example_project.support.mbox import NotAnMbox, RawMail, split


class Command(BaseCommand):
    """Import the mails of an mbox file."""

    help = (
        "Import the mails of an mbox file and enqueue a record for each. Mails already imported are skipped."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the file and the options."""
        parser.add_argument("file", help="path of the mbox file, or - for standard input")
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
        bar = parser.add_mutually_exclusive_group()
        bar.add_argument(
            "--progress",
            dest="progress",
            action="store_true",
            default=None,
            help="show a progress bar even if standard error is not a terminal",
        )
        bar.add_argument("--no-progress", dest="progress", action="store_false", help="show no progress bar")

    def handle(self, *, file: str, limit: int | None, chunk: int, progress: bool | None, **_: Any) -> None:
        """Import the file and print the counts. Raises ``CommandError`` if mails were refused."""
        chunk = min(chunk, 1_000)
        with _opened(file) as stream, _bar(stream, progress) as bar:
            tally = import_mails(_mails(stream, file, limit), chunk=chunk, on_chunk=_bar_updater(bar))
        self._print(tally)
        if tally.refused:
            raise CommandError(f"{len(tally.refused):,} mails were refused; the others are imported.")

    def _print(self, tally: Tally) -> None:
        for refusal in tally.refused:
            self.stderr.write(str(refusal))
        self.stdout.write(
            f"{tally.read:,} mails read: {tally.imported:,} imported, {tally.present:,} already there, "
            f"{len(tally.refused):,} refused."
        )
        self.stdout.write("To see their delivery: python manage.py outbox_status")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not an integer above 0.")
    return int(text)


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        stream = Path(file).open("rb")  # noqa: SIM115 - closed below; only errors of open() are caught here
    except OSError as error:
        raise CommandError(f"Cannot read {file}: {error.strerror}.") from error
    with stream:
        yield stream


def _mails(stream: BinaryIO, file: str, limit: int | None) -> Iterator[RawMail]:
    """Yield the mails of the stream. Raises ``CommandError`` if there are none."""
    mails = islice(split(stream), limit)
    try:
        first = next(mails, None)
    except NotAnMbox as error:
        raise CommandError(
            f"{file} is not an mbox: it begins with {error.args[0][:40]!r}, not with a line like "
            "'From ada@example.org Mon Sep 17 00:00:00 2001'."
        ) from error
    if first is None:
        raise CommandError(f"{file} is empty: it contains no mail.")
    yield first
    yield from mails


def _bar(stream: BinaryIO, wanted: bool | None) -> tqdm:
    """Return a progress bar over the bytes of the stream. ``wanted=None`` shows it only on a terminal."""
    hidden = None if wanted is None else not wanted  # None has the same meaning in tqdm
    return tqdm(total=_size(stream), unit="B", unit_scale=True, desc="0 mails", disable=hidden)


def _size(stream: BinaryIO) -> int | None:
    try:
        return os.fstat(stream.fileno()).st_size or None
    except OSError:  # standard input may have no file descriptor
        return None


def _bar_updater(bar: tqdm) -> Any:
    def update(tally: Tally, position: int) -> None:
        bar.set_description(f"{tally.read:,} mails", refresh=False)
        bar.update(position - bar.n)

    return update
