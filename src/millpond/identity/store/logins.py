"""Which account of an identity provider is which user."""

from sqlalchemy import Connection, insert, select

from millpond.identity.store.tables import logins


def find(connection: Connection, issuer: str, subject: str) -> str | None:
    """The id of the user to whom an account of a provider is tied."""
    query = select(logins.c.principal_id).where(logins.c.issuer == issuer, logins.c.subject == subject)
    found = connection.execute(query).scalar()
    return None if found is None else str(found)


def subject_of(connection: Connection, issuer: str, principal_id: str) -> str | None:
    """The account of a provider to which a user is tied."""
    query = select(logins.c.subject).where(logins.c.issuer == issuer, logins.c.principal_id == int(principal_id))
    found: str | None = connection.execute(query).scalar()
    return found


def add(connection: Connection, issuer: str, subject: str, principal_id: str) -> None:
    """Tie them."""
    connection.execute(insert(logins).values(issuer=issuer, subject=subject, principal_id=int(principal_id)))
