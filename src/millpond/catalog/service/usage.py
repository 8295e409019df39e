"""Whether functions may go: not while a row filter, a mask or a policy is made of them."""

from collections.abc import Collection

from sqlalchemy import Connection

from millpond.catalog.store import objects, policies
from millpond.catalog.store.rows import table_of
from millpond.kernel.errors import FailedPrecondition


def refuse_in_use(
    connection: Connection, function_ids: Collection[str], verb: str, *, going: Collection[str] = ()
) -> None:
    """Raises FailedPrecondition naming a table, or a policy, for which one of the functions decides.

    `going` are the ids of schemas (and their catalog) that go together with the functions and all that is in them.
    """
    for row in objects.guarded_rows(connection) if function_ids else ():
        table = table_of(row)
        if table.schema_id not in going and not table.guards.function_ids.isdisjoint(function_ids):
            raise FailedPrecondition(
                f"A function that decides who sees what of table '{table.name}' cannot be {verb}; drop the table's row "
                "filter or mask first."
            )
    for name, chain in policies.using(connection, function_ids) if function_ids else ():
        if set(chain).isdisjoint(going):
            raise FailedPrecondition(
                f"A function that decides who sees what by policy '{name}' cannot be {verb}; drop the policy or let it "
                "use another function first."
            )
