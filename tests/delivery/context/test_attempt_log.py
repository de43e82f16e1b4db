"""The attempt log: what is stored of an HTTP call, and what is not."""

from __future__ import annotations

from evermuse_outbox.delivery.loop import relay
from evermuse_outbox.models import OutboxAttempt
from evermuse_outbox.sandbox import Fault
from tests.records import enqueue


def test_neither_the_api_key_nor_the_end_of_a_long_answer_is_stored(context, alias, sandbox, clock):
    enqueue(alias, 1)
    sandbox.fail_next(Fault(status=500, body="x" * 100_000 + "em_sk_sandbox"))
    relay(context, 1)
    attempt = OutboxAttempt.objects.using(alias).get()
    assert len(attempt.detail) == 2_000
    assert "em_sk" not in attempt.detail
