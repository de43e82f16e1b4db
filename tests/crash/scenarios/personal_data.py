"""Records are erased or imported: in full with their row of the action log, or not at all."""

from __future__ import annotations

import io
import json
from pathlib import Path

from evermuse_outbox.models import Decision, OutboxAction, OutboxImport, start_operation
from evermuse_outbox.operations.erasing import erase_records, forget_texts
from evermuse_outbox.operations.importing import BadLinesFile, Import, import_lines, lines
from evermuse_outbox.sandbox import Fault
from tests.records import record

from ..environment import Environment
from ..scenario import scenario

QUOTE = {"error": "cannot store msg-2"}


def prepare_in_doubt_with_quote(env):
    """Leave three records in a batch in doubt. The answer quotes the second one."""
    env.enqueue(1, 2, 3)
    start_operation(env.alias, kind="retry", by="an operator")
    env.sandbox.fail_next(Fault(status=500, body=QUOTE))
    env.send()


def check_erased(env: Environment, states: list[str]) -> None:
    """Check that the record is erased if and only if the action log says so."""
    was_done = OutboxAction.objects.using(env.alias).exists()
    assert states == ["delivered"] * (2 if was_done else 3)


@scenario(prepare=prepare_in_doubt_with_quote, expected=check_erased, is_purging=True, may_repeat=True)
def erased_in_doubt(env):
    """An operator erases a record of a batch in doubt, in two steps, and the texts that quote it."""
    pks = [row.pk for row in env.records]
    erased = erase_records(env.alias, [pks[1]], Decision())
    erase_records(env.alias, [pks[1]], Decision(), erased=erased)
    forget_texts(env.alias, ["msg-2"])


def prepare_nothing(env: Environment) -> None:
    """Leave the outbox empty."""


def check_imported(env: Environment, states: list[str]) -> None:
    """Check that the progress says how many records there are."""
    progress = OutboxImport.objects.using(env.alias).first()
    assert states == ["delivered"] * (progress.records if progress else 0)


@scenario(prepare=prepare_nothing, expected=check_imported)
def imported(env):
    """A file is imported in two chunks."""
    lines.CHUNK_LINES = 2
    content = "".join(json.dumps(record(number)) + "\n" for number in (1, 2, 3)).encode()
    bad_lines = BadLinesFile(Path("/nonexistent"))
    job = Import(env.alias, "default", "reference", "a file", Decision())
    for _ in import_lines(job, io.BytesIO(content), bad_lines, env.context.clock):
        pass
    Import(env.alias, "default", "reference", "another file", Decision()).restart()


def prepare_delivered(env):
    """Deliver three records, four days ago."""
    env.enqueue(1, 2, 3)
    env.relay()
    env.clock.move(5)
    env.poll()
    env.clock.move(4 * 86_400)


def check_payloads(env: Environment, states: list[str]) -> None:
    """Check that each record has its payload or its hash."""
    assert states == ["delivered"] * 3
    assert all(bool(row.payload) != row.is_payload_dropped for row in env.records)


@scenario(
    prepare=prepare_delivered,
    expected=check_payloads,
    settings={"PAYLOAD_RETENTION_DAYS": 3},
    is_purging=True,
)
def payloads_dropped(env):
    """Upkeep drops payloads."""
    env.maintain()
