"""The tables of the workspace and all their SQL."""

import secrets
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from millpond.kernel.database import UtcDateTime, metadata
from millpond.workspace.domain import Kept, Object, ObjectType, Path
from millpond.workspace.notebooks import Language

objects = Table(
    "workspace_objects",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("parent_id", BigInteger),
    Column("path", Text, nullable=False),
    Column("type", String(20), nullable=False),
    Column("owner", String(255), nullable=False),
    Column("language", String(20)),
    Column("kept", String(20), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("modified_at", UtcDateTime, nullable=False),
    UniqueConstraint("path", name="uq_workspace_objects_path"),
    Index("ix_workspace_objects_parent_id", "parent_id"),
)
contents = Table(
    "workspace_contents",
    metadata,
    Column("object_id", BigInteger, ForeignKey(objects.c.id, ondelete="CASCADE"), primary_key=True,
           autoincrement=False),
    Column("data", LargeBinary, nullable=False),
)  # fmt: skip
"""Apart, so that a list does not read it."""


def new_number() -> int:
    """An id that JSON's numbers hold, and that says nothing of how many there are."""
    return secrets.randbelow(1 << 52) + 1


def chain(connection: Connection, path: Path) -> list[Object]:
    """What is there of a path, from the root."""
    query = select(objects).where(objects.c.path.in_([str(each) for each in path.lineage]))
    return sorted((_object(row) for row in connection.execute(query)), key=lambda each: len(each.path.parts))


def missing(connection: Connection, paths: Sequence[Path]) -> list[Path]:
    """Those of some paths at which there is nothing."""
    query = select(objects.c.path).where(objects.c.path.in_([str(each) for each in paths]))
    there = set(connection.execute(query).scalars())
    return [each for each in paths if str(each) not in there]


def chain_to(connection: Connection, object_id: int) -> list[Object]:
    """The same of the object with an id; empty where there is none."""
    row = connection.execute(select(objects).where(objects.c.id == object_id)).first()
    return chain(connection, _object(row).path) if row else []


def lock(connection: Connection, object_id: int) -> bool:
    """Keep others from changing what is in a directory until the transaction ends; False where it is gone."""
    query = select(objects.c.id).where(objects.c.id == object_id).with_for_update()
    return connection.execute(query).first() is not None


def children(connection: Connection, *parent_ids: int) -> list[Object]:
    """What is in directories, by path."""
    rows = [
        row
        for some in _batched(parent_ids)
        for row in connection.execute(select(objects).where(objects.c.parent_id.in_(some)))
    ]
    return sorted(map(_object, rows), key=lambda each: each.path.parts)


def count(connection: Connection, parent_id: int) -> int:
    """How many objects are in a directory."""
    query = select(func.count()).select_from(objects).where(objects.c.parent_id == parent_id)
    return int(connection.execute(query).scalar_one())


def add(connection: Connection, made: Object, parent_id: int | None) -> None:
    """Add an object whose parent is locked; harmless where it is there."""
    values = {**vars(made), "path": str(made.path), "parent_id": parent_id}
    new: Any = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(objects)
    connection.execute(new.values(values).on_conflict_do_nothing(index_elements=["path"]))


def change(
    connection: Connection, object_id: int, *, language: Language | None, kept: Kept, size_bytes: int, now: datetime
) -> None:
    """Say what an object holds by now."""
    values = {"language": language, "kept": kept, "size_bytes": size_bytes, "modified_at": now}
    connection.execute(update(objects).where(objects.c.id == object_id).values(**values))


def put(connection: Connection, object_id: int, data: bytes) -> None:
    """Write what an object holds, in place of what it held."""
    connection.execute(delete(contents).where(contents.c.object_id == object_id))
    connection.execute(insert(contents).values(object_id=object_id, data=data))


def get(connection: Connection, object_id: int) -> bytes:
    """What an object holds."""
    query = select(contents.c.data).where(contents.c.object_id == object_id)
    return bytes(connection.execute(query).scalar_one())


def remove(connection: Connection, object_ids: Sequence[int]) -> None:
    """Remove objects with what they hold."""
    for some in _batched(object_ids):
        connection.execute(delete(contents).where(contents.c.object_id.in_(some)))
        connection.execute(delete(objects).where(objects.c.id.in_(some)))


def _batched(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    """As many as a statement takes."""
    return (ids[start : start + 1000] for start in range(0, len(ids), 1000))


def _object(row: Any) -> Object:
    known = {name: value for name, value in row._mapping.items() if name != "parent_id"}
    changed = {
        "path": Path(parts=tuple(part for part in row.path.split("/") if part)),
        "type": ObjectType(row.type),
        "language": Language(row.language) if row.language else None,
        "kept": Kept(row.kept),
    }
    return Object(**{**known, **changed})
