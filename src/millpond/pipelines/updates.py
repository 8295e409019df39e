"""Updates as runs of the room of jobs: begun, given their code, and written down when they have ended.

Locks are taken in one order: a run's, then its pipeline's, then its update's.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from millpond.identity import acts
from millpond.identity.access import Act, allows
from millpond.identity.domain import Principal
from millpond.jobs.domain import Result, Run
from millpond.jobs.ports import start_update_run
from millpond.jobs.schedule import MOST_FAILURES, pause_after
from millpond.kernel.clock import epoch_us, utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import FailedPrecondition, NotFound, PermissionDenied
from millpond.kernel.ids import new_id
from millpond.kernel.logs import get_logger
from millpond.kernel.rounds import rounds
from millpond.pipelines import notices, store
from millpond.pipelines.domain import Asked, Cause, Pipeline, Update, UpdateState, state_after
from millpond.pipelines.events import CREATED, made, progressed
from millpond.pipelines.settings import retries_of, wheels
from millpond.pipelines.sources import Sources

_ROUND_S, _TIDY_S = 0.5, 600.0
_RETRY_PAUSE_MS = 5000
_LEAST_PAUSE, _PAUSE = timedelta(seconds=1), timedelta(minutes=1)
_MOST_OLD = 5
"""Updates, each with 20,000 events at most, in one transaction."""
_PLAIN = re.compile(r"(?!.*--)[\w.:/@+-]*")
"""What is one word in SQL, and neither quotes nor comments."""

log = get_logger(__name__)


def check_given(principal: Principal, pipeline: Pipeline, asked: Asked) -> None:
    """Raises PermissionDenied for parameters that do more than run a pipeline with the rights of whom it runs as: SQL
    has them in its text, and they go before the configuration."""
    if principal.name == pipeline.run_as or allows(principal, Act.MANAGE, pipeline.securable):
        return
    for name, value in asked.parameters.items():
        if name in (pipeline.settings.get("configuration") or {}) or name.startswith("pipelines."):
            told = "is in its configuration"
        elif not _PLAIN.fullmatch(value):
            told = "has other characters than letters, digits, _ . : / @ + and single -"
        else:
            continue
        acts.denied(principal, "give parameters to", "pipeline", pipeline.name)
        raise PermissionDenied(f"Parameter '{name[:60]}' {told}; only who may manage the pipeline gives such a one.")


def begin_update(
    connection: Connection, pipeline: Pipeline, asked: Asked, cause: Cause, *, by: str, parent: Run | None = None
) -> Update:
    """Start an update of a pipeline that the caller has locked. Raises FailedPrecondition where one goes on."""
    if pipeline.active_update_id is not None:
        raise FailedPrecondition(
            f"Pipeline '{pipeline.name}' has an active update, {pipeline.active_update_id}; wait for its end, or stop "
            "the pipeline."
        )
    now, update_id = utc_now(), new_id()
    settings = pipeline.settings
    is_development = settings.get("development") if asked.development is None else asked.development
    retries = retries_of({**settings, "development": is_development})
    libraries = [{"whl": path} for path in wheels(settings)]
    task = {"max_retries": retries, "min_retry_interval_millis": _RETRY_PAUSE_MS, "libraries": libraries}
    run_id = start_update_run(
        connection, update_id=update_id, pipeline_id=pipeline.id, task=task, owner=pipeline.creator,
        settings={"name": pipeline.name, "tags": dict(settings.get("tags") or {})}, run_as=pipeline.run_as, now=now,
        parent=parent,
    )  # fmt: skip
    update = Update(
        id=update_id, pipeline_id=pipeline.id, number=epoch_us(now), run_id=run_id, cause=cause, asked=asked,
        asked_by=by, run_as=pipeline.run_as, settings=settings, state=UpdateState.QUEUED, message="", error=None,
        told_by=0, told=0, events=0, created_at=now, ended_at=None,
    )  # fmt: skip
    store.add_update(connection, update)
    wanted = {"next_start_at": now} if pipeline.is_continuous and not asked.validate_only else {}
    store.change(connection, pipeline.id, active_update_id=update.id, failed=False, **wanted)
    told = {"cause": cause.value, "full_refresh": asked.full_refresh, "validate_only": asked.validate_only}
    event = made(pipeline, CREATED, f"Update {update.id[-6:]} started by {cause.value}.", told, update_id=update.id)
    store.add_events(connection, pipeline.id, [event, progressed(pipeline, update, UpdateState.QUEUED)])
    return update


class UpdateRuns:
    """What jobs ask of this room (`millpond.jobs.ports.Updates`), and what keeps continuous pipelines going."""

    def __init__(
        self, database: Database, sources: Sources, *, principal_named: Callable[[str], Principal],
        moved: Callable[..., None], kept: timedelta,
    ) -> None:  # fmt: skip
        self._database = database
        self._sources = sources
        self._principal_named = principal_named
        self._moved = moved
        self._kept = kept

    def begin(self, connection: Connection, run: Run, body: Mapping[str, Any]) -> tuple[int, str]:
        """Start the update that a `pipeline_task` of a run asks for; its run, and its id. Raises MillpondError."""
        principal = self._principal_named(run.run_as)
        pipeline = store.find(connection, str(body["pipeline_id"]), lock=True)
        if pipeline is None or not allows(principal, Act.USE, pipeline.securable):
            name = str(body["pipeline_id"])[:60]
            raise NotFound(f"Pipeline '{name}' does not exist, or {run.run_as} may not run it.")
        asked = Asked.of(body)
        check_given(principal, pipeline, asked)
        update = begin_update(connection, pipeline, asked, Cause.JOB_TASK, by=run.run_as, parent=run)
        acts.changed(
            connection, run.run_as, "start", "pipeline", pipeline.name, object_id=pipeline.id, update_id=update.id,
            run_id=run.id,
        )  # fmt: skip
        return update.run_id, update.id

    def code(self, principal: Principal, run: Run, directory: Path) -> tuple[dict[str, Any], Sequence[str]]:
        """What the process of an update's run is told, and the packages that it needs besides. Raises MillpondError."""
        with self._database.read() as connection:
            update = store.update_of_run(connection, run.id)
            pipeline = store.find(connection, update.pipeline_id) if update else None
        if update is None or pipeline is None:
            raise NotFound("The pipeline was deleted.")
        with self._database.write() as connection:
            store.find(connection, pipeline.id, lock=True)
            if store.begin_waiting(connection, update.id):
                told = progressed(pipeline, update, UpdateState.WAITING_FOR_RESOURCES)
                store.add_events(connection, pipeline.id, [told])
        return self._sources.order(principal, pipeline, update, directory)

    def ended(self, connection: Connection, run: Run, result: Result, message: str) -> None:
        """An update's run has ended; in that transaction."""
        pipeline = store.find(connection, run.pipeline_id or "", lock=True)
        update = store.update_of_run(connection, run.id)
        if pipeline is None or update is None or update.state.is_final:
            return
        now, state = utc_now(), state_after(result)
        message = message if state is UpdateState.FAILED else ""
        store.change_update(connection, update.id, state=state, message=message, ended_at=now)
        states = store.states_of(connection, pipeline.id, MOST_FAILURES)
        next_start_at = pipeline.next_start_at
        if next_start_at is not None:
            failures = [Result.FAILED if each is UpdateState.FAILED else Result.SUCCESS for each in states]
            rests = state is UpdateState.FAILED and update.is_development
            next_start_at = None if rests else now + max(pause_after(failures), _LEAST_PAUSE)
        store.change(
            connection, pipeline.id, active_update_id=None, failed=state is UpdateState.FAILED,
            next_start_at=next_start_at,
        )  # fmt: skip
        error = update.error if state is UpdateState.FAILED else None
        store.add_events(connection, pipeline.id, [progressed(pipeline, update, state, message, error)])
        notices.update_ended(connection, pipeline, update, state, message)
        acts.changed(
            connection, run.run_as, "finish", "pipeline", pipeline.name, object_id=pipeline.id,
            update_id=update.id, state=state.value,
        )  # fmt: skip

    # -- going on -----------------------------------------------------------------------------------------------------

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Keep continuous pipelines going, and remove what is old, while the block runs."""
        going = rounds(self.round, name="pipelines", interval_s=_ROUND_S, log=log, failure="pipelines were not started")
        with going, rounds(self.tidy, name="old-updates", interval_s=_TIDY_S, log=log, failure="old updates were kept"):
            yield

    def round(self) -> None:
        """Start an update of each continuous pipeline whose time has come."""
        with self._database.read() as connection:
            if not store.is_due(connection, utc_now()):
                return
        started: list[int] = []
        with self._database.write() as connection:
            for pipeline in store.due(connection, utc_now(), lock=True):
                try:
                    with connection.begin_nested():
                        cause = Cause.RETRY_ON_FAILURE if pipeline.failed else Cause.API_CALL
                        started.append(begin_update(connection, pipeline, Asked(), cause, by=pipeline.run_as).run_id)
                except Exception as error:  # the boundary of a work item
                    log.error("a pipeline was not started", pipeline=pipeline.id, exc_info=error)
                    store.change(connection, pipeline.id, next_start_at=utc_now() + _PAUSE)
        self._moved(*started)

    def tidy(self) -> None:
        """Remove updates of long ago with their events, so many at once that nobody waits for it."""
        before, found = utc_now() - self._kept, ["some"]
        while found:
            with self._database.write() as connection:
                found = store.old_updates(connection, before, _MOST_OLD)
                store.remove_updates(connection, found)
        with self._database.write() as connection:
            store.remove_old_acts(connection, before)
