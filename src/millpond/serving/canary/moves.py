"""What a canary's moves write, each inside its caller's transaction, under the endpoint's lock."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection

from millpond.identity import acts
from millpond.serving import store as endpoints
from millpond.serving.canary import store
from millpond.serving.canary.domain import Canary, State
from millpond.serving.domain import CREATING, Endpoint, Route
from millpond.serving.events import event
from millpond.serving.notices import announce_canary


def begin(connection: Connection, endpoint: Endpoint, canary: Canary, *, actor: str, now: datetime) -> None:
    """A new canary's first step."""
    store.replace(connection, canary)
    told = f"'{canary.entity}' begins to take over from '{canary.baseline}', with {canary.percent} %."
    _configure(connection, endpoint, canary.routes, now=now)
    _note(connection, endpoint, canary, "begin canary of", told, actor=actor)


def advance(
    connection: Connection, endpoint: Endpoint, canary: Canary, reason: str, *, actor: str, now: datetime
) -> None:
    """The next step."""
    ahead = canary.at_step(canary.step + 1, now)
    store.write(connection, ahead)
    _configure(connection, endpoint, ahead.routes, now=now)
    told = f"'{canary.entity}' gets {ahead.percent} %. {reason}"
    _note(connection, endpoint, canary, "advance canary of", told, actor=actor)


def end(
    connection: Connection, endpoint: Endpoint, canary: Canary, state: State, reason: str, *, actor: str, now: datetime
) -> None:
    """It has ended: with all the traffic, with the routes of before, or with what somebody made of them."""
    ended = replace(canary, state=state, message=reason, ended_at=now)
    if state is State.COMPLETED:
        ended = replace(ended, step=len(canary.steps) - 1)
    store.write(connection, ended)
    routes = ended.routes if state is State.COMPLETED else canary.before
    served = endpoint.upcoming or endpoint.active
    if state is not State.SUPERSEDED and served is not None and served.routes != routes:
        _configure(connection, endpoint, routes, now=now)
    told = f"The canary of '{canary.entity}' is {_WORDS[state]}. {reason}"
    _note(connection, endpoint, canary, "end canary of", told, actor=actor)
    announce_canary(connection, endpoint, told, ended_well=state is State.COMPLETED)


_WORDS = {
    State.COMPLETED: "complete: it has all the traffic",
    State.ROLLED_BACK: "rolled back",
    State.ABORTED: "aborted, and the traffic is as before",
    State.SUPERSEDED: "over",
}


def _configure(connection: Connection, endpoint: Endpoint, routes: Sequence[Route], *, now: datetime) -> None:
    """The endpoint's next configuration, which differs by its routes alone: nothing has to be started for it."""
    base = endpoint.upcoming or endpoint.active
    assert base is not None, "what has a canary serves something"
    version = endpoints.next_version(connection, endpoint.id)
    entities = tuple(replace(each, state=CREATING) for each in base.entities)
    config = replace(base, version=version, entities=entities, routes=tuple(routes), created_at=now, followed=True)
    endpoints.replace_pending(connection, endpoint.id, config, now=now)


def _note(connection: Connection, endpoint: Endpoint, canary: Canary, act: str, told: str, *, actor: str) -> None:
    endpoints.add_events(connection, [(endpoint.id, event(canary.entity, "canary", told))])
    acts.changed(connection, actor, act, "endpoint", endpoint.name, entity=canary.entity, outcome=told)
