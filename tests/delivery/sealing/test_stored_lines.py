"""A line that is not what was enqueued is never sent, whatever has altered it."""

from __future__ import annotations

import pytest

from evermuse_outbox.delivery.loop import relay
from evermuse_outbox.insight import explain_record
from evermuse_outbox.models import OutboxRecord
from evermuse_outbox.operations import edit_record, retry_records
from tests.delivery.helpers import deliver, posts, state_of
from tests.records import enqueue, record

LARGE = "ä" * 10_000
"""A text that is not read with its page."""

ALTERED = {
    "a character": lambda line: line.replace("o", "?", 1),
    "the same size": lambda line: line.replace("Hello", "Howdy"),
    "cut off": lambda line: line[: len(line) // 2],
    "empty": lambda line: "",
    "white space": lambda line: line + " ",
    "case": lambda line: line.replace("Hello", "HELLO"),
}


def rewrite(alias, row, **columns):
    OutboxRecord.rows.using(alias).filter(pk=row.pk).update(**columns)


@pytest.mark.parametrize("change", ALTERED.values(), ids=ALTERED)
@pytest.mark.parametrize("text", ["Hello", f"Hello {LARGE}"], ids=["small", "large"])
def test_an_altered_line_is_rejected_and_the_others_of_its_group_are_sent(
    context, alias, sandbox, clock, change, text
):
    rows = enqueue(alias, 1, 2, 3, data={"text": text})
    rewrite(alias, rows[1], payload=change(rows[1].payload))
    deliver(context, clock)
    assert [state_of(row) for row in rows] == ["delivered", "rejected", "delivered"]
    assert len(posts(sandbox)) == 1
    (rejection,) = rows[1].rejections.all()
    assert (rejection.code, rejection.batch_id) == ("ALTERED", None)
    assert f"manage.py check --database {alias}" in rejection.message
    assert "Hello" not in rejection.message
    assert "enqueue the record again" in explain_record(OutboxRecord.objects.using(alias).get(pk=rows[1].pk))


@pytest.mark.parametrize("column", ["type", "product_id"])
def test_a_record_whose_group_was_altered_is_not_sent_with_another_group(
    context, alias, sandbox, clock, column
):
    (row,) = enqueue(alias, 1, _product_id="café")
    rewrite(alias, row, **{column: "call" if column == "type" else "caf?"})
    deliver(context, clock)
    assert state_of(row) == "rejected"
    assert posts(sandbox) == []


def test_a_group_in_which_every_line_was_altered_does_not_block_another(context, alias, sandbox, clock):
    rows = enqueue(alias, *range(30))
    OutboxRecord.rows.using(alias).update(payload="{}")
    (other,) = enqueue(alias, 99, _product_id="other")
    deliver(context, clock)
    assert {state_of(row) for row in rows} == {"rejected"}
    assert state_of(other) == "delivered"


def test_an_altered_line_is_not_translated_into_another_contract(
    reopen, context, alias, sandbox, clock, outbox_settings
):
    (row,) = enqueue(alias, 1)
    rewrite(alias, row, payload=row.payload.replace("Hello", "Howdy"))
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", CONTRACT="openapi")
    relay(reopen(), 60)
    assert (state_of(row), row.rejections.get().code) == ("rejected", "ALTERED")


def test_a_retry_does_not_send_it_and_an_edit_does(context, alias, sandbox, clock):
    (row,) = enqueue(alias, 1)
    rewrite(alias, row, payload=row.payload.replace("Hello", "Howdy"))
    deliver(context, clock)
    retry_records(alias, [row.pk])
    deliver(context, clock)
    assert (state_of(row), row.rejections.count()) == ("rejected", 2)
    newer = edit_record(alias, row.pk, record(1), by="anna", reason="as in the source")
    deliver(context, clock)
    assert (state_of(row), state_of(newer)) == ("superseded", "delivered")


def test_a_row_of_an_earlier_version_is_sent(context, alias, sandbox, clock):
    (row,) = enqueue(alias, 1)
    rewrite(alias, row, checksum=None)
    deliver(context, clock)
    assert state_of(row) == "delivered"
