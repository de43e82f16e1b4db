"""Commands on a terminal that is not UTF-8: what it cannot show is escaped, and no command fails."""

from __future__ import annotations

import json
import subprocess
import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from evermuse_outbox.management.gated_output import escape
from evermuse_outbox.models import OutboxBatch, OutboxRecord
from tests.admin.any_admin.every_state import GREEK, create_rows
from tests.rows import record_in
from tests.test_import_command import environment

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = sorted(path.stem for path in (ROOT / "evermuse_outbox/management/commands").glob("*_*.py"))

RUN_ALL = """
import json, sys, traceback
from django.conf import settings
from django.core.management import execute_from_command_line
settings.EVERMUSE_OUTBOX["DATABASES"] = ["default"]
for arguments in json.loads(sys.argv[1]):
    try:
        execute_from_command_line(["manage.py", *arguments])
    except SystemExit:
        pass
    except BaseException:
        traceback.print_exc()
"""
"""Each command as ``manage.py`` runs it. One process runs all of them, because its start takes longer."""


def calls():
    """Return the arguments of each call: the help of all commands, and what shows rows."""
    records = [f"#{pk}" for pk in OutboxRecord.rows.values_list("pk", flat=True)]
    batch = str(OutboxBatch.objects.filter(state="sealed").first().pk)
    selections = [[name, "--all", "--dry-run"] for name in ("outbox_retry", "outbox_discard")]
    shown = [
        ["outbox_status"],
        ["outbox_status", "--json"],
        ["outbox_status", "--check"],
        ["outbox_explain", *records],
        ["outbox_explain", "--json", *records],
        ["outbox_batch", batch],
        ["outbox_doctor", "--offline"],
        ["outbox_metrics"],
        ["outbox_reconcile"],
        ["outbox_resume", "--workspace", GREEK],
        ["outbox_retry", "--json", "--all", "--dry-run"],
        ["outbox_erase", "--text", GREEK, "--dry-run"],
        ["outbox_pause", "--workspace", "default", "--group", GREEK, GREEK, "--reason", GREEK],
        *selections,
    ]
    return [[name, "--help"] for name in COMMANDS] + shown


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "cp1252"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    ],
    ids=["ascii", "cp1252", "LC_ALL=C"],
)
def test_no_command_fails_on_a_terminal_that_is_not_utf_8(variables, outbox_settings):
    create_rows()
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL, json.dumps(calls())],
        cwd=ROOT,
        env=environment() | variables,
        capture_output=True,
        timeout=300,
        check=False,
    )
    output = (done.stdout + done.stderr).decode("cp1252")
    assert done.returncode == 0, output
    assert "Traceback" not in output, output[output.index("Traceback") :][:3000]
    assert "UnicodeEncodeError" not in output
    assert r"\u0386" in output  # the first letter of the Greek text
    for line in output.splitlines():
        if line.startswith('{"'):
            json.loads(line)


@pytest.mark.django_db
def test_a_stream_of_another_encoding_gets_escapes(outbox_settings):
    outbox_settings(DATABASES=["default"])
    record_in("default", "pending")
    stream = TextIOWrapper(BytesIO(), encoding="ascii")
    call_command("outbox_status", stdout=stream)
    stream.flush()
    assert rb"\u2588" in stream.buffer.getvalue()


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("ascii", r"caf\u00e9 \u2588 \ud83d\ude00"),
        ("cp1252", r"café \u2588 \ud83d\ude00"),
        ("utf-8", "café █ \N{GRINNING FACE}"),
        (None, "café █ \N{GRINNING FACE}"),
        ("unknown", "café █ \N{GRINNING FACE}"),
    ],
)
def test_what_an_encoding_lacks_is_escaped_as_in_json(encoding, expected):
    escaped = escape("café █ \N{GRINNING FACE}", encoding)
    assert escaped == expected
    assert json.loads(f'"{escaped}"') == "café █ \N{GRINNING FACE}"


@pytest.mark.django_db
@pytest.mark.parametrize("value", ["a\0b", "caf\udce9"])
@pytest.mark.parametrize("arguments", [["outbox_resume", "--workspace"], ["outbox_erase", "--text"]])
def test_an_argument_that_no_database_stores_is_refused(value, arguments):
    with pytest.raises(CommandError, match="UTF-8"):
        call_command(*arguments, value)
