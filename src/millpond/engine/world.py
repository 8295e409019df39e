"""What all binders of a gateway share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from millpond.catalog.domain import Function, Guards, ObjectName, Table
from millpond.catalog.service import CatalogService
from millpond.engine.ai_query import FindModel
from millpond.engine.errors import AnalysisError
from millpond.engine.spools import Spools
from millpond.identity.domain import Principal
from millpond.kernel.freshness import Kept, Mark

_NO_GUARDS = Guards()
FindOwner = Callable[[str], Principal | None]
"""The principal of a name, a group's too, for what is done with an owner's rights; None when there is none."""


@dataclass(frozen=True, kw_only=True)
class World:
    """The catalog, who owns what, and where rows are put that a user's engine may have."""

    catalog: CatalogService
    find_owner: FindOwner
    spools: Spools | None
    """None before a remote engine, which cannot read our files."""
    tables: Kept[tuple[Principal, ObjectName], Table]
    looked_up: Kept[ObjectName, Table | None]
    functions: Kept[ObjectName, Function | None]
    guards: Kept[tuple[Principal, str], Guards]
    """By who asks and the table's id."""
    owners: Kept[str, Principal | None]
    storage_options: Mapping[str, str]
    """delta-rs' access to an object store."""
    find_model: FindModel | None = None
    """What the server says of a model or endpoint; None where it cannot be asked. Blocks."""

    def owner(self, name: str) -> Principal | None:
        """The principal that owns something."""
        return self.owners.get(name, lambda: self.find_owner(name))

    def owner_of(self, item: Table | Function) -> Principal:
        """With whose rights a view or function reads. Raises INSUFFICIENT_PERMISSIONS when there is nobody any more."""
        found = self.owner(item.owner)
        if found is None:
            raise AnalysisError(
                "INSUFFICIENT_PERMISSIONS",
                f"The owner of {item.name}, with whose rights it reads, does not exist any more. Give it to another.",
                sql_state="42501",
            )
        return found

    def function(self, name: ObjectName) -> Function | None:
        """The function with a name, whoever may use it."""
        return self.functions.get(name, lambda: self.catalog.look_up_function(name))

    def table(self, name: ObjectName) -> Table | None:
        """The table with a name, whoever may read it."""
        return self.looked_up.get(name, lambda: self.catalog.look_up_table(name))

    def guards_for(self, principal: Principal, table: Table) -> Guards:
        """What decides what somebody sees of a table; nothing is asked where there is nothing."""
        if not (table.guards or table.policed):
            return _NO_GUARDS
        return self.guards.get((principal, table.id), lambda: self.catalog.guards_for(principal, table))


def world(
    catalog: CatalogService,
    find_owner: FindOwner,
    spools: Spools | None,
    mark: Mark,
    storage_options: Mapping[str, str],
    find_model: FindModel | None = None,
) -> World:
    """What binders share, while the database does not change."""
    return World(
        catalog=catalog,
        find_owner=find_owner,
        spools=spools,
        tables=Kept(mark),
        looked_up=Kept(mark),
        functions=Kept(mark),
        guards=Kept(mark),
        owners=Kept(mark),
        storage_options=storage_options,
        find_model=find_model,
    )
