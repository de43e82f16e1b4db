"""A MariaDB that is not strict alters text without an error: such a record is never sent."""

from __future__ import annotations

import json
import os

import pytest
from django.conf import settings as project
from django.core.management import call_command
from django.db import connections

from evermuse_outbox import outbox
from evermuse_outbox.checks import check_storage
from evermuse_outbox.models import OutboxRecord, OutboxRejection
from evermuse_outbox.models.columns import stored_text
from evermuse_outbox.testing import deliver, local_evermuse
from tests.records import record

EMOJI = "\N{GRINNING FACE}"
NAME = f"test_evermuse_lenient_{os.getpid()}"

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "mariadb"]),
    pytest.mark.skipif("mariadb" not in project.DATABASES, reason="no mariadb"),
]


def execute(alias, *statements):
    with connections[alias].cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@pytest.fixture
def open_database(outbox_settings, monkeypatch):
    """Return a function that connects ``mariadb`` to a new database of a character set. It is not strict by default."""
    connection = connections["mariadb"]
    created = []

    def create(of_database, of_connection="utf8mb4", mode=""):
        execute("mariadb", f"CREATE DATABASE {NAME} CHARACTER SET {of_database}")
        created.append(NAME)
        stored_text._character_set.cache_clear()
        connection.close()
        changed = {"init_command": f"SET sql_mode = '{mode}'", "charset": of_connection}
        monkeypatch.setitem(connection.settings_dict, "NAME", NAME)
        monkeypatch.setitem(
            connection.settings_dict, "OPTIONS", connection.settings_dict["OPTIONS"] | changed
        )
        outbox_settings(DATABASES=["default", "mariadb"])
        call_command("migrate", "evermuse_outbox", database="mariadb", verbosity=0, skip_checks=True)
        return "mariadb"

    yield create
    stored_text._character_set.cache_clear()
    connection.close()
    monkeypatch.undo()
    for name in created:
        execute("mariadb", f"DROP DATABASE {name}")


def states(alias):
    return list(OutboxRecord.objects.using(alias).order_by("pk").values_list("state", flat=True))


@pytest.mark.parametrize(
    ("of_database", "of_connection", "text"),
    [("utf8mb3", "utf8mb4", EMOJI), ("latin1", "utf8mb4", "\N{GREEK SMALL LETTER LAMDA}")],
)
def test_what_the_character_set_lacks_is_rejected_and_the_rest_delivered(
    open_database, of_database, of_connection, text
):
    alias = open_database(of_database, of_connection)
    for number, words in enumerate(("plain", f"with {text}", "caf\N{LATIN SMALL LETTER E WITH ACUTE}")):
        outbox.enqueue(record(number, data={"text": words}), using=alias)
    outbox.enqueue(record(3, _product_id=f"product {text}"), using=alias)
    with local_evermuse() as sandbox:
        deliver(sandbox, using=alias, check=False)
        sent = {json.loads(stored.line)["data"]["text"] for stored in sandbox.records()}
    assert states(alias) == ["delivered", "rejected", "delivered", "rejected"]
    assert sent == {"plain", "caf\N{LATIN SMALL LETTER E WITH ACUTE}"}
    assert set(OutboxRejection.objects.using(alias).values_list("code", flat=True)) == {"ALTERED"}


def test_the_checks_name_the_tables_and_the_mode_and_their_hints_correct_them(open_database):
    alias = open_database("utf8mb3")
    found = {message.id.removeprefix("evermuse_outbox."): message for message in check_storage([alias])}
    assert {"W020", "W021"} <= found.keys()
    tables = [message for message in check_storage([alias]) if message.id.endswith("W020")]
    (records,) = [message for message in tables if "'evermuse_outbox_outboxrecord'" in message.msg]
    assert "utf8mb3 in contract, payload" in records.msg
    for message in tables:
        execute(alias, message.hint.removeprefix("Run: "))
    assert [message.id for message in check_storage([alias])] == ["evermuse_outbox.W021"]
    outbox.enqueue(record(1, data={"text": EMOJI}), using=alias)
    outbox.enqueue(record(2, _product_id="Prod"), using=alias)
    outbox.enqueue(record(3, _product_id="prod "), using=alias)
    with local_evermuse() as sandbox:
        deliver(sandbox, using=alias)
    assert states(alias) == ["delivered"] * 3


def test_a_connection_of_another_character_set_is_named(open_database):
    alias = open_database("utf8mb4", "utf8mb3", "STRICT_TRANS_TABLES")
    (warning,) = check_storage([alias])
    assert warning.id == "evermuse_outbox.W020"
    assert "encoding utf8mb3" in warning.msg


def test_an_answer_with_characters_that_the_tables_lack_is_stored(open_database):
    """A strict database refuses them, and without the answer the batch would be sent again and again."""
    alias = open_database("utf8mb3", mode="STRICT_TRANS_TABLES")
    outbox.enqueue(record(1), using=alias)
    row = OutboxRecord.rows.using(alias).get()
    OutboxRejection.objects.using(alias).create(
        record_id=row.pk, code="X", message=f"no {EMOJI}", rejected_at=row.enqueued_at
    )
    assert OutboxRejection.objects.using(alias).get().message == "no \ufffd"
