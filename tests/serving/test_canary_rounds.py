"""Rounds of several servers on one database, without a server: what is counted adds up, and each step is taken once."""

from dataclasses import replace

import pytest

from millpond.identity.domain import Principal, PrincipalKind
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import FailedPrecondition, NotFound
from millpond.notifications.outbox import told_about
from millpond.serving import store as endpoints
from millpond.serving.canary import moves, store
from millpond.serving.canary.counting import CanaryCounts
from millpond.serving.canary.domain import Asked, Canary, Guardrails, State, begun
from millpond.serving.canary.rounds import CanaryRounds
from millpond.serving.canary.service import CanaryService
from millpond.serving.domain import Deployment, Endpoint, EntityState, Notifications, Route, Shadow, Update
from millpond.serving.shadowing import ShadowReports
from tests.serving.test_domain import READY, A, config, endpoint, entity

ME = Principal(id="1", name="me", kind=PrincipalKind.USER, is_admin=False)
ASKED = Asked(entity="b", steps=(10, 100), step_minutes=0, guardrails=Guardrails(min_requests=100, max_different=0.1))
BOTH = config(1, replace(A, state=READY), entity("b", version="2", state=READY))


class Server:
    """What one server sees of the endpoint, and its rounds."""

    def __init__(self, database: Database, who: Principal | None = ME) -> None:
        self.counts, self.shadows = CanaryCounts(), ShadowReports()
        self._who = who
        self._rounds = CanaryRounds(
            database=database, counts=self.counts, shadows=self.shadows, find_principal=self._find
        )
        self._rounds.look()

    def _find(self, name: str) -> Principal:
        if self._who is None:
            raise NotFound(f"{name} is gone.")
        return self._who

    def answer(self, entity: str, requests: int, *, status: int = 200) -> None:
        for _ in range(requests):
            self.counts.count("1", entity, status, 0.01)

    def compare(self, same: int) -> None:
        tally = self.shadows.tally("1", "b")
        tally.same += same

    def look(self) -> list[str]:
        return self._rounds.look()


@pytest.fixture
def begin(database: Database) -> Canary:
    """An endpoint of "me" in the first step of a canary."""
    before = replace(endpoint(None, BOTH, Update.IN_PROGRESS), shadows=(Shadow(entity="b", percent=100),))
    with database.write() as connection:
        endpoints.insert_endpoint(connection, before)
        told = Notifications(on_update_success=("good@example.com",), on_update_failure=("bad@example.com",))
        endpoints.write_notifications(connection, "1", told, now=utc_now())
    up(database)
    now = utc_now()
    with database.write() as connection:
        found = endpoints.lock_endpoint(connection, name="e")
        assert found is not None
        made = begun(found, ASKED, "me", now)
        moves.begin(connection, found, made, actor="me", now=now)
    up(database)
    return made


def up(database: Database) -> None:
    """What is coming up is ready."""
    with database.write() as connection:
        found = endpoints.find_endpoint_by_id(connection, "1")
        if found is not None and found.pending is not None:
            assert endpoints.promote(connection, "1", found.pending.version)


def state(database: Database) -> tuple[Canary, Endpoint]:
    with database.read() as connection:
        canary, found = store.find(connection, "1"), endpoints.find_endpoint_by_id(connection, "1")
    assert canary is not None
    assert found is not None
    return canary, found


def mails(database: Database) -> list[tuple[str, str]]:
    with database.read() as connection:
        found = told_about(connection, "endpoint:1")
    return [(each.target, each.event) for each in found if "canary" in each.event]


def test_what_two_servers_count_adds_up_and_they_step_once(database: Database, begin: Canary) -> None:
    one, two = Server(database), Server(database)
    for each in (one, two):
        each.answer("b", 50)
        each.answer("a", 450)
        each.compare(60)
    one.look()
    canary, _ = state(database)
    assert (canary.step, canary.counts.canary.requests, canary.counts.compared) == (0, 50, 60)
    assert two.look() == ["1"], "its own configuration has changed"
    canary, found = state(database)
    assert (canary.step, canary.percent, found.update) == (1, 100, Update.IN_PROGRESS)
    assert one.look() == ["1"], "and the other server hears of it"
    one.look()
    two.look()
    assert state(database)[0].step == 1, "nothing is decided before the step is up"
    up(database)

    third = Server(database)  # one of them was killed and comes back with nothing
    third.answer("b", 100)
    third.look()
    canary, found = state(database)
    assert (canary.state, canary.counts.baseline.requests) == (State.COMPLETED, 900)
    assert found.active is not None
    assert found.active.routes == (Route(entity="a", percent=0), Route(entity="b", percent=100))
    assert mails(database) == [("good@example.com", "endpoint.canary_completed")]
    assert one.look() == ["1"]
    assert one.look() == []
    one.answer("b", 5)
    assert one.counts.look("1") == {}, "nothing is counted any more"


def test_what_fails_is_taken_back_and_told(database: Database, begin: Canary) -> None:
    server = Server(database)
    server.answer("a", 100)
    server.answer("b", 12, status=500)
    server.look()
    canary, found = state(database)
    assert (canary.state, canary.message) == (
        State.ROLLED_BACK, "100 % of its requests fail, against 0 % of 'a'.",
    )  # fmt: skip
    assert found.upcoming is not None
    assert found.upcoming.routes == BOTH.routes
    assert mails(database) == [("bad@example.com", "endpoint.canary_ended")]


@pytest.mark.parametrize("who", [None, replace(ME, name="somebody")])
def test_it_pauses_when_who_began_it_may_not_go_on(database: Database, begin: Canary, who: Principal | None) -> None:
    server = Server(database, who)
    server.answer("a", 100)
    server.answer("b", 100)
    server.compare(100)
    server.look()
    canary, _ = state(database)
    assert (canary.state, canary.step) == (State.PAUSED, 0)
    assert "me, who began it, may not manage the endpoint any more" in canary.message
    server.answer("b", 200, status=500)
    server.look()
    assert state(database)[0].state is State.ROLLED_BACK, "that takes no rights"


def test_whoever_changes_the_configuration_keeps_it(database: Database, begin: Canary) -> None:
    theirs = replace(BOTH, routes=(Route(entity="a", percent=50), Route(entity="b", percent=50)))
    with database.write() as connection:
        version = endpoints.next_version(connection, "1")
        endpoints.replace_pending(connection, "1", replace(theirs, version=version), now=utc_now())
    server = Server(database)
    server.look()
    assert state(database)[0].state is State.RUNNING, "it may fail"
    up(database)
    server.look()
    canary, found = state(database)
    assert (canary.state, found.upcoming) == (State.SUPERSEDED, None)
    assert found.active is not None
    assert found.active.routes == theirs.routes


def test_what_does_not_answer_is_not_promoted_by_hand(database: Database, begin: Canary) -> None:
    """Its configuration would fail, and the canary be complete all the same."""
    service = CanaryService(database, lambda _: None)
    active = state(database)[1].active
    assert active is not None
    for deployment in (Deployment.FAILED, Deployment.RECOVERING):
        with database.write() as connection:
            endpoints.write_states(connection, "1", {(active.version, "b"): EntityState(deployment=deployment)})
        with pytest.raises(FailedPrecondition, match=f"'b' is {deployment.value}"):
            service.promote(ME, "e")
        canary, found = state(database)
        assert (canary.state, found.upcoming) == (State.RUNNING, None)
    with database.write() as connection:
        endpoints.write_states(connection, "1", {(active.version, "b"): READY})
    assert service.promote(ME, "e").canary.state is State.COMPLETED
    up(database)
    after = state(database)[1].active
    assert after is not None
    assert after.routes == (Route(entity="a", percent=0), Route(entity="b", percent=100))


def test_an_endpoint_takes_its_canary_along(database: Database, begin: Canary) -> None:
    server = Server(database)
    with database.write() as connection:
        endpoints.delete_endpoint(connection, "1")
    server.look()
    with database.read() as connection:
        assert store.find(connection, "1") is None
