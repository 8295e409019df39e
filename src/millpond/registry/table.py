"""`system.mlops.model_history`: every move of every model, as rows."""

from collections.abc import Sequence
from datetime import date
from typing import Any

import orjson

from millpond.kernel.database import Database
from millpond.registry import store
from millpond.registry.domain import Activity


class HistoryTable:
    """The history as a system table. Nothing is ever removed."""

    name = "system.mlops.model_history"
    comment = "Which version of a model was moved to which alias or stage, by whom, when, why and on what evidence."
    columns: Sequence[tuple[str, str, str]] = (
        ("event_time", "timestamp", "When it was moved."),
        ("event_date", "date", "The day of event_time (UTC)."),
        ("sequence", "bigint", "Counts moves in the order in which they happened."),
        ("model_name", "string", "The model's name then."),
        ("model_key", "string", "Stays the same when the model is renamed."),
        ("version", "int", "The version that was moved; null where an alias was removed."),
        ("target_kind", "string", "alias or stage."),
        ("target", "string", "The alias, or the stage to which it was moved; empty where the version was deleted."),
        ("previous", "string", "The stage before, or the version to which the alias pointed."),
        ("action", "string", "APPLIED_TRANSITION, SYSTEM_TRANSITION, ALIAS_SET or ALIAS_REMOVED."),
        ("moved_by", "string", "Who moved it."),
        ("requested_by", "array<string>", "Who had asked for it."),
        ("approved_by", "array<string>", "Who had approved it."),
        ("overridden", "boolean", "Whether an administrator moved it past a gate."),
        ("reason", "string", "What whoever moved it said."),
        ("evidence", "string", "What the gates found, as JSON."),
    )
    day_column = "event_date"

    def __init__(self, database: Database, *, workspace_id: int) -> None:
        self._database = database
        self._workspace_id = workspace_id

    @property
    def origin(self) -> str:
        """Positions are this workspace's."""
        return str(self._workspace_id)

    def catch_up(self) -> None:
        """Moves are in the database when they have happened."""

    def rows_after(self, position: int, limit: int) -> tuple[list[dict[str, Any]], int]:
        """Moves behind a place in the order of activities."""
        with self._database.read() as connection:
            moves = store.moves_after(connection, position, limit)
        return [self._row(key, move) for key, move in moves], moves[-1][1].sequence if moves else position

    def first_day(self) -> date | None:
        """None went."""
        return None

    def _row(self, key: str, move: Activity) -> dict[str, Any]:
        evidence = dict(move.evidence)
        return {
            "event_time": move.at,
            "event_date": move.at.date(),
            "sequence": move.sequence,
            "model_name": move.model,
            "model_key": key,
            "version": move.version,
            "target_kind": move.target_kind,
            "target": move.target,
            "previous": move.previous,
            "action": move.type.value,
            "moved_by": move.actor,
            "requested_by": evidence.pop("requested_by", []),
            "approved_by": evidence.pop("approved_by", []),
            "overridden": bool(evidence.get("overridden")),
            "reason": move.comment,
            "evidence": orjson.dumps(evidence).decode(),
        }
