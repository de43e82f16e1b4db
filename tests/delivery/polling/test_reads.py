"""GET requests: what an answer means for the API key, on every database."""

from __future__ import annotations

from evermuse_outbox.delivery.loop import poll
from evermuse_outbox.models import OutboxAttempt, OutboxWorkspace, WorkspaceState
from evermuse_outbox.sandbox import Fault
from tests.delivery.polling.test_poll import accept_batches


def test_a_429_blocks_the_throttle(context, alias, sandbox, clock):
    accept_batches(context, alias, 1)
    sandbox.fail_next(Fault.too_many(retry_after=20, on="GET"))
    clock.move(10)
    poll(context, 0.1)
    assert context.throttle.blocked_for == 20


def test_a_403_does_not_pause_the_workspace(context, alias, sandbox, clock):
    sandbox.set_key("em_sk_sandbox", {"api:write"})
    accept_batches(context, alias, 1)
    clock.move(10)
    poll(context, 0.1)
    assert OutboxWorkspace.objects.using(alias).get(pk="default").state == WorkspaceState.ACTIVE
    assert OutboxAttempt.objects.using(alias).latest("pk").outcome == "key_refused"
