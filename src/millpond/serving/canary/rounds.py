"""Rounds that look at all canaries under way: they write down what was counted, decide, and act on it.

All of it is one transaction for each endpoint, under its lock. Several servers look in turn, each with its own counts.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from sqlalchemy import Connection

from millpond.identity.access import Act, allows
from millpond.identity.domain import SYSTEM, Principal
from millpond.journal import calls
from millpond.journal.calls import Call
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import MillpondError
from millpond.kernel.logs import get_logger
from millpond.serving import store as endpoints
from millpond.serving.canary import moves, store
from millpond.serving.canary.counting import CanaryCounts
from millpond.serving.canary.domain import UNDER_WAY, Canary, Counts, Move, Seen, State, decide
from millpond.serving.domain import Endpoint
from millpond.serving.shadowing import ShadowReports

log = get_logger(__name__)


class CanaryRounds:
    """Takes canaries on their way. All of it blocks."""

    def __init__(
        self,
        *,
        database: Database,
        counts: CanaryCounts,
        shadows: ShadowReports,
        find_principal: Callable[[str], Principal],
    ) -> None:
        self._database = database
        self._counts = counts
        self._shadows = shadows
        self._find_principal = find_principal
        self._versions: dict[str, int] = {}
        """The configuration of each endpoint that a round has seen last."""
        self._copies: dict[str, tuple[int, int]] = {}
        """Of each shadow how many copies were compared and were different, as far as it is written down."""

    def look(self) -> list[str]:
        """One round; returns the ids of the endpoints whose configuration has changed, here or by another server."""
        with self._database.read() as connection:
            under_way = store.list_under_way(connection)
        self._counts.watch(under_way)
        gone = self._versions.keys() - set(under_way)
        for endpoint_id in gone:
            del self._versions[endpoint_id]
            self._copies.pop(endpoint_id, None)
        return [*gone, *(each for each in under_way if self._try(each))]

    def _try(self, endpoint_id: str) -> bool:
        try:
            return self._look_at(endpoint_id)
        except Exception as error:  # the boundary of a work item: one endpoint keeps no other from going on
            log.error("a canary could not be looked at", endpoint_id=endpoint_id, exc_info=error)
            return False

    def _look_at(self, endpoint_id: str) -> bool:
        looked = self._counts.look(endpoint_id)
        with self._database.write() as connection:
            endpoint = endpoints.lock_endpoint_by_id(connection, endpoint_id)
            canary = store.find(connection, endpoint_id)
            if endpoint is None or canary is None or canary.state not in UNDER_WAY:
                return True
            copies = self._copies_of(canary)
            told = self._told(canary, looked, copies)
            counted = replace(canary, counts=canary.counts.plus(told))
            version = self._act(connection, endpoint, counted, is_news=told != Counts())
        self._counts.taken(endpoint_id, looked)
        self._copies[endpoint_id] = copies
        before, self._versions[endpoint_id] = self._versions.get(endpoint_id), version
        return before != version

    def _copies_of(self, canary: Canary) -> tuple[int, int]:
        tally = self._shadows.tally(canary.endpoint_id, canary.entity)
        different = tally.different + tally.failed
        return tally.same + different, different

    def _told(self, canary: Canary, looked: Mapping[str, Seen], copies: tuple[int, int]) -> Counts:
        """What this server has seen since it wrote last."""
        before = self._copies.get(canary.endpoint_id, copies)
        if copies[0] < before[0]:  # the shadow was set anew
            before = (0, 0)
        return Counts(
            canary=looked.get(canary.entity, Seen()),
            baseline=looked.get(canary.baseline, Seen()),
            compared=copies[0] - before[0],
            different=max(0, copies[1] - before[1]),
        )

    def _act(self, connection: Connection, endpoint: Endpoint, canary: Canary, *, is_news: bool) -> int:
        """Do what is decided; the version of the configuration that there is then."""
        now = utc_now()
        verdict = decide(canary, endpoint, now)
        if verdict.move is Move.WAIT:
            if is_news:
                store.write(connection, canary)
        elif verdict.move in {Move.ADVANCE, Move.COMPLETE} and not self._may(canary, endpoint):
            reason = (
                f"{canary.creator}, who began it, may not manage the endpoint any more; somebody who may resumes it."
            )
            store.write(connection, replace(canary, state=State.PAUSED, message=reason))
        else:
            actor = self._actor(canary).name
            call = Call(door="background", act="canary", kind="endpoint", name=endpoint.name, actor=actor)
            with calls.during(call):
                if verdict.move is Move.ADVANCE:
                    moves.advance(connection, endpoint, canary, verdict.reason, actor=actor, now=now)
                else:
                    moves.end(connection, endpoint, canary, _ENDS[verdict.move], verdict.reason, actor=actor, now=now)
                call.end(calls.OK)
        found = endpoints.find_endpoint_by_id(connection, endpoint.id)
        config = (found.upcoming or found.active) if found else None
        return config.version if config else 0

    def _may(self, canary: Canary, endpoint: Endpoint) -> bool:
        return allows(self._actor(canary), Act.MANAGE, endpoint.securable)

    def _actor(self, canary: Canary) -> Principal:
        """Who began it, with the rights of now; the system for somebody who is gone."""
        try:
            return self._find_principal(canary.creator)
        except MillpondError:
            return replace(SYSTEM, is_admin=False)


_ENDS = {
    Move.COMPLETE: State.COMPLETED,
    Move.ROLL_BACK: State.ROLLED_BACK,
    Move.GIVE_WAY: State.SUPERSEDED,
}
