"""The state of a job's trigger as the Jobs API shows it (`trigger_state`, and `trigger_details` of newer clients), and
what became of its notifications and what runs read and wrote, which only this server's own API tells."""

from datetime import datetime
from typing import Any

from millpond.jobs.domain import Job
from millpond.jobs.triggers import Trigger, When, trigger_of
from millpond.jobs.viewing import TaskUse
from millpond.jobs.watching import Watch
from millpond.kernel.clock import epoch_ms
from millpond.notifications.domain import Delivery


def triggers_json(job: Job, watch: Watch | None) -> dict[str, Any]:
    """What there is to say of a job's trigger; nothing of a job without one."""
    trigger = trigger_of(job.settings)
    if trigger is None:
        return {}
    pause = {"pause_status": "PAUSED" if trigger.paused else "UNPAUSED"}
    inner = _state(trigger, job, watch)
    older = {When.FILES: "file_arrival", When.TABLES: "table"}.get(trigger.kind)
    state = pause | ({older: inner} if older else {})
    details = {"state": pause | {trigger.kind.value: inner}, "history": _history(watch) if watch else {}}
    return {"trigger_state": state, "trigger_details": [details]}


def _state(trigger: Trigger, job: Job, watch: Watch | None) -> dict[str, Any]:
    if trigger.kind is When.FILES:
        return {"using_file_events": False}
    if trigger.kind is When.TABLES:
        pending = watch.pending if watch else {}
        names = trigger.body["table_names"]
        return {"last_seen_table_states": [
            {"table_name": name, "has_seen_updates": name.lower() in pending} for name in names
        ]}  # fmt: skip
    timed = trigger.kind in (When.PERIODIC, When.CRON) and job.next_fire_at is not None
    return {"next_run_time": _ms(job.next_fire_at)} if timed else {}


def _history(watch: Watch) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if watch.fired_at is not None:
        told["last_triggered"] = {"timestamp": _ms(watch.fired_at), "run_id": watch.run_id}
    if watch.looked_at is not None:
        told["last_not_triggered"] = {"timestamp": _ms(watch.looked_at), "description": watch.outcome}
    if watch.failed_at is not None:
        told["last_failed"] = {"timestamp": _ms(watch.failed_at), "description": watch.error}
    return told


def _ms(moment: datetime | None) -> int:
    return 0 if moment is None else epoch_ms(moment)


def use_json(use: TaskUse) -> dict[str, Any]:
    """What a task read or wrote."""
    done, node = use.touched.done, use.touched.node
    return {
        "task_key": use.key, "task_run_id": done.work.task_run_id, "way": done.way.value, "kind": node.kind.value,
        "name": node.name, "operation": done.operation, "last_seen": _ms(done.last_seen),
    }  # fmt: skip


def delivery_json(delivery: Delivery) -> dict[str, Any]:
    """What became of one notification."""
    return {
        "id": delivery.id, "target": delivery.target, "event": delivery.event, "state": delivery.state,
        "attempts": delivery.attempts, "status_code": delivery.status_code, "error": delivery.error,
        "created_at": _ms(delivery.created_at), "updated_at": _ms(delivery.updated_at),
    }  # fmt: skip
