"""Endpoints by name, for those who may do something with them."""

from sqlalchemy import Connection

from millpond.identity.access import Act, require
from millpond.identity.domain import Principal
from millpond.kernel.database import Database
from millpond.kernel.errors import NotFound
from millpond.serving import store
from millpond.serving.domain import Endpoint


def get_endpoint(database: Database, principal: Principal, name: str, act: Act) -> Endpoint:
    """An endpoint with which the principal may do this. Raises NotFound, PermissionDenied."""
    with database.read() as connection:
        endpoint = store.find_endpoint(connection, name=name)
    return _checked(principal, act, name, endpoint)


def lock_endpoint(connection: Connection, principal: Principal, name: str) -> Endpoint:
    """An endpoint that the principal may change, locked until the transaction ends. Raises as `get_endpoint`."""
    return _checked(principal, Act.MANAGE, name, store.lock_endpoint(connection, name=name))


def _checked(principal: Principal, act: Act, name: str, endpoint: Endpoint | None) -> Endpoint:
    """The endpoint, if it exists and the principal may; the same NotFound for what is not there and not theirs."""
    if endpoint is None:
        raise NotFound(f"Endpoint '{name[:80]}' does not exist.")
    require(principal, act, endpoint.securable)
    return endpoint
