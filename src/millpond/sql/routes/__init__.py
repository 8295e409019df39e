"""The SQL APIs over HTTP."""

from fastapi import APIRouter

from millpond.identity.service import IdentityService
from millpond.sql.alerts import routes as alerts
from millpond.sql.room import SqlRoom
from millpond.sql.routes import queries, statements, warehouses


def router(room: SqlRoom, identity: IdentityService, *, public_url: str | None) -> APIRouter:
    """All of the SQL APIs; `public_url` is the address of links, where not the one the client used."""
    routes = APIRouter()
    warehouses.add(routes, room.warehouses, public_url)
    statements.add(routes, room.statements, identity, public_url)
    queries.add(routes, room.queries)
    alerts.add(routes, room.alerts)
    return routes
