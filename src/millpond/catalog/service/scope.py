"""Which policies decide about tables for somebody, for all parts of the service that are asked about rows or files."""

from collections.abc import Sequence

from sqlalchemy import Connection

from millpond.catalog.domain import Table, TableType
from millpond.catalog.policies import Matched, matched
from millpond.catalog.store import policies
from millpond.catalog.store import tags as store_tags
from millpond.identity import acts
from millpond.identity.access import Act, allows
from millpond.identity.domain import Principal
from millpond.kernel.errors import PermissionDenied


def applying(connection: Connection, principal: Principal, found: Sequence[Table]) -> dict[str, tuple[Matched, ...]]:
    """The policies that count for the principal, by the id of the table; tables without any are left out."""
    policed = [table for table in found if table.policed and table.table_type is not TableType.VIEW]
    if not policed:
        return {}
    places = {place.ids[0]: place for table in policed for place in table.chain}
    covering = [each for each in policies.policies_on(connection, places.values()) if each.terms.covers(principal)]
    tags = store_tags.of_tables(connection, policed) if covering else {}
    by_table = (
        (table.id, matched([each for each in covering if each.on.ids[0] in table.securable.ids], table, tags[table.id]))
        for table in (policed if covering else ())
    )
    return {table_id: matches for table_id, matches in by_table if matches}


def kept_from(connection: Connection, principal: Principal, found: Sequence[Table]) -> frozenset[str]:
    """The ids of those of the tables of which something is kept from the principal.

    Whoever may take a row filter, a mask or a policy away is kept from nothing by it: that takes MANAGE on the table,
    or on the object on which the policy is set.
    """
    own = {table.id for table in found if table.guards and not allows(principal, Act.MANAGE, table.securable)}
    by_policy = {
        table_id
        for table_id, matches in applying(connection, principal, found).items()
        if not all(allows(principal, Act.MANAGE, each.policy.on) for each in matches)
    }
    return frozenset(own | by_policy)


def require_leave(connection: Connection, principal: Principal, table: Table) -> None:
    """Pass for who may take a table out of its schema, with whose policies. Raises PermissionDenied."""
    schema = table.chain[1]
    if policies.policies_on(connection, [schema]) and not allows(principal, Act.MANAGE, schema):
        acts.denied(principal, "move", "table", str(table.name))
        raise PermissionDenied(
            f"Table '{table.name}' is under policies of schema '{schema.name}'; who may MANAGE that can move it out."
        )
