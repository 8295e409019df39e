"""Of which columns the engine writes statistics into a Delta table's log: see `catalog.column_statistics` for why.

delta-rs is slow to import, so it is when it is needed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from millpond.catalog import column_statistics
from millpond.catalog.column_statistics import Columns
from millpond.engine.authorship import Author
from millpond.engine.sessions import Session
from millpond.engine.write_requests import Write


def with_statistics(write: Write, fields: Sequence[Any]) -> Write:
    """A write that makes a table of these columns; the engine takes its options for properties."""
    given = {**write.properties, **write.options}
    made = Columns(fields, write.partitioned_by)
    found = column_statistics.chosen(given) or column_statistics.properties(made, given)
    return replace(write, options={**write.options, **found})


class Statistics:
    """Changes what tables say, as the user who changes their columns."""

    def __init__(self, storage_options: Mapping[str, str]) -> None:
        self._storage_options = storage_options

    def of_new_columns(self, session: Session, location: str, fields: Sequence[Any], partitions: Sequence[str]) -> None:
        """Call before a write that gives a table these columns."""
        from millpond.engine.delta.alter import follow_columns

        follow_columns(self._storage(location), Author.of(session.principal), Columns(fields, partitions))

    def before_merge(self, session: Session, location: str) -> Columns:
        """Call before a MERGE that may add columns; returns those that are there."""
        from millpond.engine.delta.alter import columns_of, list_columns

        storage = self._storage(location)
        list_columns(storage, Author.of(session.principal))
        return columns_of(storage)

    def after_merge(self, session: Session, location: str, before: Columns) -> None:
        """Call after it."""
        from millpond.engine.delta.alter import columns_of, follow_columns

        storage = self._storage(location)
        follow_columns(storage, Author.of(session.principal), columns_of(storage), before)

    def _storage(self, location: str) -> Any:
        from millpond.engine.delta.table import Storage

        return Storage(url=location, options=self._storage_options if location.startswith("s3") else {})
