"""Identifiers: UUIDs of version 7, so that ids made later sort later.

Source: RFC 9562, section 5.7.
"""

import os
import time


def new_id() -> str:
    """A new UUIDv7 as 36 characters: 48 bits of milliseconds, then 74 random bits."""
    chance = int.from_bytes(os.urandom(10))
    value = (time.time_ns() // 1_000_000) << 80
    value |= 0x7 << 76 | (chance >> 68) << 64
    value |= 0b10 << 62 | chance & (1 << 62) - 1
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
