"""The order of a new table's columns, which Sail changes: it writes those that partition the table last.

INSERT counts by position, so a table whose columns stand in another order than its query's would take values into wrong
columns without a word. The order is put right in the log, in a commit of its own, before the write is acknowledged.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from millpond.engine.authorship import Author
from millpond.engine.delta.alter import change
from millpond.engine.delta.schema import SchemaPlan, TableState
from millpond.engine.delta.table import Storage


def keep_order(location: str, options: Mapping[str, str], author: Author, names: Sequence[str]) -> None:
    """Let the columns of the Delta table at a place stand in the order of `names`; nothing when they do."""
    wanted = {name.lower(): at for at, name in enumerate(names)}

    def plan(state: TableState) -> SchemaPlan | None:
        if {field["name"].lower() for field in state.fields} != set(wanted):
            return None  # somebody else has changed the table since
        ordered = tuple(sorted(state.fields, key=lambda field: wanted[field["name"].lower()]))
        if ordered == tuple(state.fields):
            return None
        return SchemaPlan(
            operation="CHANGE COLUMN",
            parameters={"columns": json.dumps(list(names), ensure_ascii=False)},
            state=replace(state, fields=ordered),
            shape=None,
            must_hold=None,
        )

    change(Storage(url=location, options=options), author, plan)
