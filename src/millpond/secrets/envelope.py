"""Encryption: AES-256-GCM with a random nonce, bound to where the ciphertext belongs.

A *master key* wraps the *data key* of each scope, a data key seals the values of its scope. The context (which scope,
which key, which version) is authenticated: a ciphertext moved to another row, or an old one put in a new one's place,
does not open. Random nonces of 96 bits are safe for 2^32 messages under one key.

Source: NIST SP 800-38D, section 8.3.
"""

import hashlib
import json
import os
import re

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_KEY_BYTES = 32
_NONCE_BYTES = 12


class Unreadable(Exception):
    """A ciphertext does not open: it was altered, or belongs to another key or place."""


class Key:
    """A key of 256 bits; its text and its bytes appear in no representation of it."""

    def __init__(self, raw: bytes) -> None:
        if len(raw) != _KEY_BYTES:
            raise ValueError("a key has 32 bytes")
        self._raw = raw
        self.id = hashlib.sha256(b"millpond key id\0" + raw).hexdigest()[:16]
        """Names the key without telling it."""

    @classmethod
    def new(cls) -> "Key":
        """A random key."""
        return cls(os.urandom(_KEY_BYTES))

    @classmethod
    def parse(cls, text: str) -> "Key":
        """The key that 64 hexadecimal digits write. Raises ValueError."""
        if not re.fullmatch(r"[0-9a-fA-F]{64}", text.strip()):
            raise ValueError("a key is written as 64 hexadecimal digits")
        return cls(bytes.fromhex(text.strip()))

    @property
    def text(self) -> str:
        """What `parse` reads."""
        return self._raw.hex()

    def seal(self, plaintext: bytes, *context: str | int) -> bytes:
        """Nonce, ciphertext and tag."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + AESGCM(self._raw).encrypt(nonce, plaintext, _bound(context))

    def open(self, sealed: bytes, *context: str | int) -> bytes:
        """What was sealed in the same context. Raises Unreadable."""
        try:
            return AESGCM(self._raw).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _bound(context))
        except (InvalidTag, ValueError) as error:
            raise Unreadable from error

    def wrap(self, other: "Key", *context: str | int) -> bytes:
        """Another key, sealed."""
        return self.seal(other._raw, *context)

    def unwrap(self, sealed: bytes, *context: str | int) -> "Key":
        """The key that was wrapped in the same context. Raises Unreadable."""
        return Key(self.open(sealed, *context))


def _bound(context: tuple[str | int, ...]) -> bytes:
    return json.dumps(["millpond secrets", *context]).encode()
