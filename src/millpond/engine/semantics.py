"""Whether two plans ask the same, by comparing them after their names were resolved.

The engine has no such comparison. Like Spark's own, this one may call plans different that are not, never the reverse:
source: `Dataset.sameSemantics` and `semanticHash` in Spark's API documentation.
"""

import hashlib
import re
from typing import Any


def semantic_hash(plan: Any) -> int:
    """A number that equal plans share: 32 bits, signed, as Spark Connect sends it."""
    return int.from_bytes(hashlib.sha256(canonical(plan)).digest()[:4], signed=True)


def same_semantics(one: Any, other: Any) -> bool:
    """Whether two bound plans are equal but for the numbers that the client gave their nodes."""
    return canonical(one) == canonical(other)


_OWN_NAME = re.compile(rb"__millpond_\d+")
_SPOOL = re.compile(rb"([0-9a-f]{32})-[0-9a-f]{32}")


def canonical(plan: Any) -> bytes:
    """Equal for bound plans that ask the same: without what the gateway numbers anew each time."""
    copy = type(plan)()
    copy.CopyFrom(plan)
    _forget_numbers(copy)
    data: bytes = copy.SerializeToString(deterministic=True)
    numbers: dict[bytes, bytes] = {}
    data = _OWN_NAME.sub(lambda found: numbers.setdefault(found[0], b"#%d" % len(numbers)), data)
    return _SPOOL.sub(rb"\1", data)


def _forget_numbers(message: Any) -> None:
    """Plan ids and source positions say where a node came from, not what it asks."""
    for field, value in message.ListFields():
        if field.name in {"plan_id", "common"}:
            message.ClearField(field.name)
        elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for item in value if _repeated(field) else (value,):
                _forget_numbers(item)


def _repeated(field: Any) -> bool:
    return bool(field.is_repeated)
