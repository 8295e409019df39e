"""Whether two plans ask the same, by comparing them after their names were resolved.

The engine has no such comparison. Like Spark's own, this one may call plans different that are not, never the reverse:
source: `Dataset.sameSemantics` and `semanticHash` in Spark's API documentation.
"""

import hashlib
from typing import Any


def semantic_hash(plan: Any) -> int:
    """A number that equal plans share: 32 bits, signed, as Spark Connect sends it."""
    return int.from_bytes(hashlib.sha256(_canonical(plan)).digest()[:4], signed=True)


def same_semantics(one: Any, other: Any) -> bool:
    """Whether two bound plans are equal but for the numbers that the client gave their nodes."""
    return _canonical(one) == _canonical(other)


def _canonical(plan: Any) -> bytes:
    copy = type(plan)()
    copy.CopyFrom(plan)
    _forget_numbers(copy)
    data: bytes = copy.SerializeToString(deterministic=True)
    return data


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
