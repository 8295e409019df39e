"""Usage records, with what they cost by the prices of their hours."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Double,
    Index,
    Select,
    String,
    Table,
    Text,
    and_,
    delete,
    func,
    or_,
    select,
    type_coerce,
)
from sqlalchemy.dialects import postgresql, sqlite

from millpond.billing.domain import Product, Record, Resource, Subject, Used, hour_of, record_id, sku_of
from millpond.billing.store.rules import prices
from millpond.kernel.clock import from_epoch_us
from millpond.kernel.database import Json, UtcDateTime, metadata

usage = Table(
    "billing_usage",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("hour", UtcDateTime, nullable=False),
    Column("sku", String(60), nullable=False),
    Column("resource", String(20), nullable=False),
    Column("quantity", Double, nullable=False),
    Column("product", String(30), nullable=False),
    Column("run_as", String(255), nullable=False),
    Column("kind", String(20), nullable=False),
    Column("object_id", String(255), nullable=False),
    Column("object_name", Text, nullable=False),
    Column("run_id", BigInteger),
    Column("cluster_id", String(40), nullable=False),
    Column("tags", Json, nullable=False),
    Column("included", Boolean, nullable=False),
    Index("ix_billing_usage_hour", "hour"),
    Index("ix_billing_usage_run_as_hour", "run_as", "hour"),
    Index("ix_billing_usage_run_id", "run_id"),
)
_OBJECT = (usage.c.kind, usage.c.object_id, usage.c.object_name)
_GROUPS: Mapping[str, tuple[Column[Any], ...]] = {
    "product": (usage.c.product,),
    "user": (usage.c.run_as,),
    "object": _OBJECT,
    "sku": (),
}


def add(connection: Connection, at: datetime, used: Iterable[tuple[Subject, Used]]) -> None:
    """Add to the records of an hour, in the transaction of what used it."""
    hour = hour_of(at)
    rows: dict[str, dict[str, Any]] = {}
    for subject, resource, quantity in ((subject, *each) for subject, amounts in used for each in amounts.items()):
        if quantity > 0:
            record = record_id(hour, subject, resource)
            before = rows[record]["quantity"] if record in rows else 0.0
            rows[record] = _row(record, hour, subject, resource, before + quantity)
    if not rows:
        return
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(usage)
    more = {"quantity": usage.c.quantity + statement.excluded.quantity}
    # in one order, so that two who add to the same records do not wait for each other
    values = [rows[key] for key in sorted(rows)]
    connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_=more), values)


def _row(record: str, hour: datetime, subject: Subject, resource: Resource, quantity: float) -> dict[str, Any]:
    return {
        "id": record,
        "hour": hour,
        "sku": sku_of(subject.product, resource, included=subject.included),
        "resource": resource.value,
        "quantity": quantity,
        "product": subject.product.value,
        "run_as": subject.run_as,
        "kind": subject.kind,
        "object_id": subject.object_id,
        "object_name": subject.object_name,
        "run_id": subject.run_id,
        "cluster_id": subject.cluster_id,
        "tags": dict(subject.tags),
        "included": subject.included,
    }


def set_once(connection: Connection, at: datetime, used: Iterable[tuple[Subject, Used]]) -> None:
    """As `add`, of what is looked at once in each hour: what is there already stays."""
    hour = hour_of(at)
    rows = [
        _row(record_id(hour, subject, resource), hour, subject, resource, quantity)
        for subject, amounts in used
        for resource, quantity in amounts.items()
    ]
    if rows:
        dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
        connection.execute(dialect.insert(usage).on_conflict_do_nothing(), rows)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which records; None for all."""

    since: datetime | None = None
    until: datetime | None = None
    run_as: str | None = None
    product: str | None = None
    run_id: int | None = None
    kind: str | None = None
    object_id: str | None = None


def newest(connection: Connection, wanted: Wanted, limit: int) -> list[Record]:
    """The newest records."""
    query = _priced(usage).where(*_conditions(wanted)).order_by(usage.c.hour.desc(), usage.c.id).limit(limit)
    return [_record(row) for row in connection.execute(query)]


@dataclass(frozen=True, kw_only=True)
class Sum:
    """Usage of one SKU, added up."""

    start: datetime | None
    """Of the hour or day; None for all of them together."""
    key: tuple[Any, ...]
    sku: str
    resource: Resource
    quantity: float
    cost: float


def sums(
    connection: Connection, wanted: Wanted, *, by: str, tag: str = "", bucket: timedelta | None,
    limit: int | None = None,
) -> Sequence[Sum]:  # fmt: skip
    """Usage added up by SKU and product, user, object or the values of a `tag`, in buckets of time or not, the dearest
    first."""
    columns = (func.coalesce(usage.c.tags[tag].as_string(), "").label("value"),) if by == "tag" else _GROUPS[by]
    start = _bucket(bucket)
    cost = func.sum(usage.c.quantity * func.coalesce(prices.c.amount, 0.0)).label("cost")
    total = func.sum(usage.c.quantity).label("total")
    grouped = (*([start] if start is not None else []), *columns, usage.c.sku, usage.c.resource)
    query = _with_price(select(*grouped, total, cost)).where(*_conditions(wanted)).group_by(*grouped)
    query = query.order_by(*([start] if start is not None else []), cost.desc(), total.desc()).limit(limit)
    return [_sum(row, len(columns), has_start=start is not None) for row in connection.execute(query)]


def _sum(row: Any, keys: int, *, has_start: bool) -> Sum:
    values = tuple(row)
    start = from_epoch_us(int(values[0])) if has_start else None
    rest = values[1:] if has_start else values
    sku, resource, total, cost = rest[keys:]
    return Sum(
        start=start, key=rest[:keys], sku=sku, resource=Resource(resource), quantity=float(total), cost=float(cost)
    )


def _bucket(bucket: timedelta | None) -> ColumnElement[Any] | None:
    if bucket is None:
        return None
    step = bucket // timedelta(microseconds=1)
    micros = type_coerce(usage.c.hour, BigInteger)
    return (micros - micros % step).label("bucket")


def spent(
    connection: Connection, since: datetime, until: datetime | None = None
) -> dict[tuple[Subject, Resource], tuple[float, float]]:
    """What each subject has used in some hours, and what that costs; without single runs."""
    columns = (usage.c.product, usage.c.run_as, *_OBJECT, usage.c.tags, usage.c.included, usage.c.resource)
    cost = func.sum(usage.c.quantity * func.coalesce(prices.c.amount, 0.0))
    query = _with_price(select(*columns, func.sum(usage.c.quantity).label("total"), cost.label("cost")))
    hours = _conditions(Wanted(since=since, until=until))
    return {
        (_subject(row), Resource(row.resource)): (float(row.total), float(row.cost))
        for row in connection.execute(query.where(*hours).group_by(*columns))
    }


def by_object(connection: Connection, kind: str, since: datetime) -> dict[str, dict[Resource, float]]:
    """What each object of a kind has used since a time, by id."""
    columns = (usage.c.object_id, usage.c.resource)
    query = select(*columns, func.sum(usage.c.quantity)).where(usage.c.kind == kind, usage.c.hour >= since)
    found: dict[str, dict[Resource, float]] = {}
    for object_id, resource, total in connection.execute(query.group_by(*columns)):
        found.setdefault(object_id, {})[Resource(resource)] = float(total)
    return found


def stored_bytes(connection: Connection, since: datetime) -> dict[str, float]:
    """The bytes that tables of each user had at the last look since a time."""
    last = select(func.max(usage.c.hour)).where(usage.c.resource == Resource.STORAGE.value).scalar_subquery()
    query = select(usage.c.run_as, func.sum(usage.c.quantity)).where(
        usage.c.resource == Resource.STORAGE.value, usage.c.hour == last, usage.c.hour >= since
    )
    return {name: float(total) * 2**30 for name, total in connection.execute(query.group_by(usage.c.run_as))}


def remove_before(connection: Connection, before: datetime) -> int:
    """Forget old records; how many."""
    return connection.execute(delete(usage).where(usage.c.hour < before)).rowcount


def _with_price(query: Select[Any]) -> Select[Any]:
    in_force = and_(
        prices.c.sku == usage.c.sku,
        prices.c.start <= usage.c.hour,
        or_(prices.c.end.is_(None), prices.c.end > usage.c.hour),
    )
    return query.select_from(usage.outerjoin(prices, in_force))


def _priced(table: Table) -> Select[Any]:
    cost = (table.c.quantity * func.coalesce(prices.c.amount, 0.0)).label("cost")
    return _with_price(select(*table.c, cost))


def _conditions(wanted: Wanted) -> list[ColumnElement[bool]]:
    equal = {name: getattr(wanted, name) for name in ("run_as", "product", "run_id", "kind", "object_id")}
    found: list[ColumnElement[bool]] = [usage.c[name] == value for name, value in equal.items() if value is not None]
    if wanted.since is not None:
        found.append(usage.c.hour >= wanted.since)
    if wanted.until is not None:
        found.append(usage.c.hour < wanted.until)
    return found


def _subject(row: Any) -> Subject:
    return Subject(
        product=Product(row.product),
        run_as=row.run_as,
        kind=row.kind,
        object_id=row.object_id,
        object_name=row.object_name,
        run_id=getattr(row, "run_id", None),
        cluster_id=getattr(row, "cluster_id", ""),
        tags=Subject.tagged(row.tags),
        included=row.included,
    )


def _record(row: Any) -> Record:
    return Record(
        id=row.id, hour=row.hour, sku=row.sku, resource=Resource(row.resource), quantity=row.quantity,
        subject=_subject(row), cost=float(row.cost),
    )  # fmt: skip
