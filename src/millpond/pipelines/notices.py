"""Who is told by mail of a pipeline's updates, as its settings say it."""

from sqlalchemy import Connection

from millpond.notifications.domain import Notice
from millpond.notifications.outbox import put
from millpond.pipelines.domain import Pipeline, Update, UpdateState
from millpond.pipelines.settings import targets

_ENDS = {
    UpdateState.COMPLETED: ("on-update-success",),
    UpdateState.FAILED: ("on-update-failure", "on-update-fatal-failure"),
}


def update_ended(connection: Connection, pipeline: Pipeline, update: Update, state: UpdateState, message: str) -> None:
    """An update has ended; who stopped one is not told of it."""
    if alerts := _ENDS.get(state):
        words = "completed" if state is UpdateState.COMPLETED else "failed"
        _tell(connection, pipeline, update, alerts, f"Pipeline {pipeline.name}: an update {words}", message)


def flow_failed(connection: Connection, pipeline: Pipeline, update: Update, message: str) -> None:
    """A flow of an update has failed."""
    _tell(connection, pipeline, update, ("on-flow-failure",), f"Pipeline {pipeline.name}: a flow failed", message)


def about(pipeline_id: str) -> str:
    """Under what the log of deliveries keeps what was told of a pipeline."""
    return f"pipeline {pipeline_id}"


def _tell(
    connection: Connection, pipeline: Pipeline, update: Update, alerts: tuple[str, ...], subject: str, message: str
) -> None:
    found = targets(update.settings, *alerts)
    if not found:
        return
    notice = Notice(
        event=f"pipelines.{alerts[0]}",
        subject=subject,
        text=f"{subject}\n\n{message}" if message else subject,
        body={
            "event_type": f"pipelines.{alerts[0]}",
            "pipeline": {"pipeline_id": pipeline.id, "name": pipeline.name},
            "update": {"update_id": update.id, "message": message},
        },
        path=f"/pipelines/{pipeline.id}",
    )
    put(connection, found, notice, about(pipeline.id))
