"""A batch whose connection was cut by a proxy after the POST keeps its key, whatever happens to its group."""

from __future__ import annotations

import contextlib
import dataclasses
from urllib.parse import urlsplit

import pytest
from django.db import transaction

from evermuse_outbox.delivery.gates import group_breaker
from evermuse_outbox.delivery.loop import relay
from evermuse_outbox.evermuse import parse_proxy
from evermuse_outbox.evermuse.api import Client
from evermuse_outbox.models import BatchState, OutboxAttempt, OutboxBatch, OutboxGroup, group_key
from evermuse_outbox.sandbox import Fault
from tests.delivery.helpers import deliver, posts, sent_keys, serve
from tests.http_proxy import HttpProxy
from tests.records import enqueue
from tests.tls import ca_file, tls_in_front_of


@pytest.fixture(params=["forwarded", "tunnel"])
def proxied(request, monkeypatch, context, clock):
    """A function that yields a context behind a proxy, the sandbox and the proxy. The first answer is cut off."""

    @contextlib.contextmanager
    def open_with(context, **options):
        cuts = []
        with serve(context, clock, **options) as (direct, sandbox), contextlib.ExitStack() as stack:
            url = urlsplit(sandbox.url)
            address, scheme = (url.hostname, url.port), "http"
            if request.param == "tunnel":
                monkeypatch.setenv("REQUESTS_CA_BUNDLE", ca_file())
                address, scheme = stack.enter_context(tls_in_front_of(address)), "https"

            def is_first_answer():
                return bool(posts(sandbox)) and not cuts and not cuts.append(True)

            host = f"192.0.2.1:{address[1]}"  # the sandbox answers only to addresses
            proxy = stack.enter_context(HttpProxy({host: address}, cut_if=is_first_answer))
            client = Client(f"{scheme}://{host}", lambda: "em_sk_sandbox", 10, parse_proxy(proxy.url))
            stack.callback(client.close)
            yield dataclasses.replace(direct, client=client), sandbox

    return open_with


@pytest.fixture
def small(outbox_settings, reopen, sandbox):
    """A context with batches of ten records."""
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_RECORDS=10)
    return reopen()


def test_a_batch_whose_connection_was_cut_is_sent_again_under_its_key(
    alias, small, clock, proxied, monkeypatch
):
    with proxied(small) as (context, sandbox):
        enqueue(alias, *range(10))
        permits, acquire = [], context.throttle.acquire
        monkeypatch.setattr(context.throttle, "acquire", lambda: permits.append(True) or acquire())
        relay(context, 1)
        assert len(permits) == len(posts(sandbox)) == 1  # none for the tunnel
        batch = OutboxBatch.objects.using(alias).get()
        assert (batch.state, batch.in_doubt) == (BatchState.IN_DOUBT, True)
        clock.move(context.settings.backoff_cap)
        deliver(context, clock)
        assert sent_keys(sandbox) == [str(batch.key)] * 2
        assert len(sandbox.batches()) == 1


def pause_group_of(context, batch):
    """Pause the group of a batch, as after many refusals of other batches."""
    row = OutboxGroup(
        scope=group_key(batch.workspace, batch.type, batch.product_id),
        workspace=batch.workspace,
        type=batch.type,
        product_id=batch.product_id,
        since=context.clock.now(),
        contract=batch.contract,
    )
    with transaction.atomic(using=context.using):
        OutboxGroup.objects.using(context.using).suspect(row)
        group_breaker._pause(context, row, "no such project", is_failure=False)


UNCLEAR_RESENDS = {
    "403 of a proxy": [Fault.proxy_page(403)] * 5,
    "502 of a proxy": [Fault.proxy_page(502)] * 5,
    "500": [Fault.server_error()] * 5,
    "403 of Evermuse": [Fault(status=403)] * 5,
}


@pytest.mark.parametrize("faults", UNCLEAR_RESENDS.values(), ids=UNCLEAR_RESENDS.keys())
def test_a_batch_whose_connection_was_cut_keeps_its_key_while_its_group_is_paused(
    alias, small, clock, proxied, faults
):
    with proxied(small) as (context, sandbox):
        enqueue(alias, *range(10))
        relay(context, 1)
        batch = OutboxBatch.objects.using(alias).get(state=BatchState.IN_DOUBT)
        pause_group_of(context, batch)
        for fault in faults:
            sandbox.fail_next(fault)
            clock.move(context.settings.backoff_cap)
            relay(context, 1)
            batch.refresh_from_db()
            assert batch.state == BatchState.IN_DOUBT
        clock.move(2 * context.settings.backoff_cap)
        deliver(context, clock)
        assert set(sent_keys(sandbox)) == {str(batch.key)}
        assert len(sandbox.batches()) == 1
        assert OutboxAttempt.objects.using(alias).filter(batch=batch, call="ingest").count() == 7
