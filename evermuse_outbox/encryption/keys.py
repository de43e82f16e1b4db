"""Master keys, and data keys that are wrapped by them.

A wrapped data key is base64 of a nonce, the encrypted key and a tag. It is bound to its scope, so that a key of one
scope cannot be put into the row of another one. The fingerprint of the master key is stored beside it.
"""

from __future__ import annotations

import os
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from hashlib import sha256
from typing import Any, NamedTuple

from ..conf import MasterKeysUnavailable, Secret, get_static_settings, key_bytes, read_present_keys
from ..foreign_text import HiddenBytes
from .lines import NONCE_BYTES, Altered

DATA_KEY_BYTES = 32

FINGERPRINT_DIGITS = 16
"""Hexadecimal digits by which a master key is found. They say nothing about the key, which is random."""


class MasterKeyMissing(Exception):
    """The settings do not have the master key of a data key now. The text says what to do, and shows no key."""


class WrappedKey(NamedTuple):
    """A data key as the database stores it: encrypted, with the fingerprint of its master key."""

    wrapped: str
    master: str


def is_on() -> bool:
    """Return whether the settings have master keys. This costs less than a microsecond."""
    return get_static_settings().encrypts


def make_data_key(scope: str) -> WrappedKey:
    """Return a new random data key for a scope, wrapped by the first master key.

    Raises:
        MasterKeyMissing: No master key can be read.
    """
    return _wrap(HiddenBytes(os.urandom(DATA_KEY_BYTES)), scope, _present_keys()[0])


def unwrap_data_key(stored: WrappedKey, scope: str) -> Any:
    """Return the cipher of a stored data key.

    Raises:
        MasterKeyMissing: No master key with its fingerprint can be read.
        Altered: The stored key was changed, or belongs to another scope.
    """
    return _aesgcm(_unwrap(stored, scope))


def rewrap(stored: WrappedKey, scope: str, master: str) -> WrappedKey:
    """Return a stored data key under the master key with a fingerprint; the same object if it is under it already.

    Raises:
        MasterKeyMissing: One of the two master keys cannot be read.
        Altered: The stored key was changed, or belongs to another scope.
    """
    if stored.master == master:
        return stored
    return _wrap(_unwrap(stored, scope), scope, _master_key(master))


def present_fingerprints() -> tuple[str, ...]:
    """Return the fingerprints of the master keys that can be read now; that of the first one encrypts.

    Raises:
        MasterKeyMissing: No master key can be read.
    """
    return tuple(_fingerprint(key) for key in _present_keys())


def _wrap(key: bytes, scope: str, master: Secret) -> WrappedKey:
    nonce = os.urandom(NONCE_BYTES)
    ciphertext = _aesgcm(key_bytes(master)).encrypt(nonce, key, _bound(scope))
    return WrappedKey(b2a_base64(nonce + ciphertext, newline=False).decode("ascii"), _fingerprint(master))


def _unwrap(stored: WrappedKey, scope: str) -> bytes:
    from cryptography.exceptions import InvalidTag

    master = _master_key(stored.master)
    try:
        sealed = a2b_base64(stored.wrapped.encode("ascii"), strict_mode=True)
        cipher = _aesgcm(key_bytes(master))
        return HiddenBytes(cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _bound(scope)))
    except (InvalidTag, Base64Error, ValueError):
        raise Altered from None


def _master_key(fingerprint: str) -> Secret:
    for key in _present_keys():
        if _fingerprint(key) == fingerprint:
            return key
    raise MasterKeyMissing(
        f"The settings do not have the master key {fingerprint}, which encrypts a data key. "
        "Add it to the end of ENCRYPTION_KEYS again."
    )


def _present_keys() -> tuple[Secret, ...]:
    try:
        return read_present_keys()
    except MasterKeysUnavailable as error:
        raise MasterKeyMissing(str(error)) from None


def _fingerprint(key: Secret) -> str:
    return sha256(b"evermuse_outbox master key\n" + key_bytes(key)).hexdigest()[:FINGERPRINT_DIGITS]


def _bound(scope: str) -> bytes:
    return f"evermuse_outbox data key\n{scope}".encode()


def _aesgcm(key: bytes) -> Any:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)
