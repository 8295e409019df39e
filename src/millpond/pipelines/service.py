"""What one can do with pipelines: each method one unit of work, with its check of rights and its record."""

import builtins
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from millpond.identity import acts, grants
from millpond.identity.access import Act, allows, chosen_runner, require
from millpond.identity.domain import Principal
from millpond.identity.permissions import ObjectType
from millpond.jobs.ports import cancel_run, give_runs
from millpond.kernel.clock import epoch_ms, utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import (
    AlreadyExists,
    Conflict,
    InvalidArgument,
    NotFound,
    NotImplementedHere,
    PermissionDenied,
)
from millpond.kernel.ids import new_id
from millpond.kernel.paging import Page, decode_number, decode_token, encode_token
from millpond.notifications.domain import Delivery, Target
from millpond.notifications.outbox import told_about
from millpond.pipelines import notices, store
from millpond.pipelines.domain import Asked, Cause, Event, Pipeline, Shown, Update, UpdateState
from millpond.pipelines.events import Intake, acted, progressed
from millpond.pipelines.filters import WantedEvents, WantedPipelines
from millpond.pipelines.settings import checked, referring, targets
from millpond.pipelines.updates import begin_update, check_given
from millpond.secrets.references import References

LATEST = 5
"""Updates shown with a pipeline."""
_MOST_LOOKED_AT = 20
"""Pages that a list looks through for what its reader may see."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """In which a list comes."""

    by_name: bool = False
    upward: bool = True


class PipelineService:
    """Pipelines for whoever may."""

    def __init__(
        self, database: Database, references: References, *,
        check_target: Callable[[Principal, Target], None], principal_named: Callable[[str], Principal],
        moved: Callable[..., None],
    ) -> None:  # fmt: skip
        self._database = database
        self._references = references
        self._check_target = check_target
        self._principal_named = principal_named
        self._moved = moved

    def permission_types(self) -> tuple[ObjectType, ...]:
        """Pipelines, by their ids."""
        return (ObjectType(path="pipelines", name="pipelines", kind="pipeline", find=_find_securable, give=_give),)

    # -- pipelines --------------------------------------------------------------------------------------------------

    def check(self, principal: Principal, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings as a pipeline would have them. Raises as `create`."""
        kept = checked(settings)
        self._check_named(principal, self._run_as(principal, kept, principal.name), kept, {})
        return kept

    def create(self, principal: Principal, settings: Mapping[str, Any], *, shares_name: bool = False) -> Pipeline:
        """A new pipeline; a continuous one that is not being written begins at once.

        Raises InvalidArgument, NotImplementedHere, AlreadyExists for a name that is taken, PermissionDenied for
        another's `run_as`, and what keeps whoever it runs as from secrets.
        """
        kept, now = self.check(principal, settings), utc_now()
        pipeline = Pipeline(
            id=new_id(), name=kept["name"], creator=principal.name,
            run_as=self._run_as(principal, kept, principal.name), settings=kept, created_at=now, changed_at=now,
            next_start_at=now if _begins(kept) else None,
        )  # fmt: skip
        with self._database.write() as connection:
            if not store.add(connection, pipeline, shares_name=shares_name):
                raise _taken(pipeline.name)
            store.add_events(connection, pipeline.id, [acted(pipeline, "CREATE", principal.name)])
            _changed(connection, principal, "create", pipeline)
        return pipeline

    def get(self, principal: Principal, pipeline_id: str) -> Shown:
        """A pipeline that one may see, with its last updates. Raises NotFound."""
        with self._database.read() as connection:
            pipeline = _checked(principal, Act.SEE, pipeline_id, store.find(connection, pipeline_id))
            return Shown(pipeline=pipeline, latest=store.latest(connection, [pipeline.id], LATEST).get(pipeline.id, ()))

    def list(
        self, principal: Principal, wanted: WantedPipelines | None = None, order: Order | None = None, *,
        page_token: str | None = None, limit: int = 25,
    ) -> Page[Shown]:  # fmt: skip
        """Pipelines that one may see. Where many may not be seen, a page holds less, and leads on."""
        wanted, order = wanted or WantedPipelines(), order or Order()
        after = _read_token(page_token)
        found: list[Pipeline] = []
        with self._database.read() as connection:
            for _ in range(_MOST_LOOKED_AT):
                rows = store.list_pipelines(
                    connection, like=wanted.like, by_name=order.by_name, upward=order.upward, after=after, limit=limit
                )
                for row in rows:
                    after = [row.name, row.id]
                    if allows(principal, Act.SEE, row.securable) and _has_notebook(row, wanted.notebook):
                        found.append(row)
                    if len(found) == limit:
                        break
                if len(found) == limit or len(rows) < limit:
                    break
            more = store.list_pipelines(
                connection, like=wanted.like, by_name=order.by_name, upward=order.upward, after=after, limit=1
            )
            latest = store.latest(connection, [each.id for each in found], LATEST)
        shown = tuple(Shown(pipeline=each, latest=latest.get(each.id, ())) for each in found)
        return Page(items=shown, next_page_token=encode_token(json.dumps(after)) if more and after else None)

    def update(
        self, principal: Principal, pipeline_id: str, settings: Mapping[str, Any], *, shares_name: bool = False,
        expected_ms: int | None = None,
    ) -> None:  # fmt: skip
        """Give a pipeline other settings, all of them. An update of a continuous one is ended, and the next has them.

        Raises Conflict where it was changed after `expected_ms`.
        """
        with self._database.read() as connection:
            before = _checked(principal, Act.MANAGE, pipeline_id, store.find(connection, pipeline_id))
        kept = checked({"name": before.name, **settings})
        run_as, now = self._run_as(principal, kept, before.run_as), utc_now()
        self._check_named(principal, run_as, kept, before.settings)
        with self._database.write() as connection:
            pipeline, active = _locked(connection, principal, Act.MANAGE, pipeline_id, cancel=before.is_continuous)
            if expected_ms not in (None, epoch_ms(pipeline.changed_at)) or pipeline.changed_at != before.changed_at:
                raise Conflict(f"Pipeline '{pipeline_id}' was changed meanwhile; look at it and try again.")
            after = replace(pipeline, name=kept["name"], settings=kept, run_as=run_as)
            if not store.rename(connection, after, shares_name=shares_name):
                raise _taken(after.name)
            rests = pipeline.next_start_at is None and pipeline.is_continuous
            next_start_at = None if rests or not after.is_continuous else pipeline.next_start_at or (
                now if _begins(kept) else None)  # fmt: skip
            store.change(
                connection, pipeline.id, settings=kept, run_as=run_as, changed_at=now, next_start_at=next_start_at
            )
            store.add_events(connection, pipeline.id, [acted(after, "EDIT", principal.name)])
            _changed(connection, principal, "update", after)
        self._moved(*active)

    def delete(self, principal: Principal, pipeline_id: str) -> None:
        """Delete a pipeline with its updates and events; one that runs is stopped. Its tables stay."""
        with self._database.write() as connection:
            pipeline, active = _locked(connection, principal, Act.MANAGE, pipeline_id, cancel=True)
            store.remove(connection, pipeline.id)
            grants.forget(connection, pipeline.securable.ids)
            _changed(connection, principal, "delete", pipeline)
        self._moved(*active)

    def _check_named(
        self, principal: Principal, run_as: str, settings: Mapping[str, Any], before: Mapping[str, Any]
    ) -> None:
        """Who lets others be told (but of before) and whom updates run as have the rights to targets and secrets."""
        for target in dict.fromkeys(targets(settings)):
            if target not in set(targets(before)):
                self._check_target(principal, target)
        runner = self._principal_named(run_as)
        for text in referring(settings):
            self._references.check(runner, text)

    def _run_as(self, principal: Principal, settings: Mapping[str, Any], unless: str) -> str:
        """As whom updates run."""
        return chosen_runner(principal, settings.get("run_as"), unless, what="pipeline", named=self._principal_named)

    # -- updates ----------------------------------------------------------------------------------------------------

    def start_update(self, principal: Principal, pipeline_id: str, asked: Asked, cause: Cause) -> Update:
        """Start an update. Raises FailedPrecondition while another goes on, PermissionDenied for parameters that only
        who manages the pipeline may give."""
        with self._database.write() as connection:
            pipeline = _checked(principal, Act.USE, pipeline_id, store.find(connection, pipeline_id, lock=True))
            check_given(principal, pipeline, asked)
            update = begin_update(connection, pipeline, asked, cause, by=principal.name)
            store.add_events(connection, pipeline.id, [acted(pipeline, "START", principal.name, update.id)])
            _changed(connection, principal, "start", pipeline, update_id=update.id, run_id=update.run_id)
        self._moved(update.run_id)
        return update

    def stop(self, principal: Principal, pipeline_id: str) -> None:
        """Ask the active update to end, and let a continuous pipeline rest. Harmless where nothing goes on."""
        with self._database.write() as connection:
            pipeline, active = _locked(connection, principal, Act.USE, pipeline_id, cancel=True)
            store.change(connection, pipeline.id, next_start_at=None, failed=False)
            update = store.find_update(connection, pipeline.active_update_id) if pipeline.active_update_id else None
            told = [acted(pipeline, "STOP", principal.name, pipeline.active_update_id)]
            if update is not None:
                store.change_update(connection, update.id, state=UpdateState.STOPPING)
                told.append(progressed(pipeline, update, UpdateState.STOPPING))
            store.add_events(connection, pipeline.id, told)
            _changed(connection, principal, "stop", pipeline)
        self._moved(*active)

    def get_update(self, principal: Principal, pipeline_id: str, update_id: str) -> tuple[Pipeline, Update]:
        """An update. Raises NotFound."""
        with self._database.read() as connection:
            pipeline = _checked(principal, Act.SEE, pipeline_id, store.find(connection, pipeline_id))
            return pipeline, _update(connection, pipeline, update_id)

    def list_updates(
        self, principal: Principal, pipeline_id: str, *, until_id: str | None = None, page_token: str | None = None,
        limit: int = 25,
    ) -> Page[Update]:  # fmt: skip
        """Updates of a pipeline, the newest first; none that came after the one named."""
        before = decode_number(page_token)
        with self._database.read() as connection:
            pipeline = _checked(principal, Act.SEE, pipeline_id, store.find(connection, pipeline_id))
            until = _update(connection, pipeline, until_id).number if until_id else None
            rows = store.list_updates(connection, pipeline.id, before=before, until=until, limit=limit + 1)
        more = encode_token(str(rows[limit - 1].number)) if len(rows) > limit else None
        return Page(items=tuple(rows[:limit]), next_page_token=more)

    # -- events -----------------------------------------------------------------------------------------------------

    def events(
        self, principal: Principal, pipeline_id: str, wanted: WantedEvents, *, upward: bool = False,
        beyond: int | None = None, limit: int = 25,
    ) -> tuple[builtins.list[Event], int | None]:  # fmt: skip
        """Events of a pipeline behind a number, in their order or the newest first; the last one's number where there
        are more."""
        with self._database.read() as connection:
            pipeline = _checked(principal, Act.SEE, pipeline_id, store.find(connection, pipeline_id))
            rows = store.list_events(connection, pipeline.id, wanted, upward=upward, beyond=beyond, limit=limit + 1)
        return rows[:limit], rows[limit - 1].number if len(rows) > limit else None

    def events_of(
        self, principal: Principal, pipeline_id: str, update_id: str, types: Sequence[str], limit: int
    ) -> builtins.list[Event]:
        """The last events of some types of an update, in their order. Raises NotFound."""
        with self._database.read() as connection:
            pipeline = _checked(principal, Act.SEE, pipeline_id, store.find(connection, pipeline_id))
            return store.events_of(connection, _update(connection, pipeline, update_id).id, types, limit)

    def note(self, principal: Principal, told: Sequence[Any]) -> None:
        """Take in what the process of an update tells, whose token says which run it works for.

        Raises PermissionDenied for whoever is no such process, NotFound where the update has ended.
        """
        if principal.work is None:
            acts.denied(principal, "tell events of", "pipeline", "")
            raise PermissionDenied("Only the process of an update tells its events; ask for them with events.")
        with self._database.read() as connection:
            seen = store.update_of_run(connection, principal.work.run_id)
        with self._database.write() as connection:
            pipeline = store.find(connection, seen.pipeline_id, lock=True) if seen else None
            update = store.find_update(connection, seen.id, lock=True) if seen else None
            if pipeline is None or update is None or pipeline.active_update_id != update.id:
                raise NotFound("The update of this task has ended.")
            taken = Intake(pipeline, update, told, principal.work.task_run_id)
            state = taken.state if taken.state and update.state is not UpdateState.STOPPING else update.state
            store.change_update(
                connection, update.id, told=taken.last, told_by=taken.attempt, state=state,
                error=taken.error or update.error, events=update.events + len(taken.rows),
            )  # fmt: skip
            store.add_events(connection, pipeline.id, taken.rows)
            for message in taken.failed_flows:
                notices.flow_failed(connection, pipeline, update, message)

    def told_about(self, principal: Principal, pipeline_id: str) -> Sequence[Delivery]:
        """What became of the notifications of a pipeline, the newest first. Raises NotFound."""
        with self._database.read() as connection:
            pipeline = _checked(principal, Act.SEE, pipeline_id, store.find(connection, pipeline_id))
            return told_about(connection, notices.about(pipeline.id))


def refuse_cascade(cascade: bool | None) -> None:
    """Raises NotImplementedHere for who wants tables to go with their pipeline."""
    if cascade:
        raise NotImplementedHere(
            "delete has cascade=true; here tables outlive their pipeline: drop them by themselves."
        )


def _begins(settings: Mapping[str, Any]) -> bool:
    """Whether a pipeline with these settings begins by itself."""
    return bool(settings.get("continuous")) and not settings.get("development")


def _taken(name: str) -> AlreadyExists:
    return AlreadyExists(f"A pipeline is named '{name[:80]}'; choose another name, or give allow_duplicate_names.")


def _checked(principal: Principal, act: Act, pipeline_id: str, pipeline: Pipeline | None) -> Pipeline:
    """The pipeline, if it exists and the principal may; the same NotFound for what is not there and not theirs."""
    found = _there(pipeline_id, pipeline)
    require(principal, act, found.securable)
    return found


def _there(pipeline_id: str, pipeline: Pipeline | None) -> Pipeline:
    if pipeline is None:
        raise NotFound(f"Pipeline '{pipeline_id[:60]}' does not exist.")
    return pipeline


def _locked(
    connection: Connection, principal: Principal, act: Act, pipeline_id: str, *, cancel: bool
) -> tuple[Pipeline, list[int]]:
    """The pipeline, once the active update's run has been asked to end, if so asked, and which runs are to be moved on.

    Raises Conflict where another update has begun in between.
    """
    seen = _checked(principal, act, pipeline_id, store.find(connection, pipeline_id))
    active = store.find_update(connection, seen.active_update_id) if seen.active_update_id and cancel else None
    if active is not None:
        cancel_run(connection, active.run_id, utc_now())
    pipeline = _checked(principal, act, pipeline_id, store.find(connection, pipeline_id, lock=True))
    if cancel and pipeline.active_update_id not in (None, seen.active_update_id):
        raise Conflict(f"Pipeline '{pipeline_id}' has begun another update meanwhile; try again.")
    return pipeline, [] if active is None else [active.run_id]


def _update(connection: Connection, pipeline: Pipeline, update_id: str) -> Update:
    update = store.find_update(connection, update_id)
    if update is None or update.pipeline_id != pipeline.id:
        raise NotFound(f"Pipeline '{pipeline.id}' has no update '{update_id[:60]}'.")
    return update


def _changed(connection: Connection, principal: Principal, act: str, pipeline: Pipeline, **more: str | int) -> None:
    acts.changed(connection, principal.name, act, "pipeline", pipeline.name, object_id=pipeline.id, **more)


def _has_notebook(pipeline: Pipeline, path: str | None) -> bool:
    libraries = pipeline.settings.get("libraries") or ()
    return path is None or any((each.get("notebook") or {}).get("path") == path for each in libraries)


def _read_token(token: str | None) -> Sequence[str]:
    text = decode_token(token)
    try:
        found = json.loads(text) if text else []
    except ValueError:
        found = None
    if (
        not isinstance(found, list)
        or len(found) not in (0, 2)
        or not all(isinstance(each, str) and "\0" not in each for each in found)
    ):
        raise InvalidArgument("page_token is not one that this server gave; start again without it.")
    return found


def _find_securable(connection: Connection, pipeline_id: str) -> Any:
    return _there(pipeline_id, store.find(connection, pipeline_id)).securable


def _give(connection: Connection, pipeline_id: str, name: str) -> None:
    give_runs(connection, pipeline_id, name)  # whose locks come before a pipeline's
    store.change(connection, pipeline_id, creator=name)
