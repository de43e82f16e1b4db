"""The stored line of a record, which may be encrypted: its column, and the data keys of the database.

Reading needs no code elsewhere: the column decrypts in every query. Without ENCRYPTION_KEYS, it is a ``TextField``
without a converter. Writing is explicit, because a ciphertext is bound to the identity of its record: see
:func:`encrypt_lines`. The package must not import the record.
"""

from .data_key import DataKeyQuerySet, OutboxDataKey
from .dropping import drop_lines
from .field import BoundPayload, PayloadField, PayloadHead
from .keyring import (
    CACHE_SECONDS,
    KEY_AGE,
    NewLine,
    current_key,
    encrypt_lines,
    forget_keys,
    scope_labels,
    stored_forms,
)
from .stored import StoredKey, destroyed_among, is_encrypted, is_under, key_ids_of
from .unreadable import Cause, PayloadsUnreadable, UnreadableLine, cause_of, raise_if_waiting

__all__ = [
    "CACHE_SECONDS",
    "KEY_AGE",
    "BoundPayload",
    "Cause",
    "DataKeyQuerySet",
    "NewLine",
    "OutboxDataKey",
    "PayloadField",
    "PayloadHead",
    "PayloadsUnreadable",
    "StoredKey",
    "UnreadableLine",
    "cause_of",
    "current_key",
    "destroyed_among",
    "drop_lines",
    "encrypt_lines",
    "forget_keys",
    "is_encrypted",
    "is_under",
    "key_ids_of",
    "raise_if_waiting",
    "scope_labels",
    "stored_forms",
]
