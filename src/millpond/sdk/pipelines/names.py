"""Names of datasets: short ones are the pipeline's, `LIVE.x` is x, and case does not matter."""

import re
from collections.abc import Sequence

from millpond.catalog.names import quote
from millpond.sdk.pipelines.domain import PipelineFailed

_PART = re.compile(r"`((?:[^`]|``)+)`|([^`.\s]+)")


def split(name: str) -> tuple[str, ...]:
    """The parts of a name as users write it, which may be quoted. Raises PipelineFailed."""
    parts, position, text = [], 0, name.strip()
    while True:
        found = _PART.match(text, position)
        if found is None:
            raise PipelineFailed(f"'{name}' is no name of a table: write name, schema.name or catalog.schema.name.")
        parts.append(found[1].replace("``", "`") if found[1] is not None else found[2])
        position = found.end()
        if position == len(text):
            return tuple(parts)
        if text[position] != ".":
            raise PipelineFailed(f"'{name}' is no name of a table: write name, schema.name or catalog.schema.name.")
        position += 1


def without_live(parts: Sequence[str]) -> tuple[str, ...]:
    """The parts without `LIVE`, which names the pipeline itself."""
    return tuple(parts[1:]) if len(parts) == 2 and parts[0].lower() == "live" else tuple(parts)


def full(name: str, catalog: str, schema: str) -> str:
    """The full name, in lower case, of what a name means in a pipeline. Raises PipelineFailed."""
    parts = without_live(split(name))
    if len(parts) > 3:
        raise PipelineFailed(f"'{name}' has more than three parts: write catalog.schema.name.")
    return ".".join((*(catalog, schema)[: 3 - len(parts)], *parts)).lower()


def quoted(name: str) -> str:
    """A full name, for SQL."""
    return ".".join(map(quote, name.split(".")))


def beside(name: str, what: str) -> str:
    """The name of a table of ours beside another."""
    home, _, short = name.rpartition(".")
    return f"{home}.__{what}_{short}"
