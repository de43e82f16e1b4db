"""``outbox_rule``: what it prints, makes and ends, and what it refuses."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from evermuse_outbox.management import REFUSED, USAGE
from evermuse_outbox.models import OutboxRule
from tests.records import enqueue


@pytest.fixture
def run(alias, outbox_settings):
    outbox_settings(DATABASES=[alias], WAKE_ON_COMMIT=False)

    def call(*arguments):
        out = StringIO()
        call_command("outbox_rule", *map(str, arguments), "--database", alias, stdout=out)
        return out.getvalue()

    return call


def test_a_preview_changes_nothing(run, alias):
    rows = enqueue(alias, 1, 2, 10)
    text = run("add", "--hold", "--vendor-id", "message_id=msg-1*", "--reason", "x", "--preview")
    assert f"2 of 3 pending records match, for example #{rows[0].pk}, #{rows[2].pk}." in text
    assert not OutboxRule.objects.using(alias).exists()


def test_a_rule_is_made_listed_shown_and_ended(run, alias):
    options = (
        "--hold",
        "--type",
        "email",
        "--label",
        "customer=acme",
        "--until",
        "2h",
        "--reason",
        "ticket 7",
    )
    text = run("add", *options, "--no-input")
    row = OutboxRule.objects.using(alias).get()
    assert f"Made rule #{row.pk} in {alias}" in text
    assert (row.type, row.label_name, row.label_value, row.reason) == (
        "email",
        "customer",
        "acme",
        "ticket 7",
    )
    assert 7_100 < (row.until - row.created_at).total_seconds() <= 7_200
    for text in (run("list"), run("show", row.pk)):
        assert f"rule #{row.pk} in {alias}: hold records with type email, label customer=acme." in text
        assert "Reason: ticket 7." in text
    text = run("end", row.pk, "--reason", "done")
    assert f"Ended rule #{row.pk}" in text
    with pytest.raises(CommandError, match="has ended already") as caught:
        run("end", row.pk)
    assert caught.value.returncode == REFUSED


def test_json(run, alias):
    enqueue(alias, 1)
    added = json.loads(
        run("add", "--discard", "--vendor-id", "msg-1", "--reason", "x", "--no-input", "--json")
    )
    (made,) = added["rules"]
    assert (made["preview"]["matched"], made["action"], made["state"]) == (1, "discard", "active")
    assert json.loads(run("list", "--json"))["rules"][0]["id"] == made["id"]
    shown = json.loads(run("show", made["id"], "--json"))
    assert (shown["vendor_id"], shown["reason"], shown["until"]) == ("msg-1", "x", None)
    assert json.loads(run("end", made["id"], "--json"))["state"] == "ending"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("add", "--type", "email", "--reason", "x"), "Choose --hold or --discard"),
        (("add", "--hold", "--reason", "x", "--no-input"), "The rule has no condition"),
        (("add", "--hold", "--type", "email", "--no-input"), "Give a reason"),
        (("add", "--hold", "--type", "email", "--reason", "x", "--json"), "--json needs"),
        (("add", "--hold", "--type", "email", "--until", "soon", "--reason", "x"), "no duration and no time"),
        (("show",), "Add the number of a rule"),
        (("end", "99"), "No rule 99"),
    ],
)
def test_wrong_options(run, alias, arguments, error):
    with pytest.raises(CommandError, match=error) as caught:
        run(*arguments)
    assert caught.value.returncode == USAGE
    assert not OutboxRule.objects.using(alias).exists()


def test_a_question_is_asked_and_no_changes_nothing(run, alias, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda _: "no")
    with pytest.raises(CommandError, match="Nothing was changed"):
        run("add", "--hold", "--type", "email", "--reason", "x")
    assert not OutboxRule.objects.using(alias).exists()
    assert "There are no rules." in run("list")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [(("--type", "email"), "--reason"), (("--reason", "x"), "or --all")],
)
def test_a_missing_option_is_named_before_the_question(run, alias, monkeypatch, arguments, error):
    monkeypatch.setattr("builtins.input", lambda _: pytest.fail("It asks although an option is missing."))
    with pytest.raises(CommandError, match=error):
        run("add", "--hold", *arguments)
