"""Keys during delivery: a rotated one takes effect without a restart, and one that may not be used sends nothing."""

from __future__ import annotations

import dataclasses

import pytest

from evermuse_outbox.delivery.context import open_context
from evermuse_outbox.delivery.loop import relay
from evermuse_outbox.evermuse import Unreachable
from evermuse_outbox.insight.explaining import explain_workspace
from evermuse_outbox.models import OutboxRecord, OutboxWorkspace
from tests.records import enqueue

FIRST, SECOND = "em_sk_first_of_two_keys", "em_sk_second_of_two_keys"


@pytest.fixture
def run(context, alias, clock):
    """A function that delivers with the settings of now, after all pauses are over."""

    def deliver():
        clock.move(61)
        opened = open_context(alias, "default")
        relay(dataclasses.replace(opened, clock=context.clock), 15)
        return opened

    return deliver


def states(alias):
    return sorted(OutboxRecord.objects.using(alias).values_list("batch__state", flat=True))


def explanation(alias):
    return explain_workspace(OutboxWorkspace.objects.using(alias).get(pk="default"))


def test_a_key_that_is_replaced_in_its_file_is_used_by_the_next_run(
    run, alias, sandbox, outbox_settings, tmp_path
):
    path = tmp_path / "key"
    path.write_text(f"{FIRST}\n")
    sandbox.set_key(FIRST, {"api:write", "api:read"})
    outbox_settings(API_URL=sandbox.url, API_KEY=None, API_KEY_FILE=str(path))
    enqueue(alias, 1)
    before = run()
    sandbox.remove_key(FIRST)
    sandbox.set_key(SECOND, {"api:write", "api:read"})
    path.write_text(f"{SECOND}\n")
    enqueue(alias, 2)
    after = run()
    assert states(alias) == ["accepted", "accepted"]
    assert [arrival.key for arrival in sandbox.arrivals if arrival.method == "POST"] == [FIRST, SECOND]
    # Each request counts for the rate limit of the key that it carries.
    assert before.throttle._scope != after.throttle._scope


def test_a_function_is_called_at_once_after_a_401(run, alias, sandbox, outbox_settings):
    keys = [FIRST]
    sandbox.set_key(SECOND, {"api:write", "api:read"})
    outbox_settings(API_URL=sandbox.url, API_KEY=lambda: keys[-1])
    enqueue(alias, 1)
    run()
    keys.append(SECOND)
    run()
    assert states(alias) == ["accepted"]
    assert {arrival.status for arrival in sandbox.arrivals if arrival.key == FIRST} == {401}


def test_without_its_file_the_workspace_waits_and_goes_on_by_itself(
    run, alias, sandbox, outbox_settings, tmp_path
):
    path = tmp_path / "key"
    outbox_settings(API_URL=sandbox.url, API_KEY=None, API_KEY_FILE=str(path))
    enqueue(alias, 1)
    run()
    assert "cannot be read: No such file" in explanation(alias)
    assert str(path) in explanation(alias)
    assert sandbox.arrivals == []
    path.write_text("em_sk_sandbox\n")
    run()
    assert states(alias) == ["accepted"]
    assert explanation(alias) == "Active."


def test_nothing_is_sent_to_production_by_accident_and_the_reason_is_shown(
    run, alias, sandbox, outbox_settings
):
    outbox_settings(API_KEY="em_sk_sandbox", API_URL="https://api.evermuse.com")
    enqueue(alias, 1)
    context = run()
    assert "API_KEY is the key of the sandbox" in explanation(alias)
    assert "Set API_URL to the address of the sandbox" in explanation(alias)
    assert states(alias) == [None]
    # Whatever uses the client, no request leaves the process.
    with pytest.raises(Unreachable, match="key of the sandbox"):
        context.client.batches(limit=1)
    outbox_settings(API_KEY="em_sk_sandbox", API_URL=sandbox.url)
    run()
    assert states(alias) == ["accepted"]
