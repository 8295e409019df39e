"""What one can do with the record of models: comment, ask for moves and decide about them, look back, roll back."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from millpond.identity import acts
from millpond.identity.access import Act, Securable, allows, require
from millpond.identity.domain import Principal
from millpond.identity.middleware import acting_as
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from millpond.kernel.paging import Page, cut_page, decode_number, page_size
from millpond.registry import store
from millpond.registry.domain import (
    MOVES,
    PRODUCTION,
    Activity,
    ActivityType,
    Live,
    Record,
    Request,
    clean_text,
    live_moves,
    previous_live,
)
from millpond.registry.gates import Gates
from millpond.registry.recorder import FindModel
from millpond.registry.webhooks import Announcer
from millpond.tracking.domain import canonical_model_name
from millpond.tracking.translation import millpond_errors
from millpond.tracking.watch import Because, Target, TargetKind, moving

if TYPE_CHECKING:
    from millpond.tracking.embed import Stores

_ALL = 100_000
"""Moves of one model that a rollback looks at."""


class RegistryService:
    """The record of models, as the principal who asks."""

    def __init__(
        self,
        database: Database,
        find_model: FindModel,
        find_by_key: FindModel,
        stores: Callable[[], "Stores"],
        gates: Gates,
        announcer: Announcer,
    ) -> None:
        """`stores` raises Unavailable while MLflow is being loaded."""
        self._database = database
        self._find_model = find_model
        self._find_by_key = find_by_key
        self._stores = stores
        self._gates = gates
        self._announcer = announcer

    # Comments

    def create_comment(self, principal: Principal, name: str, version: str, comment: str) -> Activity:
        """A comment on a version, by whoever may read it. Raises NotFound, InvalidArgument."""
        clean = clean_text(comment, "comment", required=True)
        with self._database.write() as connection:
            name, number, model = self._version(connection, principal, name, version)
            kind = ActivityType.NEW_COMMENT
            made = self._note(connection, principal, name, model, number, kind, comment=clean)
            self._announcer.commented(connection, model.ids[0], made)
            acts.changed(connection, principal.name, "comment on", model.kind, name, version=number)
        return made

    def update_comment(self, principal: Principal, comment_id: str, comment: str) -> Activity:
        """Change a comment of one's own. Raises NotFound, PermissionDenied, InvalidArgument."""
        clean = clean_text(comment, "comment", required=True)
        with self._database.write() as connection:
            found, model = self._comment(connection, principal, comment_id)
            if found.actor != principal.name:
                raise PermissionDenied(f"The comment is {found.actor}'s, who alone may change it.")
            store.write_comment(connection, comment_id, clean)
            acts.changed(connection, principal.name, "change a comment on", model.kind, found.model)
        return replace(found, comment=clean, updated_at=utc_now())

    def delete_comment(self, principal: Principal, comment_id: str) -> None:
        """Remove a comment of one's own, or of anybody as who manages the model. Raises NotFound, PermissionDenied."""
        with self._database.write() as connection:
            found, model = self._comment(connection, principal, comment_id)
            if found.actor != principal.name:
                require(principal, Act.MANAGE, model)
            store.delete_comment(connection, comment_id)
            acts.changed(connection, principal.name, "delete a comment on", model.kind, found.model)

    def _comment(self, connection: Connection, principal: Principal, comment_id: str) -> tuple[Activity, Securable]:
        gone = NotFound(f"Comment '{comment_id[:80]}' does not exist.")
        found = store.lock_comment(connection, comment_id)
        if found is None:
            raise gone
        comment, key = found
        try:
            model = self._find_by_key(connection, key)
            require(principal, Act.READ, model)
        except NotFound:
            raise gone from None
        return comment, model

    # Requests

    def create_request(
        self, principal: Principal, name: str, version: str, target: Target, *, comment: str | None = None
    ) -> Request:
        """Ask that a version be moved, as whoever may read it. Raises NotFound, InvalidArgument, FailedPrecondition."""
        clean = clean_text(comment, "comment")
        with self._database.write() as connection:
            name, number, model = self._version(connection, principal, name, version)
            store.lock_order(connection)
            asked = store.open_requests(connection, model.ids[0], version=number, target=target, lock=True)
            if any(request.creator == principal.name for request in asked):
                raise FailedPrecondition(f"You have an open request for version {number} to {target} already.")
            made = store.add_request(connection, model.ids[0], number, target, principal.name, clean)
            kind = ActivityType.REQUESTED_TRANSITION
            noted = self._note(connection, principal, name, model, number, kind, target=target, comment=clean)
            self._announcer.requested(connection, model.ids[0], noted)
            acts.changed(connection, principal.name, "request a move of", model.kind, name,
                         version=number, target=str(target))  # fmt: skip
        return made

    def list_requests(self, principal: Principal, name: str, version: str | None = None) -> list[Request]:
        """Open requests for a version, or for all of a model, oldest first. Raises NotFound."""
        with self._database.read() as connection:
            if version is None:
                _, model = self._model(connection, principal, name)
                return store.open_requests(connection, model.ids[0])
            _, number, model = self._version(connection, principal, name, version)
            return store.open_requests(connection, model.ids[0], version=number)

    def approve_request(
        self,
        principal: Principal,
        name: str,
        version: str,
        target: Target,
        *,
        comment: str | None = None,
        archive_existing: bool = False,
    ) -> Activity:
        """Approve the open requests for a move; with the last approval that a policy wants, the version moves.

        Raises NotFound without a request, PermissionDenied, FailedPrecondition when a gate keeps the version.
        """
        clean = clean_text(comment, "comment")
        with self._database.write() as connection:
            name, number, model = self._version(connection, principal, name, version)
            require(principal, self._act_for(connection, name, number, target), model)
            asked = self._asked(connection, model, number, target)
            self._gates.require_may_approve(connection, principal, model, name, number, target, asked)
            store.approve(connection, [request.id for request in asked], principal.name, clean)
            kind = ActivityType.APPROVED_REQUEST
            noted = self._note(connection, principal, name, model, number, kind, target=target, comment=clean)
            acts.changed(connection, principal.name, "approve a move of", model.kind, name,
                         version=number, target=str(target))  # fmt: skip
            missing = self._gates.approvals_missing(connection, model, name, number, target)
        if missing == 0:
            self._move(principal, name, number, target, Because(reason=clean), archive_existing=archive_existing)
            with self._database.write() as connection:  # it may have been there already
                store.end_requests(connection, [request.id for request in asked], "applied")
        return noted

    def reject_request(
        self, principal: Principal, name: str, version: str, target: Target, *, comment: str | None = None
    ) -> Activity:
        """Close the open requests for a move. Raises NotFound, PermissionDenied."""
        clean = clean_text(comment, "comment")
        with self._database.write() as connection:
            name, number, model = self._version(connection, principal, name, version)
            require(principal, self._act_for(connection, name, number, target), model)
            asked = self._asked(connection, model, number, target)
            store.end_requests(connection, [request.id for request in asked], "rejected")
            acts.changed(connection, principal.name, "reject a move of", model.kind, name,
                         version=number, target=str(target))  # fmt: skip
            kind = ActivityType.REJECTED_REQUEST
            return self._note(connection, principal, name, model, number, kind, target=target, comment=clean)

    def cancel_request(
        self, principal: Principal, name: str, version: str, target: Target, *, creator: str, comment: str | None = None
    ) -> Activity:
        """Take back one's own request, or anybody's as who manages the model. Raises NotFound, PermissionDenied."""
        clean = clean_text(comment, "comment")
        with self._database.write() as connection:
            name, number, model = self._version(connection, principal, name, version)
            asked = self._asked(connection, model, number, target)
            theirs = [request for request in asked if request.creator == creator]
            if not theirs:
                raise NotFound(f"{creator[:80]} has no open request for version {number} to {target}.")
            if creator != principal.name:
                require(principal, Act.MANAGE, model)
            store.end_requests(connection, [request.id for request in theirs], "cancelled")
            acts.changed(connection, principal.name, "cancel a request to move", model.kind, name,
                         version=number, target=str(target))  # fmt: skip
            kind = ActivityType.CANCELLED_REQUEST
            return self._note(connection, principal, name, model, number, kind, target=target, comment=clean)

    def actions_on(self, principal: Principal, name: str, request: Request) -> tuple[str, ...]:
        """What the principal may do about a request, as Databricks names it."""
        with self._database.read() as connection:
            name, model = self._model(connection, principal, name)
            act = self._act_for(connection, name, request.version, request.target)
        found = ("APPROVE_TRANSITION_REQUEST", "REJECT_TRANSITION_REQUEST") if allows(principal, act, model) else ()
        may_cancel = request.creator == principal.name or allows(principal, Act.MANAGE, model)
        return (*found, "CANCEL_TRANSITION_REQUEST") if may_cancel else found

    def _asked(self, connection: Connection, model: Securable, version: int, target: Target) -> list[Request]:
        store.lock_order(connection)
        asked = store.open_requests(connection, model.ids[0], version=version, target=target, lock=True)
        if not asked:
            raise NotFound(f"Version {version} of model '{model.name}' has no open request to {target}.")
        return asked

    # Moves

    def move(
        self,
        principal: Principal,
        name: str,
        version: str,
        target: Target,
        *,
        reason: str | None = None,
        override: bool = False,
        archive_existing: bool = False,
    ) -> Activity:
        """Move a version; with `override` an administrator moves it past the gates, and says why.

        Raises NotFound, PermissionDenied, FailedPrecondition naming what failed.
        """
        why = clean_text(reason, "reason", required=override)
        with self._database.read() as connection:
            name, number, model = self._version(connection, principal, name, version)
        because = Because(reason=why, override=override)
        self._move(principal, name, number, target, because, archive_existing=archive_existing)
        with self._database.read() as connection:
            return store.list_activities(connection, model.ids[0], version=number, kinds=MOVES, limit=1)[0]

    def rollback(self, principal: Principal, name: str, target: Target, *, reason: str | None = None) -> Activity:
        """Move the version back to an alias or stage that was there before the present one.

        Raises FailedPrecondition when there was none, PermissionDenied.
        """
        why = clean_text(reason, "reason") or "Rollback."
        with self._database.read() as connection:
            name, model = self._model(connection, principal, name)
            require(principal, _act_at(target), model)
            moves = store.list_activities(connection, model.ids[0], kinds=MOVES, limit=_ALL)
            current = store.holder(connection, name, target)
            goal = previous_live(moves, target, store.version_numbers(connection, name))
        if goal is None:
            raise FailedPrecondition(f"No other version of model '{name}' that still exists has been {target} before.")
        because = Because(reason=why, rollback=True, rolled_from=current)
        self._move(principal, name, goal, target, because, archive_existing=target.kind is TargetKind.STAGE)
        with self._database.read() as connection:
            return store.list_activities(connection, model.ids[0], version=goal, kinds=MOVES, limit=1)[0]

    def _move(
        self, principal: Principal, name: str, version: int, target: Target, why: Because, *, archive_existing: bool
    ) -> None:
        with self._acting(principal) as registry, moving(why):
            if target.kind is TargetKind.ALIAS:
                registry.set_registered_model_alias(name, target.name, str(version))
            else:
                archive = archive_existing and target.name in {"Staging", PRODUCTION}
                registry.transition_model_version_stage(name, str(version), target.name, archive)

    @contextmanager
    def _acting(self, principal: Principal) -> Iterator[Any]:
        with acting_as(principal), millpond_errors():
            yield self._stores().registry

    # Looking back

    def activities(
        self,
        principal: Principal,
        name: str,
        *,
        version: str | None = None,
        max_results: int | None = None,
        page_token: str | None = None,
    ) -> Page[Activity]:
        """All that was done to a model or a version, newest first. Raises NotFound."""
        with self._database.read() as connection:
            if version is None:
                number, model = None, self._model(connection, principal, name)[1]
            else:
                _, number, model = self._version(connection, principal, name, version)
            return _page(connection, model.ids[0], number, (), max_results, page_token)

    def history(
        self,
        principal: Principal,
        name: str,
        *,
        at: datetime | None = None,
        max_results: int | None = None,
        page_token: str | None = None,
    ) -> Record:
        """A model's moves, and what had its aliases and active stages at a moment (now) and was served then."""
        moment = at or utc_now()
        with self._database.read() as connection:
            name, model = self._model(connection, principal, name)
            latest = live_moves(store.latest_moves(connection, model.ids[0], at))
            served = store.list_served(connection, model.ids[0], moment)
            page = _page(connection, model.ids[0], None, MOVES, max_results, page_token)
        live = tuple(
            Live(move=move, served_by=tuple(each for each in served if each.version == move.version)) for move in latest
        )
        return Record(model=name, at=at, live=live, moves=page.items, next_page_token=page.next_page_token)

    def mover(self, name: str, target: Target, version: int) -> str | None:
        """Who let an alias or stage name a version; None where that is not on record. For the server itself."""
        with self._database.read() as connection:
            try:
                model = self._find_model(connection, canonical_model_name(name))
            except NotFound:
                return None
            return store.mover(connection, model.ids[0], target, version)

    # What all begin with

    def _model(self, connection: Connection, principal: Principal, name: str) -> tuple[str, Securable]:
        name = canonical_model_name(name)
        if not isinstance(name, str) or not name or "\0" in name:
            raise InvalidArgument("A model's name is needed.")
        model = self._find_model(connection, name)
        require(principal, Act.READ, model)
        return name, model

    def _version(
        self, connection: Connection, principal: Principal, name: str, version: str
    ) -> tuple[str, int, Securable]:
        name, model = self._model(connection, principal, name)
        number = int(version) if version.isdecimal() and len(version) < 10 else 0
        if store.find_version(connection, name, number) is None:
            raise NotFound(f"Version '{version[:80]}' of model '{name}' does not exist.")
        return name, number, model

    def _act_for(self, connection: Connection, name: str, version: int, target: Target) -> Act:
        """What somebody must be allowed to do to a model to move a version."""
        row = store.find_version(connection, name, version)
        leaves_production = target.kind is TargetKind.STAGE and row is not None and row.current_stage == PRODUCTION
        return Act.STAGE_PRODUCTION if leaves_production else _act_at(target)

    def _note(
        self,
        connection: Connection,
        principal: Principal,
        name: str,
        model: Securable,
        version: int,
        kind: ActivityType,
        *,
        target: Target | None = None,
        comment: str = "",
    ) -> Activity:
        return store.add_activity(
            connection,
            key=model.ids[0],
            model=name,
            version=version,
            kind=kind,
            actor=principal.name,
            target=target,
            previous=_stage_of(connection, name, version) if target and target.kind is TargetKind.STAGE else "",
            comment=comment,
        )


def _act_at(target: Target) -> Act:
    if target.kind is TargetKind.ALIAS:
        return Act.WRITE
    return Act.STAGE_PRODUCTION if target.name == PRODUCTION else Act.STAGE


def _stage_of(connection: Connection, name: str, version: int) -> str:
    row = store.find_version(connection, name, version)
    return row.current_stage if row else ""


def _page(
    connection: Connection,
    key: str,
    version: int | None,
    kinds: tuple[ActivityType, ...],
    max_results: int | None,
    page_token: str | None,
) -> Page[Activity]:
    size, before = page_size(max_results), decode_number(page_token)
    rows = store.list_activities(connection, key, version=version, kinds=kinds, before=before, limit=size + 1)
    return cut_page(rows, size, lambda activity: str(activity.sequence))
