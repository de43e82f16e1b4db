"""``outbox_import``: output, exit statuses, and a process that is killed on its way."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from evermuse_outbox.management.commands import outbox_import
from evermuse_outbox.models import OutboxAction, OutboxImport, OutboxRecord, OutboxRun
from evermuse_outbox.operations.importing import lines
from tests.e2e.host_processes import wait_until
from tests.records import record

ROOT = Path(__file__).resolve().parent.parent
BAD = '{"_type": "message"}'

on_sqlite = pytest.mark.django_db(databases=["default"])


def run(*arguments):
    """Return the exit status and the output of the command."""
    out = StringIO()
    try:
        call_command("outbox_import", *map(str, arguments), stdout=out, stderr=StringIO())
    except CommandError as error:
        return error.returncode, out.getvalue() + str(error)
    return 0, out.getvalue()


def write(path, *numbers, bad_at=()):
    texts = [BAD if number in bad_at else json.dumps(record(number)) for number in numbers]
    path.write_text("".join(f"{text}\n" for text in texts))
    return path


@pytest.fixture
def file(tmp_path):
    return tmp_path / "records.ndjson"


@on_sqlite
def test_a_file_is_imported_and_the_result_says_so(file):
    write(file, 1, 2, 3)
    status, text = run(file, "--reason", "history")
    assert (status, text.partition(" Run #")[0]) == (0, "Imported 3 records into default.")
    assert OutboxAction.objects.get().reason == "history"
    status, text = run(file)
    assert (status, text.partition(" Run #")[0]) == (
        0,
        "Imported 0 records into default. 3 lines were imported before; to import them again: --restart.",
    )
    assert OutboxRecord.rows.count() == 3
    assert run(file, "--restart")[0] == 0
    assert OutboxRecord.rows.count() == 6


@on_sqlite
def test_bad_lines_give_exit_status_3_and_a_file(file):
    write(file, 1, 2, 3, bad_at={2})
    status, text = run(file)
    assert status == 3
    assert f"Imported 2 records into default. 1 lines are bad: see {file}.bad" in text
    (line,) = Path(f"{file}.bad").read_text().splitlines()
    assert json.loads(line)["line"] == 2
    assert run(file)[0] == 3  # nothing new, but the bad lines are still missing


@on_sqlite
def test_too_many_bad_lines_give_exit_status_4_and_it_can_continue(file, monkeypatch):
    monkeypatch.setattr(lines, "CHUNK_LINES", 2)
    write(file, *range(6), bad_at={0})
    status, text = run(file, "--max-errors", 0)
    assert status == 4
    assert "1 records are imported. Start the same command again to continue after line 2." in text
    status, text = run(file, "--json")
    assert (status, json.loads(text.splitlines()[0])) == (
        3,
        {
            "result": "imported",
            "records": 5,
            "lines": 6,
            "bad_lines": 1,
            "bytes": file.stat().st_size,
            "run": OutboxRun.objects.get().pk,
            "bad_lines_file": f"{file}.bad",
        },
    )


@on_sqlite
def test_another_file_under_the_name_gives_exit_status_5(file):
    run(write(file, 1, 2))
    status, text = run(write(file, 3, 4, 5))
    assert status == 5
    assert "--restart, or another --name" in text
    assert run(file, "--name", "another")[0] == 0
    assert OutboxRecord.rows.count() == 5


@on_sqlite
def test_a_dry_run_changes_nothing_and_shows_the_first_errors(file, capsys):
    write(file, *range(9), bad_at=set(range(1, 9)))
    status, text = run(file, "--dry-run")
    assert (status, "1 of 9 lines can be imported, 8 are bad. Nothing was changed." in text) == (3, True)
    shown = capsys.readouterr().err
    assert "line 2: " in shown
    assert "line 6: " in shown
    assert "line 7: " not in shown
    assert not Path(f"{file}.bad").exists()
    assert not OutboxImport.objects.exists()
    assert not OutboxRecord.rows.exists()
    assert run(file, "--dry-run", "--max-errors", 2)[0] == 4
    bad = file.with_name("bad")
    run(file, "--dry-run", "--bad-lines", bad)
    assert len(bad.read_text().splitlines()) == 8


@on_sqlite
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["missing.ndjson"], "missing.ndjson is not a file that can be read."),
        ([str(ROOT)], "is not a file that can be read."),
        (["-", "--workspace", "nowhere"], "No workspace 'nowhere' in the settings; known: default."),
    ],
)
def test_a_wrong_argument_gives_exit_status_1(arguments, text):
    assert (run(*arguments)[0], text in run(*arguments)[1]) == (1, True)


@on_sqlite
def test_a_file_of_bad_lines_is_not_overwritten(file):
    write(file, 1, bad_at={1})
    Path(f"{file}.bad").write_text("precious")
    status, text = run(file)
    assert (status, "exists already. Move it, or name another file" in text) == (1, True)


@on_sqlite
def test_standard_input_is_resumable_by_its_name(file, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lines, "CHUNK_LINES", 2)
    write(file, *range(5))

    def piped(content, *arguments):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
        return run("-", *arguments)

    complete = file.read_bytes()
    assert (
        piped(complete[: complete.index(b"msg-3")], "--name", "old", "--bad-lines", "bad")[0] == 3
    )  # the last line is cut
    assert piped(complete)[0] == piped(complete)[0] == 0  # without a name, these are two imports
    assert OutboxRecord.rows.count() == 3 + 10
    assert OutboxImport.objects.filter(name__startswith="standard input ").count() == 2


@on_sqlite
def test_ctrl_c_gives_exit_status_130_and_says_how_to_continue(file, monkeypatch):
    monkeypatch.setattr(lines, "CHUNK_LINES", 2)
    write(file, *range(6))
    calls = []

    def interrupted(*given):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(outbox_import, "wake_workers", interrupted)
    status, text = run(file)
    assert status == 130
    assert "4 records are imported. Start the same command again to continue after line 4." in text
    assert run(file)[0] == 0
    assert OutboxRecord.rows.count() == 6


# --- real processes -----------------------------------------------------------------------------------


def environment():
    """Return the environment in which a process uses the test databases."""
    variables = {"TEST_SQLITE_URL": f"sqlite:///{connections['default'].settings_dict['NAME']}"}
    for alias in ("postgres", "mariadb"):
        if alias in connections.settings:
            values = connections[alias].settings_dict
            scheme = {"postgres": "postgres", "mariadb": "mysql"}[alias]
            login = f"{values['USER']}:{values['PASSWORD']}" if values["PASSWORD"] else values["USER"]
            where = f"{values['HOST']}:{values['PORT']}" if values["PORT"] else values["HOST"]
            variables[f"TEST_{alias.upper()}_URL"] = f"{scheme}://{login}@{where}/{values['NAME']}"
    return os.environ | variables | {"DJANGO_SETTINGS_MODULE": "tests.settings"}


def kill_after_a_chunk(command, position):
    """Start the command, and kill its process as soon as it has committed something."""
    before = position()
    process = subprocess.Popen(command, cwd=ROOT, env=environment(), stderr=subprocess.PIPE)
    wait_until(lambda: position() > before or process.poll() is not None, "the next chunk")
    assert process.poll() is None, process.stderr.read().decode()
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.commits
@pytest.mark.e2e
def test_a_killed_process_loses_nothing_and_imports_nothing_twice(alias, file):
    write(file, *range(12_000), bad_at=set(range(0, 12_000, 1_500)))
    command = [sys.executable, "manage.py", "outbox_import", str(file), "--database", alias]
    rows = OutboxImport.objects.using(alias)

    def position():
        return rows.values_list("position", flat=True).first() or 0

    for _ in range(3):
        kill_after_a_chunk(command, position)
    assert 0 < position() < file.stat().st_size
    ended = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert ended.returncode == 3, ended.stderr
    numbers = [
        row.envelope()["_vendor_ids"]["message_id"]
        for row in OutboxRecord.rows.using(alias).order_by("pk").iterator(chunk_size=1_000)
    ]
    assert numbers == [f"msg-{n}" for n in range(12_000) if n % 1_500]
    bad = [json.loads(line)["line"] for line in Path(f"{file}.bad").read_text().splitlines()]
    assert bad == [n + 1 for n in range(0, 12_000, 1_500)]
    assert OutboxAction.objects.using(alias).get().records == 12_000 - 8
