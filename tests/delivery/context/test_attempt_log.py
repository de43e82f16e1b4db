"""The attempt log: what is stored of an HTTP call, and what is not."""

from __future__ import annotations

from evermuse_outbox.delivery.context import Attempt
from evermuse_outbox.delivery.loop import relay, seal_next
from evermuse_outbox.evermuse.api import Answer, Unavailable
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


def test_an_attempt_without_an_answer_stores_the_message_of_its_outcome(clock):
    attempt = Attempt.of("ingest", clock.now(), Unavailable("connection refused"), None)
    assert attempt == Attempt("ingest", clock.now(), "unavailable", detail="connection refused")


def test_bytes_that_a_database_refuses_are_replaced(clock):
    answer = Answer(200, b"a\0b\xff", 0.25)
    attempt = Attempt.of("batch", clock.now(), None, answer)
    assert (attempt.outcome, attempt.detail, attempt.seconds) == ("read", "a\ufffdb\ufffd", 0.25)


def test_an_attempt_is_recognised_after_it_was_saved(context, alias):
    enqueue(alias, 1)
    batch = seal_next(context).batch
    attempt = Attempt("ingest", context.clock.now(), "accepted", status=202)
    assert not attempt.is_saved(context, batch)
    attempt.save(context, batch)
    assert attempt.is_saved(context, batch)
    assert not Attempt("ingest", context.clock.after(1), "accepted").is_saved(context, batch)
