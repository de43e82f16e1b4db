"""Imports on every database: chunk by chunk, resumed after any interruption, and never twice."""

from __future__ import annotations

import io
import json

import pytest
from django.db import OperationalError

from evermuse_outbox.models import Decision, OutboxAction, OutboxImport, OutboxRecord
from evermuse_outbox.operations.importing import (
    BadLinesFile,
    Import,
    ImportRefused,
    TooManyBadLines,
    Totals,
    check_lines,
    import_lines,
    importer,
    lines,
)
from tests.records import record

BAD = b'{"_type": "message"}\n'


def content(*numbers, bad_at=()):
    return b"".join(
        BAD if number in bad_at else json.dumps(record(number)).encode() + b"\n" for number in numbers
    )


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch):
    monkeypatch.setattr(lines, "CHUNK_LINES", 2)


@pytest.fixture
def job(alias):
    return Import(alias, "default", "reference", "some file", Decision("ada", "history"))


@pytest.fixture
def bad_lines(tmp_path):
    """Return a function that opens the file for bad lines as a new process would."""
    return lambda: BadLinesFile(tmp_path / "bad.ndjson")


def texts(alias):
    rows = OutboxRecord.rows.using(alias).order_by("pk")
    return [row.envelope()["_vendor_ids"]["message_id"] for row in rows]


def test_records_are_enqueued_in_their_order(alias, job, bad_lines):
    totals = list(import_lines(job, io.BytesIO(content(*range(5))), bad_lines()))
    assert [each.records for each in totals] == [0, 2, 4, 5]
    assert texts(alias) == [f"msg-{n}" for n in range(5)]
    progress = OutboxImport.objects.using(alias).get()
    assert (progress.records, progress.lines, progress.bad_lines) == (5, 5, 0)
    assert progress.finished_at is not None
    assert not bad_lines().path.exists()
    action = OutboxAction.objects.using(alias).get()
    assert (action.kind, action.by, action.reason, action.records) == ("import", "ada", "history", 5)
    assert action.target == "file some file"


def test_bad_lines_go_to_a_file(alias, job, bad_lines):
    file = bad_lines()
    list(import_lines(job, io.BytesIO(content(*range(5), bad_at={0, 3})), file))
    file.close()
    assert texts(alias) == ["msg-1", "msg-2", "msg-4"]
    written = [json.loads(text) for text in file.path.read_text().splitlines()]
    assert [(each["line"], each["text"]) for each in written] == [
        (1, BAD.decode().strip()),
        (4, BAD.decode().strip()),
    ]
    assert "_event_at" in written[0]["error"]
    assert file.path.stat().st_mode & 0o777 == 0o600


class Crash(BaseException):
    """Ends the process at some point."""


@pytest.mark.commits
@pytest.mark.parametrize("at", ["insert_many", "_log", "advance", "commit"])
@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_after_a_crash_nothing_is_missing_and_nothing_comes_twice(
    alias, job, bad_lines, monkeypatch, at, chunk
):
    stream = content(*range(6), bad_at={1, 2, 5})
    with monkeypatch.context() as patched:
        fail_in(patched, at, chunk)
        with pytest.raises(Crash):
            list(import_lines(job, io.BytesIO(stream), bad_lines()))
    file = bad_lines()
    *_, totals = import_lines(job, io.BytesIO(stream), file)
    file.close()
    assert texts(alias) == ["msg-0", "msg-3", "msg-4"]
    assert totals == Totals(len(stream), 6, 3, 3)
    assert [json.loads(text)["line"] for text in file.path.read_text().splitlines()] == [2, 3, 6]
    assert OutboxAction.objects.using(alias).get().records == 3


def fail_in(patched, at, chunk):
    """Let the process end in the transaction of a chunk, or right after its commit."""
    calls = []

    def crashing(function, *, is_after=False):
        def call(*given, **options):
            calls.append(1)
            if len(calls) == chunk and not is_after:
                raise Crash
            result = function(*given, **options)
            if len(calls) == chunk:
                raise Crash
            return result

        return call

    if at == "advance":
        rows = type(OutboxImport.objects.all())
        patched.setattr(rows, "advance", crashing(rows.advance, is_after=True))
    elif at == "commit":
        patched.setattr(importer, "_copy", crashing(importer._copy))
    else:
        patched.setattr(importer, at, crashing(getattr(importer, at)))


@pytest.mark.commits
def test_a_chunk_whose_commit_was_not_answered_is_not_inserted_twice(alias, job, bad_lines, monkeypatch):
    stream, copy, failed = content(*range(4)), importer._copy, []

    def lost(*given):
        if not failed:
            failed.append(1)
            error = OperationalError("server closed the connection unexpectedly")
            raise error
        copy(*given)

    monkeypatch.setattr(importer, "_copy", lost)
    monkeypatch.setattr("evermuse_outbox.delivery.context.retries._Attempts._may_repeat", lambda *given: True)
    *_, totals = import_lines(job, io.BytesIO(stream), bad_lines())
    assert (failed, totals.records) == ([1], 4)
    assert texts(alias) == [f"msg-{n}" for n in range(4)]


def test_an_imported_file_is_not_imported_again_but_what_was_added_is(alias, job, bad_lines):
    list(import_lines(job, io.BytesIO(content(1, 2, 3)), bad_lines()))
    assert len(list(import_lines(job, io.BytesIO(content(1, 2, 3)), bad_lines()))) == 1
    list(import_lines(job, io.BytesIO(content(1, 2, 3, 4)), bad_lines()))
    assert texts(alias) == [f"msg-{n}" for n in (1, 2, 3, 4)]


def test_another_file_under_the_same_name_is_refused(alias, job, bad_lines):
    list(import_lines(job, io.BytesIO(content(1, 2, 3)), bad_lines()))
    with pytest.raises(ImportRefused, match="not those that were imported before"):
        list(import_lines(job, io.BytesIO(content(4, 5, 6, 7)), bad_lines()))
    job.restart()
    list(import_lines(job, io.BytesIO(content(4)), bad_lines()))
    assert texts(alias) == [f"msg-{n}" for n in (1, 2, 3, 4)]


def test_two_processes_do_not_import_the_same_file(alias, job, bad_lines):
    stream = content(*range(6))
    first = import_lines(job, io.BytesIO(stream), bad_lines())
    second = import_lines(job, io.BytesIO(stream), bad_lines())
    next(first), next(first), next(second), next(second)
    with pytest.raises(ImportRefused, match="Another process"):
        next(first)
    list(second)
    assert texts(alias) == [f"msg-{n}" for n in range(6)]


def test_it_stops_after_too_many_bad_lines_and_can_continue(alias, job, bad_lines):
    stream = content(*range(8), bad_at={0, 1, 2, 5})
    strict = Import(alias, "default", "reference", "some file", job.decision, max_bad_lines=2)
    with pytest.raises(TooManyBadLines):
        list(import_lines(strict, io.BytesIO(stream), bad_lines()))
    assert texts(alias) == ["msg-3"]
    *_, totals = import_lines(job, io.BytesIO(stream), bad_lines())
    assert (totals.records, totals.bad_lines) == (4, 4)


def test_bad_lines_of_another_import_are_not_overwritten(alias, job, bad_lines):
    bad_lines().path.write_text("precious")
    with pytest.raises(FileExistsError):
        list(import_lines(job, io.BytesIO(content(1)), bad_lines()))
    assert bad_lines().path.read_text() == "precious"


def test_a_check_changes_nothing(alias, job):
    *_, (totals, chunk) = check_lines(job, io.BytesIO(content(*range(5), bad_at={4})))
    assert (totals.records, totals.bad_lines, chunk.bad[0].line) == (4, 1, 5)
    assert not OutboxImport.objects.using(alias).exists()
    assert texts(alias) == []
