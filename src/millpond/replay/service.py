"""What one can do with replays: ask for one, look at it, cancel it, and let gates look."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import Connection

from millpond.catalog.domain import Table
from millpond.catalog.service import CatalogService
from millpond.identity import acts
from millpond.identity.access import Act, allows, require
from millpond.identity.domain import Principal
from millpond.inference_tables.predictions import PredictionService
from millpond.kernel import work
from millpond.kernel.clock import epoch_ms, utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import FailedPrecondition, MillpondError, NotFound, PermissionDenied, Unavailable
from millpond.kernel.ids import new_id
from millpond.registry.checks import TrafficReplay
from millpond.registry.models import securable_of
from millpond.replay import store
from millpond.replay.domain import UNDER_WAY, Asked, Replay, State
from millpond.replay.running import Runner
from millpond.serving.references import Asked as AskedModel
from millpond.serving.rehearsal import Rehearsals
from millpond.serving.service import ServingService

WORK = "replay"
ATTEMPTS = 5
_MOST_TEXT = 4000


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A replay as somebody sees it."""

    replay: Replay
    has_values: bool
    """Whether predictions and messages are in its report: for who may read the whole inference table."""


class ReplayService:
    """Replays, for users. Blocks."""

    def __init__(
        self,
        database: Database,
        catalog: CatalogService,
        *,
        serving: ServingService,
        rehearsals: Rehearsals,
        predictions: PredictionService,
        runner: Runner,
        principal_named: Callable[[str], Principal],
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._serving = serving
        self._rehearsals = rehearsals
        self._predictions = predictions
        self._runner = runner
        self._principal_named = principal_named

    # Asking

    def begin(self, principal: Principal, endpoint: str, model: AskedModel, asked: Asked) -> Replay:
        """Ask for a replay of an endpoint's requests by a version of a model, which is the endpoint's own where empty.

        Raises NotFound, PermissionDenied (it takes CAN_MANAGE on the endpoint, the whole inference table, and the
        model), InvalidArgument, FailedPrecondition.
        """
        candidate = self._rehearsals.candidate(principal, endpoint, model)
        table = self._whole_table(principal, endpoint)
        version = candidate.entity.model
        with self._database.write() as connection:
            made = Replay(
                id=new_id(),
                subject_key=securable_of(self._catalog, connection, version.name).ids[0],
                model=version.name,
                version=int(version.version),
                endpoint_id=candidate.endpoint.id,
                endpoint=candidate.endpoint.name,
                table_id=table.id,
                state=State.QUEUED,
                requester=principal.name,
                asked=asdict(asked),
                done=0,
                total=0,
                report={},
                message="",
                created_at=utc_now(),
                ended_at=None,
            )
            store.add(connection, made)
            work.enqueue(connection, WORK, {"replay": made.id})
            _note(connection, principal, made, "replay traffic of")
        return made

    def list(self, principal: Principal, endpoint: str) -> Sequence[Replay]:
        """Those of an endpoint that one may see, newest first, without what they found. Raises NotFound."""
        found = self._serving.get_endpoint(principal, endpoint)
        with self._database.read() as connection:
            return [replace(each, report={}) for each in store.list_of_endpoint(connection, found.id)]

    def get(self, principal: Principal, endpoint: str, replay_id: str) -> Seen:
        """One, with its values for who may read the whole inference table. Raises NotFound."""
        found = self._find(principal, endpoint, replay_id)
        if self._reads_all(principal, found.table_id):
            return Seen(replay=found, has_values=True)
        report = {key: value for key, value in found.report.items() if key not in {"examples", "errors", "labels"}}
        return Seen(replay=replace(found, report=report), has_values=False)

    def cancel(self, principal: Principal, endpoint: str, replay_id: str) -> Replay:
        """End one that is under way. Raises NotFound, PermissionDenied, FailedPrecondition when it has ended."""
        found = self._find(principal, endpoint, replay_id)
        require(principal, Act.MANAGE, self._serving.get_endpoint(principal, endpoint).securable)
        message = f"Cancelled by {principal.name}."
        with self._database.write() as connection:
            values = {"state": State.CANCELLED.value, "ended_at": utc_now(), "message": message}
            if not store.go_on(connection, found.id, **values):
                raise FailedPrecondition(f"The replay is {found.state.value} already.")
            _note(connection, principal, found, "cancel replay of")
        return self._find(principal, endpoint, replay_id)

    def _find(self, principal: Principal, endpoint: str, replay_id: str) -> Replay:
        owner = self._serving.get_endpoint(principal, endpoint)
        with self._database.read() as connection:
            found = store.find(connection, replay_id)
        if found is None or found.endpoint_id != owner.id:
            raise NotFound(f"Endpoint '{endpoint}' has no replay '{replay_id[:40]}'.")
        return found

    def _whole_table(self, principal: Principal, endpoint: str) -> Table:
        """The inference table. Raises PermissionDenied for who does not see all of it: a masked request is another."""
        table = self._predictions.readable_table(principal, endpoint)
        if self._catalog.guards_for(principal, table):
            raise PermissionDenied(f"'{table.name}' has row filters or masks for you; a replay needs whole requests.")
        return table

    def _reads_all(self, principal: Principal, table_id: str) -> bool:
        table = self._catalog.find_tables_by_id(principal, [table_id]).get(table_id)
        if table is None or not allows(principal, Act.READ, table.securable):
            return False
        return not self._catalog.guards_for(principal, table)

    # Carrying out

    def run_item(self, item: work.Item) -> None:
        """Carry out a replay that waits. Harmless when repeated: it begins again."""
        with self._database.write() as connection:
            found = store.find(connection, str(item.payload["replay"]))
            if found is None or found.state not in UNDER_WAY:
                return
            store.go_on(connection, found.id, state=State.RUNNING.value)
        try:
            self._carry_out(found)
        except Exception as error:
            if item.is_last or (isinstance(error, MillpondError) and not isinstance(error, Unavailable)):
                self._end(found.id, state=State.ERROR, message=_words(error))
                return
            raise

    def _carry_out(self, replay: Replay) -> None:
        rights = self._principal_named(replay.requester)
        model = AskedModel(model=replay.model, version=str(replay.version))
        candidate = self._rehearsals.candidate(rights, replay.endpoint, model)
        table = self._whole_table(rights, replay.endpoint)
        if (candidate.endpoint.id, table.id) != (replay.endpoint_id, replay.table_id):
            raise FailedPrecondition("The endpoint or its inference table is another one now.")

        def goes_on(done: int, total: int) -> bool:
            with self._database.write() as connection:
                return store.go_on(connection, replay.id, done=done, total=total)

        before_ms = epoch_ms(replay.created_at)
        found = self._runner.run(rights, candidate, table, Asked(**replay.asked), before_ms, goes_on)
        if found is not None:
            message = f"{found.different} of {found.rows} predictions differ."
            if failing := found.outcomes["fails"]:
                message += f" {failing} of {found.requests} requests fail that were answered."
            self._end(replay.id, state=State.DONE, report=found.report(), message=message)

    def _end(self, replay_id: str, *, state: State, **values: Any) -> None:
        with self._database.write() as connection:
            store.go_on(connection, replay_id, state=state.value, ended_at=utc_now(), **values)

    # For gates

    def of_version(self, model: str, version: int) -> Sequence[TrafficReplay]:
        """What was found for a version, newest first; see `registry.checks.Tools`."""
        with self._database.read() as connection:
            key = securable_of(self._catalog, connection, model).ids[0]
            found = store.list_of_version(connection, key, version)
        return [
            TrafficReplay(
                id=each.id,
                endpoint=each.endpoint,
                ended_at=each.ended_at,
                report=each.report,
                is_filtered=Asked(**each.asked).is_filtered,
            )
            for each in found
            if each.state is State.DONE and each.ended_at is not None
        ]


def _note(connection: Connection, who: Principal, replay: Replay, act: str) -> None:
    model = f"{replay.model} version {replay.version}"
    acts.changed(connection, who.name, act, "endpoint", replay.endpoint, replay=replay.id, model=model)


def _words(error: Exception) -> str:
    """What users may read of an error."""
    text = error.message if isinstance(error, MillpondError) else f"{type(error).__name__}; the server's log says more."
    return text[:_MOST_TEXT]
