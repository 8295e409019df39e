"""`${...}` in a bundle's texts."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from millpond.kernel.errors import InvalidArgument

_REFERENCE = re.compile(r"\$\{([^${}]+)\}")
_MOST_STEPS = 10
"""References that lead to texts with references."""


class Unknown:
    """Stands for what is known once something was made."""

    def __repr__(self) -> str:
        return "(known after deployment)"


UNKNOWN = Unknown()
Look = Callable[[str], Any]


def resolved(value: Any, look: Look, steps: int = _MOST_STEPS) -> Any:
    """A tree with its references replaced; a text that is one reference alone becomes what that is, of any type.

    Where `look` says UNKNOWN, so is the text around it.
    """
    if isinstance(value, Mapping):
        return {key: resolved(item, look, steps) for key, item in value.items()}
    if isinstance(value, list):
        return [resolved(item, look, steps) for item in value]
    if not isinstance(value, str) or not _REFERENCE.search(value):
        return value
    if not steps:
        raise InvalidArgument(f"References lead in a circle: {value[:120]}")
    if whole := _REFERENCE.fullmatch(value):
        return resolved(look(whole[1].strip()), look, steps - 1)
    parts = {found[1]: look(found[1].strip()) for found in _REFERENCE.finditer(value)}
    if UNKNOWN in parts.values():
        return UNKNOWN
    return resolved(_REFERENCE.sub(lambda found: str(parts[found[1]]), value), look, steps - 1)


def references(value: Any) -> Iterator[str]:
    """All that a tree refers to."""
    if isinstance(value, Mapping):
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)
    elif isinstance(value, str):
        yield from (found[1].strip() for found in _REFERENCE.finditer(value))


def has_unknown(value: Any) -> bool:
    """Whether something in a tree is not known yet."""
    if isinstance(value, Mapping):
        return any(map(has_unknown, value.values()))
    return any(map(has_unknown, value)) if isinstance(value, list) else value is UNKNOWN
