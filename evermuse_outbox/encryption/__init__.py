"""Encrypt and decrypt stored lines: AES-256-GCM of the library ``cryptography``, with data keys under a master key.

A *master key* is in the settings and encrypts ("wraps") data keys only. A *data key* encrypts lines, and is stored in
the database in its wrapped form. So a new master key costs one small row for each data key, and the destruction of a
data key makes all of its lines unreadable.

This package must not use the database. ``cryptography`` is imported at the first use. Its interface is
:func:`is_on`, :class:`DataKey` with :func:`make_data_key`, :func:`unwrap_data_key` and :func:`rewrap`, and
:func:`key_id_of`.
"""

from .keys import (
    MasterKeyMissing,
    WrappedKey,
    is_on,
    make_data_key,
    present_fingerprints,
    rewrap,
    unwrap_data_key,
)
from .lines import PREFIX, Altered, DataKey, key_id_of

__all__ = [
    "PREFIX",
    "Altered",
    "DataKey",
    "MasterKeyMissing",
    "WrappedKey",
    "is_on",
    "key_id_of",
    "make_data_key",
    "present_fingerprints",
    "rewrap",
    "unwrap_data_key",
]
