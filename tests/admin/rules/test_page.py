"""The list of standing rules shows which records each rule concerns."""

from __future__ import annotations

import pytest
from django.urls import reverse

from evermuse_outbox.operations import RuleDefinition, make_rule

pytestmark = pytest.mark.django_db(transaction=True)


def _listed(client) -> str:
    return client.get(reverse("admin:evermuse_outbox_outboxrule_changelist")).content.decode()


@pytest.mark.parametrize(
    ("rule", "conditions"),
    [
        (RuleDefinition("hold", type="email", product_id="prod-1"), "type email, product id prod-1"),
        (RuleDefinition("hold", label=("customer", "acme")), "label customer=acme"),
        (RuleDefinition("discard", vendor_id="user_id=ada-*"), "a pattern of vendor ids"),
        (RuleDefinition("hold"), "all records"),
    ],
)
def test_the_list_shows_the_conditions_but_no_pattern(admin_client, rule, conditions):
    make_rule("default", rule, reason="x", may_match_all=True)
    listed = _listed(admin_client)
    assert f">{conditions}</td>" in listed
    assert "ada" not in listed
    overview = admin_client.get(reverse("admin:evermuse_outbox_outboxoverview_changelist")).content.decode()
    assert conditions in overview
    assert "ada" not in overview


def test_the_form_has_links_to_the_list(admin_client):
    page = admin_client.get(reverse("admin:evermuse_outbox_outboxrule_make")).content.decode()
    assert f'<a href="{reverse("admin:evermuse_outbox_outboxrule_changelist")}">Standing rules</a>' in page
