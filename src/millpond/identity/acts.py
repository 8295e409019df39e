"""What was reached, changed and denied: each act of a service passes through here into the journal."""

from sqlalchemy import Connection

from millpond.identity.domain import Account, Principal
from millpond.journal import calls


def identified(who: Principal | Account) -> None:
    """Whoever asks has just shown who they are."""
    calls.identified(who.id, who.name)


def changed(
    connection: Connection,
    actor: str,
    act: str,
    kind: str,
    name: str,
    *,
    object_id: str = "",
    **details: str | int | bool,
) -> None:
    """Somebody did something to an object; called inside the transaction that does it."""
    told = {key: _text(value) for key, value in details.items()}
    calls.changed(connection, actor, act, kind, name, told, object_id=object_id)


def reached(act: str, kind: str, name: str) -> None:
    """Whoever asks may do this to an object, and does."""
    calls.reached(act, kind, name)


def denied(actor: Principal | None, act: str, kind: str, name: str) -> None:
    """Somebody was kept from something; `actor` is None for who could not say who they are."""
    calls.refused(actor.id if actor else "", actor.name if actor else "", act, kind, name)


def _text(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
