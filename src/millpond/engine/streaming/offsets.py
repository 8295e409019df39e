"""Where in a table's log a stream is, in Delta's own form, so that others can read our checkpoints.

Source: Delta Lake, `DeltaSourceOffset` (source version 1).
"""

import json
from dataclasses import dataclass, field
from typing import Any

from millpond.engine.errors import ExecutionError

_SOURCE_VERSION = 1
BEFORE_ALL = -1
"""The index before a version's first file."""


@dataclass(frozen=True, order=True, kw_only=True)
class Offset:
    """All versions before `version` have been read, and of it the files up to number `index`."""

    version: int
    index: int = BEFORE_ALL
    snapshot: bool = field(default=False, compare=False)
    """Whether the files are those that the table had at that version, not only those that the version added."""

    def to_json(self, table_id: str) -> str:
        """As it is written; `table_id` is that of the table's log."""
        values = {
            "sourceVersion": _SOURCE_VERSION,
            "reservoirId": table_id,
            "reservoirVersion": self.version,
            "index": self.index,
            "isStartingVersion": self.snapshot,
        }
        return json.dumps(values, separators=(",", ":"))


def parse_offset(text: str, table_id: str) -> Offset:
    """The offset that was written for a table. Raises ExecutionError for text that is none, or another table's."""
    try:
        values: dict[str, Any] = json.loads(text)
        known, written_for = values["sourceVersion"], values["reservoirId"]
        found = Offset(
            version=int(values["reservoirVersion"]),
            index=int(values["index"]),
            snapshot=bool(values["isStartingVersion"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ExecutionError(
            "STREAMING_CHECKPOINT_UNREADABLE",
            f"The checkpoint holds no offset of a Delta table but {text[:200]!r}. Use another checkpointLocation.",
            sql_state="55019",
        ) from error
    if known != _SOURCE_VERSION or found.version < 0 or found.index < BEFORE_ALL:
        raise ExecutionError(
            "STREAMING_CHECKPOINT_UNREADABLE",
            f"The checkpoint's offset {text[:200]!r} is of a form that this server does not know.",
            sql_state="55019",
        )
    if written_for != table_id:
        raise ExecutionError(
            "DIFFERENT_DELTA_TABLE_READ_BY_STREAMING_SOURCE",
            f"The streaming query was reading from an unexpected Delta table (id = '{table_id}'). It used to read from "
            f"another Delta table (id = '{written_for}') according to checkpoint. This may happen when you changed the "
            "code to read from a new table or you deleted and re-created a table. Please revert your change or delete "
            "your streaming query checkpoint to restart from scratch.",
            sql_state="55019",
        )
    return found
