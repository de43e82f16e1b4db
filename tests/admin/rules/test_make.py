"""The form that makes a standing rule, and the list of the records of a rule."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from evermuse_outbox.admin.lists import rules as rule_filter
from evermuse_outbox.models import (
    OutboxAction,
    OutboxDeferral,
    OutboxRule,
    OutboxRuleMatch,
    OutboxWorkspace,
)
from evermuse_outbox.operations import RuleDefinition, make_rule
from tests.admin import rows
from tests.admin.client import listed_ids, messages_of, page_text, url

pytestmark = pytest.mark.django_db

HOLD = {"action": "hold", "type": "message", "product_id": "prod", "until": "2h"}
MAKE = {"make": "1", "reason": "wrong import"}


@pytest.fixture
def manager(person: Callable[..., Client]) -> Client:
    return person("view_outboxrule", "view_outboxrecord", "manage_outboxrule", "view_payload_outboxrecord")


@pytest.fixture
def page() -> str:
    return url("rule", "make")


def test_a_preview_shows_what_matches_and_changes_nothing(manager: Client, page: str) -> None:
    row = rows.record()
    rows.record(product_id="other")
    assert f'href="{page}"' in page_text(manager, url("rule", "changelist"))
    text = manager.post(page, HOLD | {"type": ""}).content.decode()
    assert "1 of 2 pending records match." in text
    assert f">#{row.pk}</a>" in text
    assert ">Make the rule</button>" in text
    assert "shall concern every record" not in text
    assert not OutboxRule.objects.exists()


def test_a_confirmed_rule_is_made_with_the_person_and_the_reason(manager: Client, page: str) -> None:
    label = {"label": "customer=acme", "vendor_id": "ticket=T-*"}
    done = manager.post(page, HOLD | label | MAKE)
    row = OutboxRule.objects.get()
    assert done["Location"] == url("rule", "change", row.pk)
    assert "Reason: wrong import." in messages_of(done)
    person = User.objects.get().username
    assert (row.action, row.type, row.product_id, row.by, row.reason) == (
        "hold", "message", "prod", person, "wrong import",
    )  # fmt: skip
    assert (row.label_name, row.label_value, row.vendor_id) == ("customer", "acme", "ticket=T-*")
    assert row.until is not None
    assert 7_100 < (row.until - row.created_at).total_seconds() <= 7_200
    action = OutboxAction.objects.get()
    assert (action.kind, action.by, action.reason) == ("make_rule", person, "wrong import")


def test_a_rule_without_a_condition_needs_the_confirmation(manager: Client, page: str) -> None:
    assert 'name="may_match_all"' in manager.post(page, {"action": "discard"}).content.decode()
    refused = manager.post(page, {"action": "discard"} | MAKE)
    assert list(refused.context["confirmation"].errors) == ["may_match_all"]
    assert not OutboxRule.objects.exists()
    manager.post(page, {"action": "discard", "may_match_all": "on"} | MAKE)
    assert OutboxRule.objects.get().action == "discard"


def test_a_rule_needs_a_reason(manager: Client, page: str) -> None:
    refused = manager.post(page, HOLD | MAKE | {"reason": " "})
    assert list(refused.context["confirmation"].errors) == ["reason"]
    assert "errorlist" in refused.content.decode()
    assert not OutboxRule.objects.exists()


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("action", "keep", "keep is not one of the available choices"),
        ("workspace", "moon", "moon is not one of the available choices"),
        ("type", "e-mail", "e-mail is not one of the available choices"),
        ("product_id", "x" * 129, "at most 128 characters"),
        ("label", "customer", "needs a name and a value"),
        ("label", "x" * 65 + "=1", "at most 64 characters"),
        ("vendor_id", "x" * 401, "at most 400 characters"),
        ("until", "soon", "Enter a duration"),
        ("until", "2001-01-01", "must be in the future"),
        ("until", "2026-02-31", "Enter a duration"),
        ("until", "9999999999999d", "Enter a duration"),
    ],
)
def test_an_error_is_shown_at_its_field(
    manager: Client, page: str, field: str, value: str, error: str
) -> None:
    for confirmed in ({}, MAKE):
        refused = manager.post(page, HOLD | confirmed | {field: value})
        assert list(refused.context["form"].errors) == [field]
        assert error in refused.context["form"].errors[field][0]
        assert ">Make the rule</button>" not in refused.content.decode()
    assert not OutboxRule.objects.exists()


def test_the_form_needs_its_permission(person: Callable[..., Client], page: str) -> None:
    client = person("view_outboxrule", "view_payload_outboxrecord")
    assert page not in page_text(client, url("rule", "changelist"))
    assert client.get(page).status_code == client.post(page, HOLD | MAKE).status_code == 403
    assert not OutboxRule.objects.exists()


def test_a_pattern_needs_the_permission_to_view_payloads(person: Callable[..., Client], page: str) -> None:
    """The number of matches would tell what is in the payloads."""
    client = person("view_outboxrule", "manage_outboxrule")
    assert 'name="vendor_id"' not in page_text(client, page)
    assert client.post(page, HOLD | {"vendor_id": "T-*"}).status_code == 403
    assert client.post(page, HOLD | MAKE | {"vendor_id": "T-*"}).status_code == 403
    assert not OutboxRule.objects.exists()
    client.post(page, HOLD | MAKE)
    assert OutboxRule.objects.exists()


@pytest.mark.urls("tests.admin.one_workspace")
def test_staff_of_one_workspace_make_rules_only_for_it(admin_client: Client, page: str) -> None:
    OutboxWorkspace.objects.create(name="default")
    OutboxWorkspace.objects.create(name="north")
    rows.record(workspace="north")
    for name in ("north", ""):
        refused = admin_client.post(page, HOLD | MAKE | {"workspace": name})
        assert list(refused.context["form"].errors) == ["workspace"]
    assert not OutboxRule.objects.exists()
    preview = admin_client.post(page, HOLD | {"workspace": "default"}).content.decode()
    assert "0 of 0 pending records match." in preview
    assert "north" not in preview
    admin_client.post(page, HOLD | MAKE | {"workspace": "default"})
    assert OutboxRule.objects.get().workspace == "default"


# --- the records of a rule --------------------------------------------------------------------------------


def test_a_rule_links_to_its_records(manager: Client, monkeypatch) -> None:
    made = [
        make_rule("default", RuleDefinition(action, type="message"), reason="x").row
        for action in ("hold", "discard")
    ]
    held, discarded = rows.record(closed_as="held"), [rows.record(closed_as="discarded") for _ in range(3)]
    rows.record()
    OutboxDeferral.objects.create(
        record_id=held.pk, workspace="default", due_at=timezone.now(), rule_id=made[0].pk
    )
    OutboxRuleMatch.objects.using("default").note(made[1].pk, [row.pk for row in discarded])
    for row, label in zip(made, ("Held records", "Discarded records"), strict=True):
        link = f"{url('record', 'changelist')}?rule={row.pk}"
        assert f'href="{link}">{label}</a>' in page_text(manager, url("rule", "change", row.pk))
    assert listed_ids(manager, rule=made[0].pk) == {held.pk}
    assert listed_ids(manager, rule=made[1].pk) == {row.pk for row in discarded}
    assert listed_ids(manager, rule="x") == set()
    monkeypatch.setattr(rule_filter, "MAX_RECORDS", 2)
    assert listed_ids(manager, rule=made[1].pk) == {row.pk for row in discarded[1:]}


def test_a_user_without_the_list_of_records_gets_no_link(person: Callable[..., Client]) -> None:
    row = make_rule("default", RuleDefinition("hold", type="message"), reason="x").row
    text = page_text(person("view_outboxrule"), url("rule", "change", row.pk))
    assert "Held records</a>" not in text
