"""The stored form of an encrypted line, and the data key that encrypts it. No Django.

``e1:17:<base64>`` is version 1, encrypted with data key 17. The base64 holds a nonce of 12 bytes, the ciphertext, and
a tag of 16 bytes. AES-GCM was chosen over Fernet: a token of Fernet binds no associated data, is larger by two more
encodings, and takes several times as long.

The associated data are the version, the id of the data key, and the identity of the record. So a ciphertext does
not decrypt in the row of another record.
"""

from __future__ import annotations

import os
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from typing import Any

from ..foreign_text import HiddenBytes, HiddenText

PREFIX = "e1:"
"""Beginning of an encrypted line. A line of plain text begins with ``{``."""

NONCE_BYTES = 12

MAX_ID_DIGITS = 19


class Altered(Exception):
    """A ciphertext is not what was stored for this record under this key."""


class DataKey:
    """A data key with its id. It shows nothing of the key in its ``repr``."""

    __slots__ = ("_cipher", "_prefix", "pk")

    def __init__(self, pk: int, cipher: Any) -> None:
        self.pk = pk
        self._cipher = cipher
        self._prefix = f"{PREFIX}{pk}:"

    def __repr__(self) -> str:
        return f"DataKey(pk={self.pk})"

    def encrypt(self, line: str, identity: str) -> str:
        """Return the stored form of a line. ``identity`` is that of its record, as 32 hexadecimal digits."""
        # A random nonce is safe for 2**32.5 lines; `KEY_AGE` keeps a data key below.
        nonce = os.urandom(NONCE_BYTES)
        ciphertext = self._cipher.encrypt(nonce, HiddenBytes(line.encode()), self._bound(identity))
        return self._prefix + b2a_base64(nonce + ciphertext, newline=False).decode("ascii")

    def decrypt(self, stored: str, identity: str) -> HiddenText:
        """Return the line of a stored form.

        Raises:
            Altered: The stored form was changed, or belongs to another record or key.
        """
        from cryptography.exceptions import InvalidTag

        try:
            sealed = a2b_base64(stored[len(self._prefix) :].encode("ascii"), strict_mode=True)
            line = self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], self._bound(identity))
            return HiddenText(line, "utf-8")
        except (InvalidTag, Base64Error, ValueError):
            raise Altered from None

    def _bound(self, identity: str) -> bytes:
        return f"{self._prefix}{identity}".encode()


def key_id_of(stored: str) -> int | None:
    """Return the id of the data key of a stored form; None if it is plain text or no such form."""
    if not stored.startswith(PREFIX):
        return None
    digits = stored[len(PREFIX) : len(PREFIX) + MAX_ID_DIGITS + 1].partition(":")[0]
    return int(digits) if digits.isascii() and digits.isdecimal() and len(digits) <= MAX_ID_DIGITS else None
