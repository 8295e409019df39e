"""An event as the door that saw it writes it down; `audit.actions` finds out what Databricks calls the act."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from millpond.kernel.ids import new_id
from millpond.kernel.logs import mask_secrets

Object = tuple[str, str, str]
"""What was done to it, its kind and its name."""

OK = 200
REFUSED = 403
_LONGEST = 1000
"""Characters of one text; what a client sends can be megabytes long."""
_LONGEST_DETAIL = 4000


def now_us() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


@dataclass(slots=True, kw_only=True)
class Event:
    """One act, done or refused."""

    act: str
    """`create`, `drop`, `read`; the method of an HTTP request; the name of a Spark Connect call."""
    kind: str
    """What it was done to: catalog, table, token, ...; `path` for a request that names no more than that."""
    name: str
    object_id: str = ""
    door: str = "background"
    """`http`, `spark`, or `background` for what nobody asked for."""
    id: str = field(default_factory=new_id)
    time_us: int = field(default_factory=now_us)
    actor_id: str = ""
    actor: str = ""
    """Name of whoever acts; empty for who could not say who they are."""
    caller: str = ""
    """Name of whoever called, where the act was done on another's behalf."""
    address: str = ""
    agent: str = ""
    request: str = ""
    session: str = ""
    status: int = OK
    """As HTTP has it."""
    error: str = ""
    """Code or class of the error, never its text, which may quote rows."""
    details: Mapping[str, str] = field(default_factory=dict)
    objects: Sequence[Object] = ()
    """What was reached in the course of it."""

    def line(self) -> bytes:
        """One line of JSON, texts cut to a bearable length, without secrets."""
        for name in ("name", "agent", "address", "session", "request"):
            value = getattr(self, name)
            if len(value) > _LONGEST:
                setattr(self, name, value[:_LONGEST])
        if any(len(value) > _LONGEST_DETAIL for value in self.details.values()):
            self.details = {key: value[:_LONGEST_DETAIL] for key, value in self.details.items()}
        try:
            text = orjson.dumps(self)
        except orjson.JSONEncodeError:  # half a character pair from some client
            text = orjson.dumps(_encodable(self))
        return mask_secrets(text.decode()).encode() + b"\n"


def _encodable(event: Event) -> dict[str, object]:
    values = {name: getattr(event, name) for name in Event.__slots__}
    values["details"] = {_clean(key): _clean(value) for key, value in event.details.items()}
    return {key: _clean(value) if isinstance(value, str) else value for key, value in values.items()}


def _clean(text: str) -> str:
    return text.encode(errors="replace").decode()
