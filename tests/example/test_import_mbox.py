"""Tests of the command ``import_mbox``."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import random
import shutil
import subprocess
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evermuse_outbox.models import OutboxRecord
from evermuse_outbox.testing import assert_enqueued
from example_project.support import importer
from example_project.support.models import Email

from .sample_mails import mbox, sample_mail

pytestmark = pytest.mark.django_db

THREE = [sample_mail(Message_ID=f"<{number}@acme.example>", Subject=f"no. {number}") for number in range(3)]


@pytest.fixture
def write(tmp_path):
    def write(content: bytes) -> str:
        path = tmp_path / "mails.mbox"
        path.write_bytes(content)
        return str(path)

    return write


def run(file: str, **options) -> str:
    out = io.StringIO()
    call_command("import_mbox", file, stdout=out, stderr=out, **options)
    return out.getvalue()


def run_to_report(file: str, *, status: int = 0, **options) -> list[dict]:
    """Return the lines of the report, after checking the exit status."""
    report = Path(file).with_suffix(".report")
    with pytest.raises(CommandError) if status else nullcontext() as error:
        run(file, report=str(report), **options)
    assert status == 0 or error.value.returncode == status
    return [json.loads(line) for line in report.read_text("utf-8").splitlines()]


def test_every_mail_is_imported_once(write, outbox_records):
    file = write(mbox(*THREE))
    output = run(file)
    assert "3 mails read: 3 imported, 0 already there, 0 refused." in output
    assert "outbox_status" in output
    assert "3 mails read: 0 imported, 3 already there, 0 refused." in run(file)
    assert Email.objects.count() == 3
    outbox_records.assert_enqueued(type="email", count=3)
    assert Email.objects.order_by("pk")[1].subject == "no. 1"


@pytest.mark.parametrize("chunk", [1, 2, 3, 200, 5_000])
def test_the_chunk_size_does_not_change_the_result(write, chunk):
    assert "3 imported" in run(write(mbox(*THREE)), chunk=chunk)
    assert OutboxRecord.objects.count() == 3


def test_the_same_mail_twice_in_one_file(write):
    assert "1 imported, 1 already there" in run(write(mbox(THREE[0], THREE[0])))


def test_message_ids_are_case_sensitive(write):
    assert "2 imported" in run(write(mbox(sample_mail(Message_ID="<A@b>"), sample_mail(Message_ID="<a@b>"))))


def test_limit_option(write):
    assert "2 mails read: 2 imported" in run(write(mbox(*THREE)), limit=2)


def test_reading_from_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(mbox(*THREE))))
    assert "3 imported" in run("-")


def test_broken_mails_are_imported_too(write):
    broken = [
        b"\xff\xfe\0\0",
        b"no header at all",
        sample_mail(b"a\0b", Message_ID=None, Date="x", Content_Type=";;;"),
    ]
    report = run_to_report(write(mbox(THREE[0], *broken, THREE[1])), status=3)
    assert [entry["fate"] for entry in report if entry["kind"] == "mail"] == ["imported"] * 4
    [line] = [entry for entry in report if entry["kind"] == "from_line"]
    assert line[
        "is_doubtful"
    ]  # it is like the separators of the file, but the line after it is no header field


def test_a_refused_mail_does_not_affect_the_others(write, monkeypatch):
    email_record = importer.records.email_record

    def email_record_with_long_tag(mail):
        return email_record(mail) | ({"_tags": ["x" * 65]} if mail.subject == "no. 1" else {})

    monkeypatch.setattr(importer.records, "email_record", email_record_with_long_tag)
    out = io.StringIO()
    with pytest.raises(CommandError, match="1 mails were refused"):
        call_command("import_mbox", write(mbox(*THREE)), stdout=out, stderr=out)
    assert "mail 2 <1@acme.example>: _tags[0]" in out.getvalue()
    assert "2 imported, 0 already there, 1 refused" in out.getvalue()
    assert Email.objects.count() == OutboxRecord.objects.count() == 2


def test_an_error_rolls_the_chunk_back(write, monkeypatch):
    def fail(*_args, **_options):
        raise RuntimeError

    monkeypatch.setattr(Email.objects, "bulk_create", fail)
    monkeypatch.setattr(type(Email.objects), "bulk_create", fail)
    with pytest.raises(RuntimeError):
        run(write(mbox(*THREE)))
    assert not OutboxRecord.objects.exists()


def test_a_chunk_is_retried_if_a_concurrent_import_saves_one_of_its_mails(write, monkeypatch):
    find_present, calls = importer._present, []

    def conflict_at_first_call(entries):
        calls.append(entries)
        present = find_present(entries)
        if len(calls) == 1:
            raise IntegrityError
        return present

    monkeypatch.setattr(importer, "_present", conflict_at_first_call)
    assert "3 imported" in run(write(mbox(*THREE)))
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"\n\n", "is empty"), (b"PK\x03\x04 x\n\ny\n", "is not an mbox")],
)
def test_files_that_are_not_an_mbox(write, content, message):
    with pytest.raises(CommandError, match=message):
        run(write(content))


def test_missing_file(tmp_path):
    with pytest.raises(CommandError, match="No such file"):
        run(str(tmp_path / "none.mbox"))


def test_the_progress_bar_is_shown_on_a_terminal_or_if_requested(write, capsys):
    file = write(mbox(*THREE))
    run(file)
    assert capsys.readouterr().err == ""
    run(file, progress=True)
    assert "3 mails" in capsys.readouterr().err


def test_the_record_has_the_fields_of_the_mail(write):
    run(write(mbox(sample_mail(b"Hello", List_Id="<talk.acme.example>", Cc="bob@acme.example"))))
    assert_enqueued(
        event_at="2026-03-03T09:22:17Z",
        vendor_ids__message_id="<1@acme.example>",
        nature="evidence",
        data__cc=["bob@acme.example"],
        count=1,
    )


def test_evermuse_accepts_the_mails(write, deliver, evermuse_sandbox):
    run(write(mbox(*THREE)))
    assert len(deliver().delivered) == len(evermuse_sandbox.records()) == 3


# --- patches by git format-patch ---------------------------------------------------------------------

MESSAGES = [
    "First steps",
    "Take mail apart\n\nFrom now on every line counts.\n\nFrom here it goes to Evermuse.",
    "Übersetzung: größer\n\nFrom: nobody in particular",
]


@pytest.fixture
def patches(tmp_path, write):
    """Return the path of an mbox without Message-IDs, written by ``git format-patch``."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    repository = tmp_path / "repository"
    repository.mkdir()

    def git(*arguments: str) -> bytes:
        configuration = [
            "-c",
            "user.name=Björn Lindqvist",
            "-c",
            "user.email=bjorn@acme.example",
            "-c",
            "commit.gpgsign=false",
        ]
        return subprocess.run(
            ["git", *configuration, *arguments], cwd=repository, check=True, capture_output=True
        ).stdout

    git("init", "--quiet")
    for number, message in enumerate(MESSAGES):
        (repository / "file.txt").write_text(f"From {number}\n" * (number + 1))
        git("add", ".")
        git("commit", "--quiet", "--message", message)
    return write(git("format-patch", "--stdout", "--root"))


def test_patches_are_imported_once(patches):
    assert "3 mails read: 3 imported" in run(patches)
    assert "3 already there" in run(patches)
    mails = list(Email.objects.order_by("pk"))
    assert [mail.subject for mail in mails] == [
        "[PATCH 1/3] First steps", "[PATCH 2/3] Take mail apart", "[PATCH 3/3] Übersetzung: größer",
    ]  # fmt: skip
    assert "From now on every line counts." in mails[1].body
    assert "Björn Lindqvist" in mails[0].sender
    assert all(mail.message_id.startswith("<sha256-") for mail in mails)


# --- every mail has a fate ---------------------------------------------------------------------------

A = sample_mail(b"one", Message_ID="<same@acme.example>")
B = sample_mail(b"two", Message_ID="<same@acme.example>")
NO_DATE = sample_mail(b"three", Message_ID="<3@acme.example>", Date=None)
NO_ID = sample_mail(b"four", Message_ID=None)
LONG = sample_mail(b"five", Message_ID="<5@acme.example>", Subject="x" * 2_000)
SIX = [A, B, NO_DATE, NO_ID, LONG, THREE[0]]


def fates(report: list[dict]) -> list[str]:
    return [entry["fate"] for entry in report if entry["kind"] == "mail"]


def test_different_mails_with_the_same_message_id_are_told_apart(write, outbox_records):
    file = write(mbox(A, B, A))
    assert fates(run_to_report(file)) == ["imported", "different", "same"]
    assert fates(run_to_report(file)) == ["same"] * 3
    first, second = (record.envelope() for record in OutboxRecord.objects.order_by("pk"))
    assert first["_vendor_ids"]["message_id"] == second["_vendor_ids"]["message_id"]
    assert first["_vendor_ids"] != second["_vendor_ids"]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mails=st.lists(st.sampled_from(SIX), min_size=1, max_size=8), data=st.data())
def test_another_order_and_two_files_give_the_same_mails(mails, data, write):
    with transaction.atomic():
        first = run_to_report(write(mbox(*mails)))
        identities = {line["content_sha256"] for line in first}
        assert fates(first).count("same") == len(mails) - len(set(mails))
        assert len(identities) == len(set(mails)) == Email.objects.count() == OutboxRecord.objects.count()
        again = data.draw(st.permutations(mails))
        half = data.draw(st.integers(0, len(mails)))
        for part in filter(None, (again[:half], again[half:])):
            assert set(fates(run_to_report(write(mbox(*part))))) == {"same"}
        transaction.set_rollback(True)


def test_copies_of_a_mail_are_the_same_mail(write):
    run(write(mbox(THREE[0])))
    received = b"Received: from a by b; Tue, 3 Mar 2026 09:00:00 +0000\nStatus: RO\nX-Mozilla-Status: 0001\n"
    for copy in (received + THREE[0], THREE[0].replace(b"\n", b"\r\n"), THREE[0] + b"\n\n"):
        assert "0 imported, 1 already there" in run(write(mbox(copy)))


def test_the_numbers_add_up_and_each_mark_is_counted(write):
    output = run(write(mbox(*SIX, A)))
    assert "7 mails read: 6 imported, 1 already there, 0 refused." in output
    assert (
        "1 differ from another mail with their Message-ID, 1 have a guessed date, 1 are shortened." in output
    )


def test_guessed_and_shortened_are_marked_in_the_record(write, outbox_records):
    run(write(mbox(NO_DATE, LONG)))
    no_date, long = (record.envelope()["data"] for record in OutboxRecord.objects.order_by("pk"))
    assert no_date["date_guessed_from"] == "separator"
    assert "shortened" not in no_date
    assert long["shortened"] == ["subject"]
    assert "date_guessed_from" not in long


def test_a_dry_run_saves_nothing_and_reports_the_same(write, outbox_records):
    file = write(mbox(*SIX, A))
    report = run_to_report(file, dry_run=True, chunk=2)
    assert not Email.objects.exists()
    assert not OutboxRecord.objects.exists()
    assert report == run_to_report(file, chunk=2)


def test_each_line_that_is_no_separator_is_reported(write):
    content = mbox(sample_mail(b"From now on it works.\n\nFrom here, too."), THREE[1])
    output = run(write(content))
    assert "line 10: no separator, because no header fields after it. 'From here, too.'" in output
    assert '2 lines begin with "From " and are text, 0 of them doubtful.' in output
    lines = [entry for entry in run_to_report(write(content)) if entry["kind"] == "from_line"]
    assert [(line["line"], line["mail"]) for line in lines] == [(8, 1), (10, 1)]


def test_a_doubtful_line_is_an_error(write):
    report = run_to_report(
        write(mbox(sample_mail(b"text\nFrom bob@acme.example\nFrom: Bob\nSubject: x\n\ny"))), status=3
    )
    assert fates(report) == ["imported"]


# --- files and directories ---------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_files(write, compress):
    assert "3 imported" in run(write(compress(mbox(*THREE))))


def test_a_truncated_archive_is_imported_as_far_as_possible(write):
    mails = [
        sample_mail(random.Random(n).randbytes(3_000), Message_ID=f"<{n}@acme.example>") for n in range(50)
    ]
    report = run_to_report(write(gzip.compress(mbox(*mails))[:-60_000]), status=1)
    assert len(fates(report)) > 20
    assert [entry["kind"] for entry in report].count("error") == 1


def test_an_archive_of_several_files_is_refused(tmp_path):
    (tmp_path / "mails.mbox").write_bytes(mbox(*THREE))
    for name in ("archive.tar", "archive.tar.gz", "archive.zip"):
        form = {"tar": "tar", "gz": "gztar", "zip": "zip"}[name.rpartition(".")[2]]
        path = shutil.make_archive(str(tmp_path / "archive"), form, tmp_path, "mails.mbox")
        with pytest.raises(CommandError, match="is not an mbox"):
            run(path)


def test_files_of_other_systems(write):
    content = mbox(*THREE)
    assert "3 imported" in run(write(content.replace(b"\n", b"\r")))
    utf_16 = content.decode().encode("utf-16")
    assert "0 imported, 3 already there" in run(write(utf_16))


def test_a_directory_of_mails_and_mboxes(tmp_path, write):
    for name in ("cur", "new", "tmp"):
        (tmp_path / "Maildir" / name).mkdir(parents=True)
    (tmp_path / "Maildir" / "cur" / "1:2,S").write_bytes(THREE[0])
    (tmp_path / "Maildir" / "new" / "2").write_bytes(b"Return-Path: <x>\n" + sample_mail(mbox(THREE[1])))
    for name in ("tmp/3", "dovecot.index", "cur/.hidden"):
        (tmp_path / "Maildir" / name).write_bytes(b"no mail")
    (tmp_path / "three.eml").write_bytes(THREE[2])
    write(mbox(*THREE))
    assert "6 mails read: 4 imported, 2 already there, 0 refused." in run(str(tmp_path))


def test_a_file_that_is_no_mail_does_not_stop_the_others(tmp_path):
    (tmp_path / "1.txt").write_bytes(b"PK\x03\x04")
    (tmp_path / "2.mbox").write_bytes(mbox(*THREE))
    report = run_to_report(str(tmp_path), status=1)
    assert [entry["kind"] for entry in report] == ["error", "mail", "mail", "mail"]


def test_the_quoting_of_mboxrd(write):
    file = write(mbox(sample_mail(b">From now on\n>>From then on")))
    run(file, mboxrd=True)
    assert Email.objects.get().body == "From now on\n>From then on"
