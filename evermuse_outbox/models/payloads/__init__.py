"""The stored line of a record, which may be encrypted: its column, and the data keys of the database.

Reading needs no code elsewhere: the column decrypts in every query. Without ENCRYPTION_KEYS, it is a ``TextField``
without a converter. Writing is explicit, because a ciphertext is bound to the identity of its record: see
:func:`encrypt_line`. The package must not know a state of a record.
"""

from .data_key import DataKeyQuerySet, OutboxDataKey
from .dropping import drop_lines
from .field import BoundPayload, PayloadField, PayloadHead
from .keyring import (
    CACHE_SECONDS,
    KEY_AGE,
    current_key,
    encrypt_line,
    encrypt_lines,
    forget_keys,
    stored_forms,
)
from .unreadable import Cause, PayloadsUnreadable, UnreadableLine, cause_of, raise_if_waiting

__all__ = [
    "CACHE_SECONDS",
    "KEY_AGE",
    "BoundPayload",
    "Cause",
    "DataKeyQuerySet",
    "OutboxDataKey",
    "PayloadField",
    "PayloadHead",
    "PayloadsUnreadable",
    "UnreadableLine",
    "cause_of",
    "current_key",
    "drop_lines",
    "encrypt_line",
    "encrypt_lines",
    "forget_keys",
    "raise_if_waiting",
    "stored_forms",
]
