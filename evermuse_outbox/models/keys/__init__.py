"""Single API keys of a workspace that has several: which are blocked, and which batches each may send.

This package must not know a key, only its fingerprint. Its interface is ``KeyPool`` with ``KeyBlock``, the functions
that change a block, and ``sendable_with``.
"""

from .key_pool import (
    KeyBlock,
    KeyPool,
    block_key,
    move_block,
    remember_full_listing,
    sendable_with,
    unblock_key,
    unblock_keys,
)

__all__ = [
    "KeyBlock",
    "KeyPool",
    "block_key",
    "move_block",
    "remember_full_listing",
    "sendable_with",
    "unblock_key",
    "unblock_keys",
]
