"""What one can do with canaries: begin one, look at it, pause it, end it. All of it blocks."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection

from millpond.identity import acts
from millpond.identity.access import Act
from millpond.identity.domain import Principal
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import Conflict, FailedPrecondition, NotFound
from millpond.serving import store as endpoints
from millpond.serving.canary import moves, store
from millpond.serving.canary.domain import UNDER_WAY, Asked, Canary, State, begun, decide, is_of
from millpond.serving.domain import Deployment, Endpoint, Update
from millpond.serving.events import event
from millpond.serving.reach import get_endpoint, lock_endpoint

_PAUSED = "It is paused by {}."


@dataclass(frozen=True, kw_only=True)
class Report:
    """A canary as it is now."""

    canary: Canary
    outlook: str
    """What it waits for, or how it ended."""


class CanaryService:
    """Canaries, for users."""

    def __init__(self, database: Database, notify: Callable[[str], None]) -> None:
        """`notify` says, of an endpoint's id, that its configuration has changed."""
        self._database = database
        self._notify = notify

    def begin(self, principal: Principal, name: str, asked: Asked) -> Report:
        """Let a served entity take over in steps.

        Raises NotFound, PermissionDenied, InvalidArgument, FailedPrecondition, and Conflict while another canary or an
        update is under way.
        """
        with self._database.write() as connection:
            endpoint = lock_endpoint(connection, principal, name)
            known = store.find(connection, endpoint.id)
            if known is not None and known.state in UNDER_WAY:
                raise Conflict(f"Endpoint '{name}' has a canary under way, '{known.entity}'. Abort it first.")
            if endpoint.update is Update.IN_PROGRESS:
                raise Conflict(f"Endpoint '{name}' is being updated; wait until that update has ended.")
            now = utc_now()
            moves.begin(
                connection, endpoint, begun(endpoint, asked, principal.name, now), actor=principal.name, now=now
            )
        return self._changed(principal, endpoint)

    def get(self, principal: Principal, name: str) -> Report:
        """The endpoint's last canary. Raises NotFound where there was none."""
        found = self.find(principal, name)
        if found is None:
            raise NotFound(f"Endpoint '{name[:80]}' has no canary.")
        return found

    def find(self, principal: Principal, name: str) -> Report | None:
        """The same, or None. Raises NotFound for an endpoint that is not there."""
        endpoint = get_endpoint(self._database, principal, name, Act.SEE)
        with self._database.read() as connection:
            canary = store.find(connection, endpoint.id)
        if canary is None:
            return None
        under_way = canary.state in UNDER_WAY
        outlook = decide(canary, endpoint, utc_now()).reason if under_way else canary.message
        return Report(canary=canary, outlook=outlook)

    def pause(self, principal: Principal, name: str) -> Report:
        """Take no further step until it is resumed. Raises as `abort`."""

        def paused(connection: Connection, endpoint: Endpoint, canary: Canary, _now: datetime) -> None:
            held = replace(canary, state=State.PAUSED, message=_PAUSED.format(principal.name))
            _write(connection, endpoint, held, principal, "pause canary of")

        return self._change(principal, name, paused)

    def resume(self, principal: Principal, name: str) -> Report:
        """Go on, from now on with the rights of who says so. Raises as `abort`."""

        def resumed(connection: Connection, endpoint: Endpoint, canary: Canary, _now: datetime) -> None:
            going = replace(canary, state=State.RUNNING, message="", creator=principal.name)
            _write(connection, endpoint, going, principal, "resume canary of")

        return self._change(principal, name, resumed)

    def promote(self, principal: Principal, name: str) -> Report:
        """Give it all the traffic now. Raises as `abort`, also FailedPrecondition for one that does not answer."""
        return self._end(principal, name, State.COMPLETED, "promoted")

    def abort(self, principal: Principal, name: str) -> Report:
        """End it, with the traffic as before. Raises NotFound, PermissionDenied, FailedPrecondition without one."""
        return self._end(principal, name, State.ABORTED, "aborted")

    def _end(self, principal: Principal, name: str, state: State, word: str) -> Report:
        def ended(connection: Connection, endpoint: Endpoint, canary: Canary, now: datetime) -> None:
            config = endpoint.upcoming or endpoint.active
            if config is None or not is_of(canary, config):
                raise Conflict(f"The configuration of endpoint '{name}' is being changed, which ends its canary.")
            if state is State.COMPLETED:
                _require_ready(endpoint, canary)
            reason = f"{principal.name} {word} it at {canary.percent} %."
            moves.end(connection, endpoint, canary, state, reason, actor=principal.name, now=now)

        return self._change(principal, name, ended)

    def _change(
        self, principal: Principal, name: str, work: Callable[[Connection, Endpoint, Canary, datetime], None]
    ) -> Report:
        with self._database.write() as connection:
            endpoint = lock_endpoint(connection, principal, name)
            canary = store.find(connection, endpoint.id)
            if canary is None or canary.state not in UNDER_WAY:
                raise FailedPrecondition(f"Endpoint '{name}' has no canary under way.")
            work(connection, endpoint, canary, utc_now())
        return self._changed(principal, endpoint)

    def _changed(self, principal: Principal, endpoint: Endpoint) -> Report:
        self._notify(endpoint.id)
        return self.get(principal, endpoint.name)


def _require_ready(endpoint: Endpoint, canary: Canary) -> None:
    """The traffic moves to what answers only. Raises FailedPrecondition."""
    served = endpoint.active.entity(canary.entity) if endpoint.active else None
    if served is None or served.state.deployment is not Deployment.READY:
        state = served.state.deployment.value if served else "not served"
        raise FailedPrecondition(
            f"'{canary.entity}' is {state}, so it cannot have all the traffic. Promote it when it is "
            f"{Deployment.READY.value}, or abort it."
        )


def _write(connection: Connection, endpoint: Endpoint, canary: Canary, principal: Principal, act: str) -> None:
    store.write(connection, canary)
    told = canary.message or f"It goes on, by {principal.name}."
    endpoints.add_events(connection, [(endpoint.id, event(canary.entity, "canary", told))])
    acts.changed(connection, principal.name, act, "endpoint", endpoint.name, entity=canary.entity)
