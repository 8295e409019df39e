"""What this room does in MLflow's transactions: it keeps each move, asks for its proof, and tells webhooks."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from sqlalchemy import Connection, Table, update

from millpond.identity import acts
from millpond.identity.access import Securable
from millpond.identity.domain import Principal
from millpond.journal import calls
from millpond.kernel.errors import NotFound
from millpond.kernel.ids import new_id
from millpond.registry import store
from millpond.registry.domain import ActivityType, Request
from millpond.tracking.domain import is_three_level, model_key
from millpond.tracking.watch import Happening, RegistryEvent, Target, TargetKind, because

FindModel = Callable[[Connection, str], Securable]
Announce = Callable[[Connection, Principal, str, RegistryEvent], None]
"""Tells whoever wants to know: the model's key, and what happened."""

Asked = Callable[[Principal, str, str], Sequence[Mapping[str, Any]]]
"""The open requests for a version, to be shown."""


class Gate(Protocol):
    """Who lets versions pass."""

    def admitted(self, principal: Principal, model: str, version: int, target: Target) -> AbstractContextManager[None]:
        """See `tracking.watch.RegistryWatch`."""

    def require_unguarded(self, connection: Connection, securable: Securable, model: str) -> None:
        """Pass unless the model, under its new name, has what its new schema guards. Raises FailedPrecondition."""

    def proof(self, connection: Connection, securable: Securable, version: int, target: Target) -> Mapping[str, Any]:
        """What let the version pass, in the transaction of the move. Raises FailedPrecondition when nothing did."""


class Recorder:
    """The registry's `RegistryWatch`."""

    def __init__(
        self, find_model: FindModel, gate: Gate, announce: Announce, asked: Asked, keyed: tuple[Table, ...]
    ) -> None:
        """`keyed` are all tables of this room that have a `model_key`."""
        self._asked = asked
        self._find_model = find_model
        self._gate = gate
        self._announce = announce
        self._keyed = keyed

    def admitted(self, principal: Principal, model: str, version: int, target: Target) -> AbstractContextManager[None]:
        """A block in which the version may be moved there. Raises FailedPrecondition."""
        return self._gate.admitted(principal, model, version, target)

    def open_requests(self, principal: Principal, model: str, version: str) -> Sequence[Mapping[str, Any]]:
        """The open requests to move a version to another stage, as Databricks' Activity."""
        return self._asked(principal, model, version)

    def happened(self, connection: Connection, principal: Principal, event: RegistryEvent) -> None:
        """Keep it, in its transaction."""
        if event.what is Happening.MODEL_RENAMED:
            self._renamed(connection, event)
            return
        securable = self._find_model(connection, event.model)
        if event.what in {Happening.STAGE_CHANGED, Happening.ALIAS_SET, Happening.ALIAS_REMOVED}:
            self._moved(connection, principal, securable, event)
        if event.what is Happening.MODEL_DELETED:
            self._deleted(connection, event.model, securable.ids[0])
        self._announce(connection, principal, securable.ids[0], event)

    def _moved(self, connection: Connection, principal: Principal, securable: Securable, event: RegistryEvent) -> None:
        store.lock_order(connection)
        why, key = because(), securable.ids[0]
        kind = TargetKind.STAGE if event.what is Happening.STAGE_CHANGED else TargetKind.ALIAS
        target = Target(kind, event.name)
        meant = why.moves == (event.model, event.version)
        evidence: dict[str, Any] = {}
        if event.version is not None and event.name and (meant or not _is_consequence(target)):
            evidence = dict(self._gate.proof(connection, securable, event.version, target))
            asked = store.open_requests(connection, key, version=event.version, target=target, lock=True)
            store.end_requests(connection, [request.id for request in asked], "applied")
            evidence |= _said(asked)
        if why.rollback and meant:
            pointed = event.previous if kind is TargetKind.ALIAS else ""  # a stage's is the version's own, before
            evidence |= {"rollback": True, "from_version": int(pointed or why.rolled_from or 0)}
        call = calls.current()
        store.add_activity(
            connection,
            key=key,
            model=event.model,
            version=event.version if event.version is not None else None,
            kind=_type_of(event, meant=meant),
            actor=principal.name,
            target=target,
            previous=event.previous,
            client=call.agent if call else "",
            comment=why.reason if meant or event.what is Happening.ALIAS_REMOVED else "",
            system_comment=_consequence(event, meant=meant, moves=why.moves),
            evidence=evidence,
        )
        acts.changed(connection, principal.name, _ACTS[event.what], securable.kind, event.model,
                     object_id=key, target=str(target), version=event.version or 0, previous=event.previous,
                     overridden=bool(evidence.get("overridden")), reason=why.reason)  # fmt: skip

    def _renamed(self, connection: Connection, event: RegistryEvent) -> None:
        if is_three_level(event.model):
            self._gate.require_unguarded(connection, self._find_model(connection, event.name), event.name)
        else:
            self._change_key(connection, model_key(event.model), model_key(event.name))

    def _deleted(self, connection: Connection, model: str, key: str) -> None:
        """A model of the workspace frees its name: what comes under it later has a record of its own."""
        asked = store.open_requests(connection, key, lock=True)
        store.end_requests(connection, [request.id for request in asked], "cancelled")
        if not is_three_level(model):
            self._change_key(connection, key, f"deleted/{new_id()}")

    def _change_key(self, connection: Connection, old: str, new: str) -> None:
        for table in self._keyed:
            column = table.c.scope_key if "scope_key" in table.c and "model_key" not in table.c else table.c.model_key
            connection.execute(update(table).where(column == old).values({column.name: new}))


class Serving:
    """Keeps which endpoint serves which version since when, for serving to call in its own transactions."""

    def __init__(self, find_model: FindModel) -> None:
        self._find_model = find_model

    def __call__(
        self, connection: Connection, endpoint_id: str, endpoint: str, models: Sequence[tuple[str, str]]
    ) -> None:
        """From now on the endpoint serves exactly these models and versions."""
        now_serving = []
        for name, version in models:
            try:
                now_serving.append((self._find_model(connection, name).ids[0], int(version)))
            except NotFound:  # deleted while it was brought up
                continue
        store.write_served(connection, endpoint_id, endpoint, now_serving)


_ACTS = {
    Happening.STAGE_CHANGED: "transition stage of",
    Happening.ALIAS_SET: "set alias of",
    Happening.ALIAS_REMOVED: "remove alias of",
}


def _is_consequence(target: Target) -> bool:
    """Whether it may happen to a version by what is done to another."""
    return target == Target(TargetKind.STAGE, "Archived")


def _type_of(event: RegistryEvent, *, meant: bool) -> ActivityType:
    if event.what is Happening.ALIAS_SET:
        return ActivityType.ALIAS_SET
    if event.what is Happening.ALIAS_REMOVED:
        return ActivityType.ALIAS_REMOVED
    return ActivityType.APPLIED_TRANSITION if meant and event.name else ActivityType.SYSTEM_TRANSITION


def _consequence(event: RegistryEvent, *, meant: bool, moves: tuple[str, int] | None) -> str:
    if event.what is not Happening.STAGE_CHANGED or (meant and event.name):
        return ""
    if not event.name:
        return "The version was deleted."
    return f"Version {moves[1]} took its place." if moves else "Moved together with something else."


def _said(asked: list[Request]) -> dict[str, Any]:
    """Who asked for the move and who approved it."""
    if not asked:
        return {}
    approved = sorted({approver for request in asked for approver in request.approvers})
    return {"requested_by": sorted({request.creator for request in asked}), "approved_by": approved}
