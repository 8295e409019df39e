"""Calls: who asks, from where and through which door, and what is written down about it.

A door begins a `Call` and ends it with its outcome; in between, services say what they change (`changed`) and refuse
(`refused`), wherever they are, and the event knows the call. A call makes one event: that of its change, if it made
one and went well; else one with its outcome, which names what was reached and what was refused.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection

from millpond.journal import outbox
from millpond.journal.domain import OK, REFUSED, Event, Object
from millpond.journal.spool import Spool
from millpond.kernel.ids import new_id
from millpond.kernel.logs import get_logger

log = get_logger(__name__)
_FIRST_ERROR = 400
_MOST_OBJECTS = 50
"""As many are told of one call."""
PATH = "path"
"""The kind of a call that is a request for a path: where it changed something, the change says more than it."""
_call: ContextVar["Call | None"] = ContextVar("millpond_call", default=None)
_spools: list[Spool] = []
"""The spool of this process, once it has one; a process that has none logs."""


@dataclass(slots=True, kw_only=True)
class Call:
    """One request of a client, as far as events tell it."""

    door: str
    act: str
    kind: str
    name: str
    address: str = ""
    agent: str = ""
    session: str = ""
    request: str = field(default_factory=new_id)
    actor_id: str = ""
    actor: str = ""
    ends: bool = True
    """Whether its end will be told; a websocket goes on for hours, so its events are written at once."""
    outcome: tuple[int, str] | None = None
    """Status and error, where they are known before the answer is, or other than it says."""
    told: int | None = None
    """The status with which its end was written down."""
    silent: bool = False
    """Whether it is not worth an event when it goes well, as it has reached nothing yet."""
    changes: int = 0
    refusals: list[Event] = field(default_factory=list)
    objects: dict[Object, None] = field(default_factory=dict)
    """In the order in which they were reached."""

    def event(self, act: str, kind: str, name: str) -> Event:
        """An event of this call."""
        return Event(
            act=act,
            kind=kind,
            name=name,
            door=self.door,
            actor_id=self.actor_id,
            actor=self.actor,
            address=self.address,
            agent=self.agent,
            request=self.request,
            session=self.session,
        )

    def end(self, status: int, error: str = "", details: Mapping[str, str] | None = None) -> None:
        """Write down how it went; what is written is safe before whoever asked is answered.

        The first word counts; only a failure in the midst of an answer is told besides. Raises StorageFull.
        """
        status, error = self.outcome or (status, error)
        failed = status >= _FIRST_ERROR
        if self.told is not None and (self.told >= _FIRST_ERROR or not failed):
            return
        self.told = status
        refusals, self.refusals = self.refusals, []
        told = refusals.pop() if failed and refusals else None
        for event in refusals:
            write(event)
        if not failed and (self.silent or (self.changes and self.kind == PATH)):
            return
        event = self.event(self.act, self.kind, self.name)
        event.objects = tuple(self.objects)
        event.status, event.error, event.details = status, error, dict(details or {})
        if told is not None:
            event.details = {**event.details, "refused": told.act, "object_kind": told.kind, "object_name": told.name}
        write(event)


def open_spool(directory: Path) -> None:
    """Let this process write its events below a directory. Once, when it starts."""
    close_spool()
    _spools.append(Spool(directory))


def close_spool() -> None:
    """End this process's spool; later events go to the log alone."""
    while _spools:
        _spools.pop().close()


@contextmanager
def during(call: Call) -> Iterator[Call]:
    """Make the call the current one inside the block."""
    reset = begin(call)
    try:
        yield call
    finally:
        over(reset)


def begin(call: Call) -> Token[Call | None]:
    """Make the call the current one, until `over` is given what this returns."""
    return _call.set(call)


def over(reset: Token[Call | None]) -> None:
    """Make the call before the current one again."""
    _call.reset(reset)


def identified(actor_id: str, actor: str) -> None:
    """The current call's credential is this principal's."""
    call = _call.get()
    if call is not None:
        call.actor_id, call.actor = actor_id, actor


def reached(act: str, kind: str, name: str) -> None:
    """Whoever makes the current call may do this to an object, and does."""
    call = _call.get()
    if call is not None and len(call.objects) < _MOST_OBJECTS:
        call.objects[act, kind, name] = None


def described(name: str, *, silent: bool = False) -> None:
    """What the current call does, known only now."""
    call = _call.get()
    if call is not None:
        call.name, call.silent = name, silent


def current() -> Call | None:
    """The call in which this runs."""
    return _call.get()


def failed(status: int, error: str) -> None:
    """The current call was refused, although its answer may look otherwise (a page that asks to sign in)."""
    call = _call.get()
    if call is not None:
        call.outcome = (status, error)


def changed(
    connection: Connection,
    actor: str,
    act: str,
    kind: str,
    name: str,
    details: Mapping[str, str],
    *,
    object_id: str = "",
) -> None:
    """Somebody changed something; the event is in the outbox, in the transaction of the change."""
    call = _call.get()
    event = _event_of(call, "", actor, act, kind, name)
    event.details, event.object_id = details, object_id
    outbox.put(connection, event)
    if call is not None:
        call.changes += 1


def refused(actor_id: str, actor: str, act: str, kind: str, name: str) -> None:
    """Somebody was kept from something; told with the end of the call where there is one."""
    call = _call.get()
    event = _event_of(call, actor_id, actor, act, kind, name)
    event.status, event.error = REFUSED, "PERMISSION_DENIED"
    if call is not None and call.ends:
        call.refusals.append(event)
    else:
        write(event)


def write(event: Event) -> None:
    """Append an event to this process's spool. Raises StorageFull."""
    if _spools:
        _spools[0].append(event.line())
    else:
        log.info("event", act=event.act, object_kind=event.kind, actor=event.actor, status=event.status)


def _event_of(call: Call | None, actor_id: str, actor: str, act: str, kind: str, name: str) -> Event:
    if call is None:
        return Event(act=act, kind=kind, name=name, actor_id=actor_id, actor=actor)
    event = call.event(act, kind, name)
    if actor and actor != call.actor:  # somebody acts as another, as the server does for who signs in
        event.caller, event.actor, event.actor_id = call.actor, actor, actor_id
    return event


__all__ = [
    "OK",
    "Call",
    "begin",
    "changed",
    "close_spool",
    "current",
    "described",
    "during",
    "failed",
    "identified",
    "open_spool",
    "over",
    "reached",
    "refused",
    "write",
]
