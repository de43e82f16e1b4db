"""The POST of a batch: its parameters, and requests that get no answer."""

from __future__ import annotations

from evermuse_outbox.delivery.loop import relay, seal_next
from evermuse_outbox.delivery.sending import post
from evermuse_outbox.evermuse.api import Accepted
from evermuse_outbox.models import BatchState, OutboxAttempt
from evermuse_outbox.sandbox import Fault
from tests.delivery.helpers import batches, sent_keys
from tests.records import enqueue


def test_a_post_returns_the_outcome_and_the_attempt_and_changes_no_row(context, alias, sandbox, clock):
    enqueue(alias, 1)
    sealed = seal_next(context)
    outcome, attempt = post(context, sealed, "permit")
    (remote,) = sandbox.batches()
    assert outcome == Accepted(remote.id, 1, 0, 0, ())
    assert (attempt.call, attempt.started_at, attempt.outcome, attempt.status) == (
        "ingest",
        clock.now(),
        "accepted",
        202,
    )
    assert sent_keys(sandbox) == [sealed.batch.key]
    assert batches(alias)[0].state == BatchState.SENDING
    assert not OutboxAttempt.objects.using(alias).exists()


def test_the_format_hint_of_a_type_is_a_query_parameter(context, alias, sandbox, outbox_settings, reopen):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", FORMAT_HINTS={"call": "audio"})
    enqueue(alias, 1)
    enqueue(alias, 2, _type="call")
    relay(reopen(), 60)
    queries = {arrival.type: arrival.query for arrival in sandbox.arrivals}
    assert queries == {"message": [], "call": [("format", "audio")]}


def test_an_answer_after_the_timeout_leaves_the_batch_in_doubt(
    context, alias, sandbox, clock, outbox_settings, reopen
):
    outbox_settings(TIMEOUT=0.3, API_URL=sandbox.url, API_KEY="em_sk_sandbox")
    enqueue(alias, 1)
    sandbox.fail_next(Fault.slow(2.0))
    relay(reopen(), 1)
    assert batches(alias)[0].state == BatchState.IN_DOUBT


def test_a_refused_connection_leaves_no_batch_in_doubt(context, alias, sandbox, clock):
    enqueue(alias, 1)
    sandbox.stop()
    relay(context, 1)
    (batch,) = batches(alias)
    assert (batch.state, batch.in_doubt) == (BatchState.SEALED, False)
    attempt = OutboxAttempt.objects.using(alias).get()
    assert (attempt.status, attempt.outcome) == (None, "unavailable")
    assert "refused" in attempt.detail.lower()
