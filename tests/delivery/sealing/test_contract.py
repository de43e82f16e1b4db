"""Pending records are brought into the contract of the workspace before they are sealed."""

from __future__ import annotations

import pytest

from evermuse_outbox.delivery.loop import relay
from evermuse_outbox.sandbox import Sandbox
from tests.delivery.helpers import state_of
from tests.records import enqueue


@pytest.mark.parametrize(("before", "after"), [("reference", "openapi"), ("openapi", "reference")])
def test_records_of_the_other_contract_are_translated_and_sent(
    context, alias, clock, outbox_settings, reopen, before, after
):
    with Sandbox(contract=after, rate_limit=100_000) as sandbox:
        keys = {"API_URL": sandbox.url, "API_KEY": "em_sk_sandbox"}
        outbox_settings(**keys, CONTRACT=before)
        nature = None if before == "reference" else "guidance"
        (row,) = enqueue(alias, 1, _nature=nature)
        outbox_settings(**keys, CONTRACT=after)
        relay(reopen(), 60)
        assert state_of(row) == "in_flight"
        (stored,) = sandbox.records()
        assert stored.record.get("_nature") == (nature or "evidence")
        assert sandbox.violations == []


def test_a_record_without_a_form_in_the_new_contract_is_rejected_with_the_reason(
    context, alias, sandbox, outbox_settings, reopen
):
    keys = {"API_URL": sandbox.url, "API_KEY": "em_sk_sandbox"}
    outbox_settings(**keys, CONTRACT="openapi")
    (with_two_projects,) = enqueue(alias, 1, _project_id=None, _project_ids=["a", "b"])
    (with_one_project,) = enqueue(alias, 2)
    outbox_settings(**keys, CONTRACT="reference")
    relay(reopen(), 60)
    assert (state_of(with_two_projects), state_of(with_one_project)) == ("rejected", "in_flight")
    assert "_project_ids" in with_two_projects.rejections.get().message
