"""``manage.py import_mbox FILE``: every mail of an mbox into the desk and into the outbox."""

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
    help = "Imports the mails of an mbox and enqueues a record for each that is not there yet."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", help="the mbox, or - for standard input")
        parser.add_argument("--limit", type=_positive, metavar="N", help="read at most N mails")
        parser.add_argument(
            "--chunk",
            type=_positive,
            default=200,
            metavar="N",
            help="mails a transaction (200, at most 1000)",
        )
        bar = parser.add_mutually_exclusive_group()
        bar.add_argument(
            "--progress",
            dest="progress",
            action="store_true",
            default=None,
            help="show progress even where standard error is no terminal",
        )
        bar.add_argument("--no-progress", dest="progress", action="store_false", help="show no progress")

    def handle(self, *, file: str, limit: int | None, chunk: int, progress: bool | None, **_: Any) -> None:
        chunk = min(chunk, 1_000)
        with _opened(file) as stream, _bar(stream, progress) as bar:
            tally = import_mails(_mails(stream, file, limit), chunk=chunk, on_chunk=_mover(bar))
        self._tell(tally)
        if tally.refused:
            raise CommandError(f"{len(tally.refused):,} mails were refused; the others are imported.")

    def _tell(self, tally: Tally) -> None:
        for refusal in tally.refused:
            self.stderr.write(str(refusal))
        self.stdout.write(
            f"{tally.read:,} mails read: {tally.imported:,} imported, {tally.present:,} already there, "
            f"{len(tally.refused):,} refused."
        )
        self.stdout.write("Watch them leave: python manage.py outbox_status")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a whole number from 1 up.")
    return int(text)


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        stream = Path(file).open("rb")  # noqa: SIM115 - closed below; here only its own errors are wanted
    except OSError as error:
        raise CommandError(f"Cannot read {file}: {error.strerror}.") from error
    with stream:
        yield stream


def _mails(stream: BinaryIO, file: str, limit: int | None) -> Iterator[RawMail]:
    """The mails of the stream; raises ``CommandError`` where there is none."""
    mails = islice(split(stream), limit)
    try:
        first = next(mails, None)
    except NotAnMbox as error:
        raise CommandError(
            f"{file} is not an mbox: it begins with {error.args[0][:40]!r}, not with a line like "
            "'From somebody@example.org Mon Sep 17 00:00:00 2001'."
        ) from error
    if first is None:
        raise CommandError(f"{file} is empty: there is no mail in it.")
    yield first
    yield from mails


def _bar(stream: BinaryIO, wanted: bool | None) -> tqdm:
    """A bar over bytes; unless it is asked for, only where a person looks at it."""
    # tqdm takes None for "only on a terminal".
    hidden = None if wanted is None else not wanted
    return tqdm(total=_size(stream), unit="B", unit_scale=True, desc="0 mails", disable=hidden)


def _size(stream: BinaryIO) -> int | None:
    try:
        return os.fstat(stream.fileno()).st_size or None
    except OSError:  # standard input may be no file at all
        return None


def _mover(bar: tqdm) -> Any:
    def move(tally: Tally, position: int) -> None:
        bar.set_description(f"{tally.read:,} mails", refresh=False)
        bar.update(position - bar.n)

    return move
