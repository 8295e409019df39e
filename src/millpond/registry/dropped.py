"""Models that go with their schema or catalog leave a record too; in the gateway as well, so without MLflow."""

from collections.abc import Sequence

from sqlalchemy import Connection

from millpond.catalog.domain import ObjectName
from millpond.catalog.service import CatalogService
from millpond.catalog.service.base import ModelHooks
from millpond.identity.domain import SYSTEM
from millpond.journal import calls
from millpond.registry import store
from millpond.registry.domain import Activity, ActivityType, live_moves
from millpond.tracking.watch import Target, TargetKind

_WHY = "Its schema or catalog was dropped."


class RecordedModels:
    """The catalog's `ModelHooks`: notes what is not live any more, then does what the tracking room does."""

    def __init__(self, catalog: CatalogService, inner: ModelHooks) -> None:
        self._catalog = catalog
        self._inner = inner

    def deleted(self, connection: Connection, names: Sequence[ObjectName]) -> None:
        """These models were removed with their schema or catalog."""
        for name in names:
            model = self._catalog.find_model_in(connection, name)
            if model is not None:
                self._end(connection, model.id, str(name))
        self._inner.deleted(connection, names)

    def renamed(self, connection: Connection, names: Sequence[tuple[ObjectName, ObjectName]]) -> None:
        """Their record has their ids, which stay."""
        self._inner.renamed(connection, names)

    def uses(self, connection: Connection, location: str) -> bool:
        """Whether files at a location are a model's."""
        return self._inner.uses(connection, location)

    def _end(self, connection: Connection, key: str, name: str) -> None:
        call = calls.current()
        store.lock_order(connection)
        asked = store.open_requests(connection, key, lock=True)
        store.end_requests(connection, [request.id for request in asked], "cancelled")
        for move in live_moves(store.latest_moves(connection, key, None)):
            is_alias = move.target_kind == TargetKind.ALIAS
            store.add_activity(
                connection,
                key=key,
                model=name,
                version=None if is_alias else move.version,
                kind=ActivityType.ALIAS_REMOVED if is_alias else ActivityType.SYSTEM_TRANSITION,
                actor=(call.actor if call else "") or SYSTEM.name,
                target=Target(TargetKind(move.target_kind), move.target if is_alias else ""),
                previous=_before(move),
                client=call.agent if call else "",
                system_comment=_WHY,
            )


def _before(move: Activity) -> str:
    return str(move.version) if move.target_kind == TargetKind.ALIAS else move.target
