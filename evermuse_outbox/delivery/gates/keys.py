"""Choose the API key of a request. With one key, nothing here sends a statement.

Evermuse counts its limit for each key. So a sender takes the key whose permit is free first, and then a batch for it:

* A new batch is bound to that key in its INSERT, before its first POST. So are its retries, as long as the key can be
  used: Evermuse does not publish whether an idempotency key is recognised across API keys.
* If its key is refused or no longer set, a batch that Evermuse surely does not have is sent with another key.
* A batch in doubt waits for its key for ``KEY_PATIENCE``. After that, it is looked for in the listing and, if it is not
  found, sent with another key; see ``delivery/polling/reconciliation.py``.

A 401, 403 or 429 blocks only its key: a *block* in the workspace's row, which ends by a probe as the circuit breaker
does. Only if every key is blocked, the workspace is paused.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

from django.db.models import Q

from ...models import BatchQuerySet, KeyBlock, OutboxBatch, OutboxWorkspace, move_block, sendable_with
from ...ratelimit import MAX_BLOCK
from ..context import DeliveryContext
from .permits import CROWDED
from .workspace_breaker import Circuit, CircuitState, pause_until_a_key_is_free

KEY_PATIENCE = timedelta(minutes=10)
"""How long a batch in doubt waits for its key. The processes of a rolling deployment have different keys meanwhile."""


def keys_to_try(context: DeliveryContext, circuit: Circuit) -> Iterator[DeliveryContext]:
    """Yield a context for each key that can be used now, first the one whose permit is free first.

    After that one, only keys are yielded for which not too many senders wait. With one key, yield ``context`` itself.
    If every key is blocked and none is probed, pause the workspace until the first block ends.
    """
    if not context.pool:
        yield context
        return
    usable = [key for key in context.pool if not _is_blocked(context, circuit.keys.blocks.get(key))]
    if not usable:
        blocks = [circuit.keys.blocks[key] for key in context.pool]
        if not any(block.is_probed for block in blocks):  # otherwise, the outcome of the probe decides
            context.run_with_retries(pause_until_a_key_is_free, context, blocks)
        return
    random.shuffle(usable)
    keyed = [context.with_key(key, others=_others(circuit, usable, key)) for key in usable]
    first = _freest(keyed)
    yield first
    yield from (each for each in keyed if each is not first and each.throttle.wait() <= CROWDED)


@contextmanager
def key_circuit(context: DeliveryContext, circuit: Circuit) -> Iterator[Circuit]:
    """Yield the circuit for one send with the key of ``context``: half-open if the send is the probe of the key."""
    key = context.key_fingerprint if context.pool else ""
    block = circuit.keys.blocks.get(key)
    if block is None:
        yield circuit
        return
    until = context.clock.after(context.settings.lease).timestamp()
    if not _move(context, key, block.until, until):
        yield Circuit(CircuitState.OPEN)
        return
    try:
        yield replace(circuit, state=CircuitState.HALF_OPEN)
    finally:
        _move(context, key, until, context.clock.now().timestamp())  # nothing changes after an outcome


def key_for_read(
    context: DeliveryContext, circuit: Circuit, api_key: str | None = None
) -> DeliveryContext | None:
    """Return the context for a read with ``api_key``, or with the freest key if that one is blocked or not set.

    Return None if every key is blocked.
    """
    if not context.pool:
        return context
    free = _free_keys(context, circuit)
    if api_key in free:
        return context.with_key(api_key)
    return _freest([context.with_key(key) for key in free]) if free else None


def keys_of_listings(context: DeliveryContext, circuit: Circuit) -> list[DeliveryContext]:
    """Return the contexts of the keys whose listings show the batches of all keys that can read now.

    It is one context if a listing shows the batches of all keys. It is none if every key is blocked.
    """
    if not context.pool or circuit.keys.lists_all:
        keyed = key_for_read(context, circuit)
        return [keyed] if keyed else []
    return [context.with_key(key) for key in _free_keys(context, circuit)]


def seconds_to_next_permit(context: DeliveryContext, blocked: Collection[str] = ()) -> float:
    """Return the seconds until the next free slot of any key, except those ``blocked`` if another is left."""
    if not context.pool:
        return context.throttle.wait()
    keys = [key for key in context.pool if key not in blocked] or list(context.pool)
    return _freest([context.with_key(key) for key in keys]).throttle.wait()


def usable_rate(context: DeliveryContext, blocked: Collection[str]) -> float:
    """Return the requests per second of all keys that are not ``blocked``; at least those of one key."""
    usable = sum(key not in blocked for key in context.pool)
    return context.workspace.rate_limit * max(usable, 1)


def only_of_key(context: DeliveryContext) -> dict[str, str]:
    """Return the filter for attempts with the key of ``context``; an empty one if the workspace has one key."""
    return {"api_key": context.key_fingerprint} if context.pool else {}


def sendable_now(context: DeliveryContext, batches: BatchQuerySet) -> BatchQuerySet:
    """Return those of ``batches`` that may be sent with the key of ``context``.

    A workspace with one key had another one before, or has a second one in the other processes of a rolling deployment.
    So its batches in doubt wait for their keys, too.
    """
    since = context.clock.now() - KEY_PATIENCE
    condition = sendable_with(context.key_fingerprint, context.other_keys, since)
    if not context.pool:
        condition |= Q(api_key=None)  # sent by an earlier version, which knew only one key
    return batches.filter(condition)


def has_other_key(context: DeliveryContext, batch: OutboxBatch) -> bool:
    """Return whether earlier attempts of the batch were made with another key than that of ``context``."""
    is_known = batch.api_key is not None or bool(context.pool)
    return is_known and batch.api_key != context.key_fingerprint


def _free_keys(context: DeliveryContext, circuit: Circuit) -> list[str]:
    """Return the keys without a block; if there is none, those whose block has ended."""
    blocks = circuit.keys.blocks
    free = [key for key in context.pool if key not in blocks]
    return free or [key for key in context.pool if not _is_blocked(context, blocks[key])]


def _others(circuit: Circuit, usable: list[str], key: str) -> frozenset[str]:
    return frozenset(other for other in usable if other != key and other not in circuit.keys.blocks)


def _freest(keyed: list[DeliveryContext]) -> DeliveryContext:
    """Return the context whose throttle has the shortest wait. A free one ends the search."""
    best, shortest = keyed[0], float("inf")
    for each in keyed:
        if (wait := each.throttle.wait()) < shortest:
            best, shortest = each, wait
        if wait <= 0:
            break
    return best


def _is_blocked(context: DeliveryContext, block: KeyBlock | None) -> bool:
    """Return whether a block is in force. One that ends too late comes from a clock that was set back."""
    now = context.clock.now().timestamp()
    return block is not None and now < block.until <= now + MAX_BLOCK + 1


def _move(context: DeliveryContext, key: str, former: float, until: float) -> bool:
    rows = OutboxWorkspace.objects.using(context.using)
    return context.run_with_retries(move_block, rows, context.workspace_name, key, former, until)
