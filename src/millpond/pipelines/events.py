"""Events: those that the server writes itself, and those that processes of updates tell, within bounds."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from millpond.kernel.clock import utc_now
from millpond.kernel.errors import InvalidArgument
from millpond.kernel.ids import new_id
from millpond.kernel.storable import storable
from millpond.pipelines.domain import TOLD_BY_CODE, Level, Pipeline, Update, UpdateState, inner

PROGRESS, CREATED, ACT = "update_progress", "create_update", "user_action"
FLOW = "flow_progress"
MOST_AT_ONCE = 500
MOST_OF_UPDATE = 20_000
"""What comes after so many is left out, which one event says."""
LARGEST_BYTES = 64 << 10
_LONGEST_MESSAGE = 8000
_LONGEST_TYPE = 60
_BODY = ("details", "error")
_LEFT_OUT = f"This update has told {MOST_OF_UPDATE:,} events; further ones are left out."
_MATURITY = ("STABLE", "EVOLVING", "DEPRECATED")


def made(
    pipeline: Pipeline, event_type: str, message: str, details: Mapping[str, Any], *, update_id: str | None = None,
    level: Level = Level.INFO, error: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """An event of the server's own."""
    body = {"origin": _origin(pipeline, update_id), "details": {event_type: dict(details)}, "maturity_level": "STABLE"}
    return {
        "id": new_id(), "update_id": update_id, "at": utc_now(), "level": level.value, "event_type": event_type,
        "message": message[:_LONGEST_MESSAGE], "body": body | ({"error": dict(error)} if error else {}),
    }  # fmt: skip


def acted(pipeline: Pipeline, action: str, who: str, update_id: str | None = None) -> dict[str, Any]:
    """Somebody did something with a pipeline: CREATE, EDIT, START or STOP."""
    words = {"CREATE": "created", "EDIT": "edited", "START": "started", "STOP": "stopped"}[action]
    details = {"action": action, "user_name": who}
    return made(pipeline, ACT, f"{who} {words} the pipeline.", details, update_id=update_id)


def progressed(
    pipeline: Pipeline, update: Update, state: UpdateState, message: str = "", error: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """An update has come to a state."""
    level = Level.ERROR if state is UpdateState.FAILED else Level.INFO
    told = f"Update {update.id[-6:]} is {state.value}." + (f" {message}" if message else "")
    if state is UpdateState.FAILED and not error:
        error = {"fatal": True, "exceptions": [{"class_name": "UpdateFailed", "message": message}]}
    return made(pipeline, PROGRESS, told, {"state": state.value}, update_id=update.id, level=level, error=error)


class Intake:
    """What a process told of an update, taken in."""

    def __init__(self, pipeline: Pipeline, update: Update, told: Sequence[Any], attempt: int) -> None:
        """`attempt` is the task run whose process told it. Raises InvalidArgument."""
        if len(told) > MOST_AT_ONCE or not all(isinstance(each, dict) for each in told):
            raise InvalidArgument(f"events are a list of at most {MOST_AT_ONCE} objects.")
        self._pipeline = pipeline
        self._update = update
        self.last = update.told if update.told_by == attempt else 0
        self.attempt = attempt
        self.state: UpdateState | None = None
        """That it says to have come to."""
        self.error: Mapping[str, Any] | None = None
        """Why it fails, as it says."""
        self.rows: list[dict[str, Any]] = []
        self.failed_flows: list[str] = []
        for each in told:
            self._take(storable(each))

    def _take(self, told: Mapping[str, Any]) -> None:
        sequence = told.get("sequence")
        if not isinstance(sequence, int) or sequence <= self.last:
            return
        self.last = sequence
        event_type = str(told.get("event_type") or "")[:_LONGEST_TYPE]
        details = inner(told.get("details"), event_type)
        if event_type == PROGRESS and "state" in details and not self._progress(str(details["state"]), told):
            return
        count = self._update.events + len(self.rows)
        if event_type in (CREATED, ACT) or count > MOST_OF_UPDATE:
            return
        if count == MOST_OF_UPDATE:
            told = {"event_type": "diagnostics", "level": "WARN", "message": _LEFT_OUT}
            event_type = "diagnostics"
        self.rows.append(self._row(event_type, told))
        if event_type == FLOW and details.get("status") == "FAILED":
            self.failed_flows.append(str(told.get("message") or ""))

    def _progress(self, name: str, told: Mapping[str, Any]) -> bool:
        """Whether it is an event of the process's own: how an update ends is written where it does."""
        if name in TOLD_BY_CODE:
            self.state = UpdateState(name)
            return True
        if name == UpdateState.FAILED and isinstance(told.get("error"), dict):
            self.error = _bounded({"error": told["error"]}).get("error")
        return False

    def _row(self, event_type: str, told: Mapping[str, Any]) -> dict[str, Any]:
        level = str(told.get("level"))
        origin = told.get("origin")
        own = {key: value for key, value in (origin if isinstance(origin, dict) else {}).items() if key != "org_id"}
        maturity = told.get("maturity_level")
        truncated = [str(each) for each in told.get("truncated") or ()][:10]
        body = {name: told[name] for name in _BODY if told.get(name)}
        body |= {"truncated": truncated} if truncated else {}
        body |= {"maturity_level": maturity if maturity in _MATURITY else "STABLE"}
        return {
            "id": new_id(), "update_id": self._update.id, "at": utc_now(), "event_type": event_type or "diagnostics",
            "level": level if level in Level.__members__ else Level.INFO.value,
            "message": str(told.get("message") or "")[:_LONGEST_MESSAGE],
            "body": _bounded({"origin": {**own, **_origin(self._pipeline, self._update.id)}, **body}),
        }  # fmt: skip


def _bounded(body: Mapping[str, Any]) -> dict[str, Any]:
    """A body without the parts that make it too large, whose names it has."""
    kept = dict(body)
    for name in (*_BODY, "origin"):
        if len(json.dumps(kept)) <= LARGEST_BYTES:
            break
        if kept.pop(name, None) is not None:
            kept["truncated"] = [*kept.get("truncated", ()), name]
    return kept


def _origin(pipeline: Pipeline, update_id: str | None) -> dict[str, Any]:
    origin: dict[str, Any] = {"pipeline_id": pipeline.id, "pipeline_name": pipeline.name}
    return origin | ({"update_id": update_id} if update_id else {})
