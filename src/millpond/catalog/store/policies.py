"""SQL of policies that filter rows and mask columns by tags."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from millpond.catalog.domain import ObjectName
from millpond.catalog.policies import MatchColumn, Policy, PolicyArgument, PolicyType, Terms
from millpond.catalog.store import objects
from millpond.catalog.store.rows import function_of
from millpond.catalog.store.schema import catalogs, functions, policies, schemas, tables
from millpond.identity.access import Securable
from millpond.kernel.database import among

_GONE = ObjectName("system", "dropped", "function")
"""Where the function of a policy is gone, which nothing here lets happen."""


def policies_on(connection: Connection, places: Collection[Securable]) -> list[Policy]:
    """The policies that are set on any of these, by name."""
    by_id = {place.ids[0]: place for place in places}
    query = select(policies).where(among(policies.c.securable_id, sorted(by_id))).order_by(policies.c.name)
    rows = connection.execute(query).all()
    names = _function_names(connection, {row.function_id for row in rows})
    return [_policy(row, by_id[row.securable_id], names) for row in rows]


def find_policy(connection: Connection, place: Securable, name: str, *, lock: bool = False) -> Policy | None:
    """The policy of a name that is set on something."""
    query = select(policies).where(policies.c.securable_id == place.ids[0], policies.c.name == name)
    row = connection.execute(query.with_for_update() if lock else query).first()
    return None if row is None else _policy(row, place, _function_names(connection, {row.function_id}))


def count(connection: Connection, place: Securable) -> int:
    """How many policies are set on something."""
    query = select(func.count()).where(policies.c.securable_id == place.ids[0])
    return connection.execute(query).scalar_one()


def add(connection: Connection, policy: Policy) -> None:
    """Add a policy; IntegrityError when its name is taken there."""
    values = {"id": policy.id, "securable_id": policy.on.ids[0], "created_at": policy.created_at}
    connection.execute(insert(policies).values(**values, created_by=policy.created_by, **_changing(policy)))


def change(connection: Connection, policy: Policy) -> None:
    """Write a policy as it is now; IntegrityError when its new name is taken."""
    connection.execute(update(policies).where(policies.c.id == policy.id).values(**_changing(policy)))


def remove(connection: Connection, policy_id: str) -> None:
    """Remove a policy."""
    connection.execute(delete(policies).where(policies.c.id == policy_id))


def forget(connection: Connection, securable_ids: Sequence[str]) -> None:
    """Remove the policies on objects that are gone."""
    if securable_ids:
        connection.execute(delete(policies).where(among(policies.c.securable_id, securable_ids)))


def using(connection: Connection, function_ids: Collection[str]) -> list[tuple[str, tuple[str, ...]]]:
    """The names of policies that use some functions, each with the ids of where it is set and of what contains that.

    Those on dropped tables are left out: such a table, brought back, can be read by nobody whom the policy is for.
    """
    place = policies.c.securable_id
    query = (
        select(policies.c.name, place, schemas.c.id, catalogs.c.id)
        .outerjoin(tables, tables.c.id == place)
        .outerjoin(schemas, schemas.c.id == func.coalesce(tables.c.schema_id, place))
        .join(catalogs, catalogs.c.id == func.coalesce(schemas.c.catalog_id, place))
        .where(among(policies.c.function_id, sorted(function_ids)))
    )
    return [(name, tuple(each for each in chain if each)) for name, *chain in connection.execute(query)]


def keys_in_use(connection: Connection) -> dict[str, str]:
    """The tags that policies ask for, each with the name of one that does."""
    query = select(policies).order_by(policies.c.name)
    return {key: row.name for row in connection.execute(query) for key, _ in _terms(row, _GONE).tags}


def rename_principal(connection: Connection, old: str, new: str) -> None:
    """Let what is said of one name be said of another, as when a group is renamed."""
    for row in connection.execute(select(policies)).all():
        lists = {key: [new if name == old else name for name in row.terms[key]] for key in ("to", "exempt")}
        if any(lists[key] != row.terms[key] for key in lists):
            query = update(policies).where(policies.c.id == row.id)
            connection.execute(query.values(terms={**row.terms, **lists}))


def _function_names(connection: Connection, ids: Collection[str]) -> dict[str, ObjectName]:
    found = map(function_of, objects.rows_with_ids(connection, functions, sorted(ids)))
    return {function.id: function.name for function in found}


def _policy(row: Any, place: Securable, names: Mapping[str, ObjectName]) -> Policy:
    return Policy(
        id=row.id, terms=_terms(row, names.get(row.function_id, _GONE)), function_id=row.function_id, on=place,
        created_at=row.created_at, created_by=row.created_by, updated_at=row.updated_at, updated_by=row.updated_by,
    )  # fmt: skip


def _changing(policy: Policy) -> dict[str, Any]:
    terms = {key: value for key, value in asdict(policy.terms).items() if key not in {"name", "function"}}
    return {
        "name": policy.terms.name, "function_id": policy.function_id, "terms": terms,
        "updated_at": policy.updated_at, "updated_by": policy.updated_by,
    }  # fmt: skip


_READ: Mapping[str, Callable[[Any], Any]] = {
    "type": PolicyType,
    "to": tuple,
    "exempt": tuple,
    "columns": lambda found: tuple(MatchColumn(**each) for each in found),
    "using": lambda found: tuple(PolicyArgument(**each) for each in found),
}


def _terms(row: Any, function: ObjectName) -> Terms:
    kept = {key: _READ.get(key, lambda value: value)(value) for key, value in row.terms.items()}
    return Terms(name=row.name, function=function, **kept)
