"""The blocks of single API keys, for a workspace that has several: the column ``key_pool`` of its row.

A workspace with one key never has a value here. Keys appear by their fingerprints only. Each change is one short
transaction under the row lock of the workspace, and tests that the block is still as the caller has read it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple

from django.db import transaction
from django.db.models import Q


class KeyBlock(NamedTuple):
    """Why a key is not used, and until when, in seconds since the epoch. After that, one send is a probe.

    With ``is_probed``, a probe was claimed. Then ``until`` is the end of the claim, and no longer that of a
    ``retryAfter``.
    """

    kind: Literal["refused", "throttled"]
    until: float
    since: float
    reason: str
    is_probed: bool = False

    @property
    def is_retry_after(self) -> bool:
        """Whether ``until`` is the end of a ``retryAfter``: no request may be sent before."""
        return self.kind == "throttled" and not self.is_probed


@dataclass(frozen=True, slots=True)
class KeyPool:
    """What is known of the keys of a workspace.

    Attributes:
        blocks: Fingerprint → block of the key.
        lists_all: Whether a listing with one key has shown a batch that another key has sent.
    """

    blocks: Mapping[str, KeyBlock] = field(default_factory=dict)
    lists_all: bool = False

    @classmethod
    def of(cls, row: Any) -> KeyPool:
        """Read the column ``key_pool`` of a row."""
        return cls.parse(row.key_pool)

    @classmethod
    def parse(cls, stored: Any) -> KeyPool:
        """Read a value of the column. One that is not readable counts as none: each key is tried again."""
        stored = stored or {}
        try:
            blocks = {key: KeyBlock(**block) for key, block in stored.get("blocks", {}).items()}
            return cls(blocks, bool(stored.get("lists_all")))
        except (AttributeError, TypeError):
            return cls()


def block_key(rows: Any, workspace: str, fingerprint: str, block: KeyBlock) -> bool:
    """Block a key. Return False if a ``retryAfter`` of it ends later, which is kept. ``since`` of a refusal is kept."""

    def change(blocks: dict[str, KeyBlock]) -> bool:
        former = blocks.get(fingerprint)
        if former and former.is_retry_after and former.until > block.until:
            return False
        is_same = former is not None and former.kind == block.kind
        blocks[fingerprint] = block._replace(since=former.since if former and is_same else block.since)
        return True

    return _change(rows, workspace, change)


def move_block(rows: Any, workspace: str, fingerprint: str, former: float, until: float) -> bool:
    """Move the end of a block, to claim or to end a probe. Return False if it no longer ends at ``former``."""

    def change(blocks: dict[str, KeyBlock]) -> bool:
        block = blocks.get(fingerprint)
        if block is None or block.until != former:
            return False
        blocks[fingerprint] = block._replace(until=until, is_probed=True)
        return True

    return _change(rows, workspace, change)


def unblock_key(rows: Any, workspace: str, fingerprint: str, now: float) -> bool:
    """End the block of a key, unless it is a ``retryAfter`` that is not over. Return whether there was one to end."""

    def change(blocks: dict[str, KeyBlock]) -> bool:
        block = blocks.get(fingerprint)
        if block is None or (block.is_retry_after and block.until > now):
            return False
        del blocks[fingerprint]
        return True

    return _change(rows, workspace, change)


def unblock_keys(rows: Any, workspace: str, *, force: bool) -> bool:
    """End the blocks of refused keys, because a person decides it; with ``force``, each ``retryAfter``, too.

    Return whether there was one to end.
    """

    def change(blocks: dict[str, KeyBlock]) -> bool:
        ended = [key for key, block in blocks.items() if force or block.kind == "refused"]
        for key in ended:
            del blocks[key]
        return bool(ended)

    return _change(rows, workspace, change)


def remember_full_listing(rows: Any, workspace: str) -> None:
    """Store that the listing shows the batches of all keys, so one read serves all of them."""
    _change(rows, workspace, lambda _: True, lists_all=True)


def sendable_with(api_key: str, others: Collection[str], since: datetime) -> Q:
    """Return the condition of batches that may be sent with a key.

    A batch belongs to the key that it is bound to, as long as that key can be used. After that, it may be sent with any
    key, and a batch in doubt only if it has waited long enough for its key.

    Args:
        api_key: the fingerprint of the key.
        others: the fingerprints of the other keys that can be used now.
        since: a batch in doubt that became due before no longer waits for its key.
    """
    has_waited = Q(in_doubt=False) | Q(api_key=api_key) | Q(due_at__lte=since)
    return ~Q(api_key__in=list(others)) & has_waited


def _change(
    rows: Any, workspace: str, change: Callable[[dict[str, KeyBlock]], bool], *, lists_all: bool = False
) -> bool:
    with transaction.atomic(using=rows.db):
        pool = KeyPool.of(rows.lock_for_sealing(workspace))
        blocks = dict(pool.blocks)
        if not change(blocks):
            return False
        stored = {key: block._asdict() for key, block in blocks.items()}
        value = {"blocks": stored, "lists_all": pool.lists_all or lists_all}
        rows.filter(pk=workspace).update(key_pool=value)
    return True
