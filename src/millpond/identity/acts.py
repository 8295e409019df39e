"""What was changed and what was denied: each such act passes through here, and goes to the log.

The one place at which an audit record will be written, in the transaction of the change where there is one.
"""

from sqlalchemy import Connection

from millpond.identity.domain import Principal
from millpond.kernel.logs import get_logger

log = get_logger(__name__)


def changed(connection: Connection, actor: str, act: str, kind: str, name: str, **details: str | int | bool) -> None:
    """Somebody did something to an object; called inside the transaction that does it."""
    del connection  # for the audit record
    log.info("changed", actor=actor, act=act, object_kind=kind, object_name=name, **details)


def denied(actor: Principal | None, act: str, kind: str, name: str) -> None:
    """Somebody was kept from something; `actor` is None for who could not say who they are."""
    log.warning("denied", actor=actor.name if actor else None, act=act, object_kind=kind, object_name=name)
