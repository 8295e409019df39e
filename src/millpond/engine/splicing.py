"""Putting names into a statement's text in the place of others."""

from itertools import count
from typing import Any

from millpond.engine.queries import Query

plan_ids = count(1 << 40)
"""Ids of relations that the gateway makes; clients count theirs from 0."""


def free_name(wanted: str, taken: set[str]) -> str:
    """A name of its own for a reference: the table's, which then needs no alias, if it is free."""
    name = wanted if wanted.lower() not in taken else f"__millpond_{next(plan_ids)}"
    taken.add(name.lower())
    return name


def column_edits(query: Query) -> list[tuple[int, int, str]]:
    """Take catalog and schema off columns qualified by a table's full name: the engine knows only its last part."""
    full = {
        tuple(part.lower() for part in site.parts) for site in query.tables if not site.aliased and len(site.parts) > 1
    }
    edits = []
    for column in query.columns:
        qualifiers = tuple(part.lower() for part in column.qualifiers)
        if any(parts[-len(qualifiers) :] == qualifiers for parts in full):
            edits.append((column.start, column.table_start, ""))
    return edits


def spliced(text: str, edits: list[tuple[int, int, str]]) -> str:
    if not edits:
        return text
    pieces = []
    at = 0
    for start, end, replacement in sorted(edits):
        pieces += [text[at:start], replacement]
        at = end
    return "".join([*pieces, text[at:]])


def reference_names(references: Any) -> frozenset[str]:
    """The names by which a text may ask for the relations that a plan brings along."""
    return frozenset(
        reference.subquery_alias.alias.lower()
        for reference in references
        if reference.WhichOneof("rel_type") == "subquery_alias"
    )
