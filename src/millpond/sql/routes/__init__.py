"""The SQL APIs over HTTP."""

from fastapi import APIRouter

from millpond.identity.service import IdentityService
from millpond.sql.room import SqlRoom
from millpond.sql.routes import queries, statements, warehouses


def router(room: SqlRoom, identity: IdentityService, *, public_url: str | None) -> APIRouter:
    """Everything under `/api/2.0/sql`; `public_url` is the address of links, where not the one the client used."""
    routes = APIRouter()
    warehouses.add(routes, room.warehouses, public_url)
    statements.add(routes, room.statements, identity, public_url)
    queries.add(routes, room.queries)
    return routes
