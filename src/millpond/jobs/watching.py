"""Whether what a trigger watches has changed so that a run is to start: pure functions of what was seen and the time.

What is seen of files, tables and models has one shape: a text for each name. For files, the name is a digest of the
path, so that ten thousand of them are small; for tables, the text is the version and when it was committed.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from millpond.jobs.triggers import Trigger, When

MOST_UPDATES = 9
"""Of models, that one run is told of. Source: Databricks' limit."""
MOST_PENDING = 1000
"""Updates of models that wait for a run; they are written in the registry's own transactions."""
_ARRIVED, _DROPPED = "arrived", "dropped"
Seen = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What is known of what a job's trigger watches."""

    job_id: int
    serial: int = 0
    """Grows with each change, so that of two who looked at the same time one counts."""
    known: Seen = field(default_factory=dict)
    pending: Mapping[str, Any] = field(default_factory=dict)
    """What changed since the last run started."""
    changed_at: datetime | None = None
    looked_at: datetime | None = None
    outcome: str = ""
    """What came of the last look that started no run."""
    failed_at: datetime | None = None
    error: str = ""
    fired_at: datetime | None = None
    run_id: int | None = None


def after_look(watch: Watch, kind: When, seen: Seen, now: datetime) -> Watch:
    """What is known after files or tables were looked at. A file that is written anew is no new file."""
    news = {name: text for name, text in seen.items() if watch.known.get(name) != text}
    if not news:
        return watch if len(seen) == len(watch.known) else replace(watch, known=dict(seen))
    if kind is When.FILES:
        news = {_ARRIVED: str(int(watch.pending.get(_ARRIVED, 0)) + len(news))}
    return replace(watch, known=dict(seen), pending={**watch.pending, **news}, changed_at=now)


def with_update(watch: Watch, number: int, update: Mapping[str, Any], now: datetime) -> Watch:
    """One more update of a model waits. The newest stay, and how many were dropped is known until all have run."""
    order = sorted({**watch.pending, str(number): update}.items(), key=lambda each: int(each[0]))
    too_many = max(0, len(order) - MOST_PENDING)
    dropped = too_many + (_dropped(watch) if watch.pending else 0)
    known = {_DROPPED: str(dropped)} if dropped else {}
    return replace(watch, pending=dict(order[too_many:]), known=known, changed_at=now)


def _dropped(watch: Watch) -> int:
    return int(watch.known.get(_DROPPED, 0))


def ripe_at(trigger: Trigger, watch: Watch) -> datetime | None:
    """When what is pending starts a run, if nothing more comes; None when it does not."""
    if not watch.pending or watch.changed_at is None:
        return None
    wants_all = trigger.kind is When.TABLES and trigger.body.get("condition") == "ALL_UPDATED"
    if wants_all and set(watch.pending) < {name.lower() for name in trigger.body["table_names"]}:
        return None
    ripe = watch.changed_at + trigger.quiet
    return ripe if watch.fired_at is None else max(ripe, watch.fired_at + trigger.least_pause)


def news_for_run(trigger: Trigger, watch: Watch) -> tuple[dict[str, str], dict[str, Any]]:
    """What a run is told of its trigger, by the names of references after `job.trigger.`; and what stays pending.

    Source of the names: "Trigger jobs when ..." of the Databricks documentation, for files, tables and models.
    """
    if trigger.kind is When.FILES:
        return {"file_arrival.location": trigger.body["url"]}, {}
    if trigger.kind is When.TABLES:
        names = {name.lower(): name for name in trigger.body["table_names"]}
        pending = {names.get(name, name): text for name, text in watch.pending.items()}
        told = {"table_update.updated_tables": json.dumps(sorted(pending))}
        for name, text in pending.items():
            version, _, committed = text.partition(" ")
            told |= {f"table_update.{name}.version": version, f"table_update.{name}.commit_timestamp": committed}
        return told, {}
    order = sorted(watch.pending, key=int)
    updates = [watch.pending[number] for number in order[:MOST_UPDATES]]
    return {"model.updates": json.dumps(updates)}, {number: watch.pending[number] for number in order[MOST_UPDATES:]}


def described(trigger: Trigger, watch: Watch) -> str:
    """What is pending, in words."""
    if not watch.pending:
        return "Nothing has changed."
    if trigger.kind is When.FILES:
        return f"{watch.pending[_ARRIVED]} new files."
    if trigger.kind is When.TABLES:
        return f"Updated: {', '.join(sorted(watch.pending))}."
    dropped = f"; {_dropped(watch)} older ones were dropped" if _dropped(watch) else ""
    return f"{len(watch.pending)} updates of models{dropped}."


def is_of_scope(trigger: Trigger, condition: str, model: str, alias: str) -> bool:
    """Whether a trigger of models watches for this."""
    scope, aliases = trigger.body.get("securable_name") or "", trigger.body.get("aliases")
    inside = not scope or model.lower() == scope.lower() or model.lower().startswith(f"{scope.lower()}.")
    return trigger.body["condition"] == condition and inside and (not aliases or alias in aliases)
