"""What goes with runs that are removed."""

from collections.abc import Sequence

from sqlalchemy import Connection

from millpond.jobs import store
from millpond.lineage.service import forget_runs


def remove_runs(connection: Connection, run_ids: Sequence[int]) -> list[int]:
    """Remove runs, with what lineage has of them; the ids of their task runs, whose outputs are to be forgotten."""
    gone = [task.id for task in store.tasks_of(connection, *run_ids)]
    for run_id in run_ids:
        store.delete_run(connection, run_id)
    forget_runs(connection, run_ids)
    return gone
