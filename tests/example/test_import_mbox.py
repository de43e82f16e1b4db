"""``import_mbox`` from the command line: every mail once, whatever stands next to it."""

from __future__ import annotations

import io
import shutil
import subprocess
from types import SimpleNamespace

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError

from evermuse_outbox.models import OutboxRecord
from example_project.support import importer
from example_project.support.models import Email

from .letters import letter, mbox

pytestmark = pytest.mark.django_db

THREE = [letter(Message_ID=f"<{number}@acme.example>", Subject=f"no. {number}") for number in range(3)]


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


def test_every_mail_once(write):
    file = write(mbox(*THREE))
    said = run(file)
    assert "3 mails read: 3 imported, 0 already there, 0 refused." in said
    assert "outbox_status" in said
    assert "3 mails read: 0 imported, 3 already there, 0 refused." in run(file)
    assert Email.objects.count() == OutboxRecord.objects.filter(type="email").count() == 3
    assert Email.objects.order_by("pk")[1].subject == "no. 1"


@pytest.mark.parametrize("chunk", [1, 2, 3, 200, 5_000])
def test_chunks_of_any_size(write, chunk):
    assert "3 imported" in run(write(mbox(*THREE)), chunk=chunk)
    assert OutboxRecord.objects.count() == 3


def test_the_same_mail_twice_in_one_file(write):
    assert "1 imported, 1 already there" in run(write(mbox(THREE[0], THREE[0])))


def test_ids_that_differ_in_case_are_two(write):
    assert "2 imported" in run(write(mbox(letter(Message_ID="<A@b>"), letter(Message_ID="<a@b>"))))


def test_a_limit(write):
    assert "2 mails read: 2 imported" in run(write(mbox(*THREE)), limit=2)


def test_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(mbox(*THREE))))
    assert "3 imported" in run("-")


def test_broken_mails_among_good_ones(write):
    broken = [
        b"\xff\xfe\0\0",
        b"no header at all",
        letter(b"a\0b", Message_ID=None, Date="x", Content_Type=";;;"),
    ]
    assert "5 imported" in run(write(mbox(THREE[0], *broken, THREE[1])))


def test_a_refused_mail_harms_only_itself(write, monkeypatch, settings):
    real = importer.records.email_record

    def with_one_bad(mail):
        return real(mail) | ({"_tags": ["x" * 65]} if mail.subject == "no. 1" else {})

    monkeypatch.setattr(importer.records, "email_record", with_one_bad)
    out = io.StringIO()
    with pytest.raises(CommandError, match="1 mails were refused"):
        call_command("import_mbox", write(mbox(*THREE)), stdout=out, stderr=out)
    assert "mail 2 <1@acme.example>: _tags[0]" in out.getvalue()
    assert "2 imported, 0 already there, 1 refused" in out.getvalue()
    assert Email.objects.count() == OutboxRecord.objects.count() == 2


def test_an_error_takes_its_whole_chunk_back(write, monkeypatch):
    def broken(*_args, **_options):
        raise RuntimeError

    monkeypatch.setattr(Email.objects, "bulk_create", broken)
    monkeypatch.setattr(type(Email.objects), "bulk_create", broken)
    with pytest.raises(RuntimeError):
        run(write(mbox(*THREE)))
    assert not OutboxRecord.objects.exists()


def test_another_import_at_the_same_time(write, monkeypatch):
    """The other one saves a mail after ours has looked: the chunk is done again."""
    real, calls = importer._missing, []

    def looked_too_early(mails):
        calls.append(mails)
        missing = real(mails)
        if len(calls) == 1:
            raise IntegrityError
        return missing

    monkeypatch.setattr(importer, "_missing", looked_too_early)
    assert "3 imported" in run(write(mbox(*THREE)))
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"\n\n", "is empty"), (b"Subject: x\n\ny\n", "is not an mbox")],
)
def test_what_is_no_mbox(write, content, message):
    with pytest.raises(CommandError, match=message):
        run(write(content))


def test_no_such_file(tmp_path):
    with pytest.raises(CommandError, match="No such file"):
        run(str(tmp_path / "none.mbox"))


def test_a_bar_only_on_a_terminal_or_when_asked(write, capsys):
    file = write(mbox(*THREE))
    run(file)
    assert capsys.readouterr().err == ""
    run(file, progress=True)
    assert "3 mails" in capsys.readouterr().err


def test_a_record_says_what_the_mail_says(write):
    run(write(mbox(letter(b"Hello", List_Id="<talk.acme.example>", Cc="bob@acme.example"))))
    record = OutboxRecord.objects.get().envelope()
    assert record["_event_at"] == "2026-03-03T09:22:17Z"
    assert record["_vendor_ids"] == {"message_id": "<1@acme.example>"}
    assert record["_nature"] == "evidence"
    assert record["data"]["cc"] == ["bob@acme.example"]


# --- mail that git writes --------------------------------------------------------------------------

MESSAGES = [
    "First steps",
    "Take mail apart\n\nFrom now on every line counts.\n\nFrom here it goes to Evermuse.",
    "Übersetzung: größer\n\nFrom: nobody in particular",
]


@pytest.fixture
def patches(tmp_path, write):
    """What ``git format-patch`` makes of a small repository: an mbox without Message-IDs."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    repository = tmp_path / "repository"
    repository.mkdir()

    def git(*arguments: str) -> bytes:
        who = [
            "-c",
            "user.name=Björn Lindqvist",
            "-c",
            "user.email=bjorn@acme.example",
            "-c",
            "commit.gpgsign=false",
        ]
        return subprocess.run(
            ["git", *who, *arguments], cwd=repository, check=True, capture_output=True
        ).stdout

    git("init", "--quiet")
    for number, message in enumerate(MESSAGES):
        (repository / "file.txt").write_text(f"From {number}\n" * (number + 1))
        git("add", ".")
        git("commit", "--quiet", "--message", message)
    return write(git("format-patch", "--stdout", "--root"))


def test_patches(patches):
    assert "3 mails read: 3 imported" in run(patches)
    assert "3 already there" in run(patches)
    mails = list(Email.objects.order_by("pk"))
    assert [mail.subject for mail in mails] == [
        "[PATCH 1/3] First steps", "[PATCH 2/3] Take mail apart", "[PATCH 3/3] Übersetzung: größer",
    ]  # fmt: skip
    assert "From now on every line counts." in mails[1].body
    assert "Björn Lindqvist" in mails[0].sender
    assert all(mail.message_id.startswith("<sha256-") for mail in mails)
