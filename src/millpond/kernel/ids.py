"""Identifiers: UUIDs of version 7, so that ids made later sort later.

Source: RFC 9562, section 5.7.
"""

import secrets
import time
import uuid


def new_id() -> str:
    """A new UUIDv7 as 36 characters: 48 bits of milliseconds, then 74 random bits."""
    value = (time.time_ns() // 1_000_000) << 80
    value |= 0x7 << 76 | secrets.randbits(12) << 64
    value |= 0b10 << 62 | secrets.randbits(62)
    return str(uuid.UUID(int=value))
