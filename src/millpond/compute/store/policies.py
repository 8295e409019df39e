"""Cluster policies and instance pools."""

from typing import Any

from sqlalchemy import Column, Connection, Integer, String, Table, Text, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from millpond.compute.domain import Policy, Pool
from millpond.kernel.database import Json, UtcDateTime, metadata
from millpond.kernel.errors import AlreadyExists

MOST = 1000

policies = Table(
    "compute_policies",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
    Column("creator", String(255), nullable=False),
    Column("definition", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("family_id", String(60), nullable=False),
    Column("overrides", Text, nullable=False),
    Column("max_clusters", Integer),
    Column("libraries", Json, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)
pools = Table(
    "compute_pools",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
    Column("creator", String(255), nullable=False),
    Column("node_type_id", String(40), nullable=False),
    Column("min_idle", Integer, nullable=False),
    Column("max_capacity", Integer),
    Column("idle_minutes", Integer, nullable=False),
    Column("tags", Json, nullable=False),
    Column("versions", Json, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)


def find_policy(connection: Connection, policy_id: str, *, lock: bool = False) -> Policy | None:
    """The policy with an id; with `lock`, nobody else gets it so until the transaction ends."""
    row = _row(connection, policies, policy_id, lock=lock)
    return _policy(row) if row else None


def all_policies(connection: Connection) -> list[Policy]:
    """All policies, by name."""
    return [_policy(row) for row in connection.execute(select(policies).order_by(policies.c.name).limit(MOST))]


def put_policy(connection: Connection, policy: Policy, *, new: bool) -> None:
    """Add a policy, or give it other values. Raises AlreadyExists."""
    values = {**vars(policy), "libraries": [dict(each) for each in policy.libraries]}
    _put(connection, policies, values, new=new, what="policy")


def remove_policy(connection: Connection, policy_id: str) -> None:
    """Remove a policy."""
    connection.execute(delete(policies).where(policies.c.id == policy_id))


def find_pool(connection: Connection, pool_id: str) -> Pool | None:
    """The pool with an id."""
    row = _row(connection, pools, pool_id)
    return _pool(row) if row else None


def all_pools(connection: Connection) -> list[Pool]:
    """All pools, by name."""
    return [_pool(row) for row in connection.execute(select(pools).order_by(pools.c.name).limit(MOST))]


def put_pool(connection: Connection, pool: Pool, *, new: bool) -> None:
    """Add a pool, or give it other values. Raises AlreadyExists."""
    values = {**vars(pool), "tags": dict(pool.tags), "versions": list(pool.versions)}
    _put(connection, pools, values, new=new, what="instance pool")


def remove_pool(connection: Connection, pool_id: str) -> None:
    """Remove a pool."""
    connection.execute(delete(pools).where(pools.c.id == pool_id))


def _row(connection: Connection, table: Table, key: str, *, lock: bool = False) -> Any:
    query = select(table).where(table.c.id == key)
    return None if "\0" in key else connection.execute(query.with_for_update() if lock else query).first()


def _put(connection: Connection, table: Table, values: dict[str, Any], *, new: bool, what: str) -> None:
    try:
        if new:
            connection.execute(insert(table).values(**values))
        else:
            connection.execute(update(table).where(table.c.id == values["id"]).values(**values))
    except IntegrityError as error:
        raise AlreadyExists(f"There is a {what} named '{values['name']}' already; choose another name.") from error


def _policy(row: Any) -> Policy:
    return Policy(**{**row._mapping, "libraries": tuple(row.libraries)})


def _pool(row: Any) -> Pool:
    return Pool(**{**row._mapping, "versions": tuple(row.versions)})
