"""What is metered, what it costs, and the rules of budgets and quotas."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

HOUR = timedelta(hours=1)


class Product(StrEnum):
    """Where usage came from: names of `billing_origin_product`."""

    JOBS = "JOBS"
    ALL_PURPOSE = "ALL_PURPOSE"
    SERVING = "MODEL_SERVING"
    SQL = "SQL"
    ONLINE = "ONLINE_TABLES"
    STORAGE = "DEFAULT_STORAGE"


class Resource(StrEnum):
    """What is metered."""

    CPU = "CPU"
    MEMORY = "MEMORY"
    GPU = "GPU"
    STORAGE = "STORAGE"
    REQUEST = "REQUEST"

    @property
    def unit(self) -> str:
        """In what it is counted."""
        return _UNITS[self][0]

    @property
    def usage_type(self) -> str:
        """Of what kind it is, in `system.billing.usage`."""
        return _UNITS[self][1]


_UNITS = {
    Resource.CPU: ("CPU_SECOND", "COMPUTE_TIME"),
    Resource.MEMORY: ("GIB_SECOND", "MEMORY_TIME"),
    Resource.GPU: ("GPU_SECOND", "GPU_TIME"),
    Resource.STORAGE: ("GIB_HOUR", "STORAGE_SPACE"),
    Resource.REQUEST: ("REQUEST", "API_OPERATION"),
}
_METERED = {
    Product.JOBS: (Resource.CPU, Resource.MEMORY, Resource.GPU),
    Product.ALL_PURPOSE: (Resource.CPU, Resource.MEMORY),
    Product.SERVING: (Resource.CPU, Resource.MEMORY, Resource.GPU, Resource.REQUEST),
    Product.SQL: (Resource.CPU, Resource.MEMORY, Resource.GPU, Resource.REQUEST),
    Product.ONLINE: (Resource.REQUEST,),
    Product.STORAGE: (Resource.STORAGE,),
}
_INCLUDED = "_INCLUDED"
"""Ends the SKU of what ran on a cluster, whose slice is what costs."""


def sku_of(product: Product, resource: Resource, *, included: bool = False) -> str:
    """The name under which something is priced."""
    name = "STORAGE" if resource is Resource.STORAGE else f"{product}_{resource}"
    return name + _INCLUDED if included else name


PRICED = {sku_of(product, each): each for product, resources in _METERED.items() for each in resources}
"""The SKUs that have a price, with what is metered."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Whose usage it is, and of what."""

    product: Product
    run_as: str
    kind: str = ""
    """job, pipeline, cluster, endpoint, model, warehouse, table or online_table; empty for what is a user's alone."""
    object_id: str = ""
    object_name: str = ""
    run_id: int | None = None
    """Of a job."""
    cluster_id: str = ""
    """On which it ran."""
    tags: tuple[tuple[str, str], ...] = ()
    included: bool = False
    """Whether it is part of what something else is charged for."""

    @staticmethod
    def tagged(tags: Mapping[str, str | None] | None) -> tuple[tuple[str, str], ...]:
        """Tags as a subject has them."""
        return tuple(sorted((str(key), str(value or "")) for key, value in (tags or {}).items()))


Used = Mapping[Resource, float]


def hour_of(moment: datetime) -> datetime:
    """The beginning of an hour."""
    return moment.replace(minute=0, second=0, microsecond=0)


def record_id(hour: datetime, subject: Subject, resource: Resource) -> str:
    """The same for all that is added to one record."""
    told = [hour.isoformat(), resource.value, *(str(value) for value in vars(subject).values())]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]


@dataclass(frozen=True, kw_only=True)
class Record:
    """A usage record."""

    id: str
    hour: datetime
    sku: str
    resource: Resource
    quantity: float
    subject: Subject
    cost: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Price:
    """Of a SKU, for a time."""

    sku: str
    start: datetime
    end: datetime | None
    amount: float
    """For one unit."""


class Period(StrEnum):
    """For how long usage adds up."""

    DAY = "DAY"
    MONTH = "MONTH"

    def start(self, now: datetime) -> datetime:
        """When the period began in which a moment lies (UTC)."""
        day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return day if self is Period.DAY else day.replace(day=1)

    def end(self, now: datetime) -> datetime:
        """When the next one begins."""
        start = self.start(now)
        if self is Period.DAY:
            return start + timedelta(days=1)
        return (start + timedelta(days=32)).replace(day=1)


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What a budget covers: all that fits each of its lists that is not empty."""

    tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    users: tuple[str, ...] = ()
    products: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ()
    """By their names."""

    def covers(self, subject: Subject) -> bool:
        """Whether some usage counts."""
        has = dict(subject.tags)
        job = subject.object_id if subject.kind == "job" else ""
        endpoint = subject.object_name if subject.kind == "endpoint" else ""
        lists = ((self.users, subject.run_as), (self.products, subject.product), (self.jobs, job))
        return (
            all(has.get(key) in values for key, values in self.tags.items())
            and all(value in allowed for allowed, value in (*lists, (self.endpoints, endpoint)) if allowed)
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Alert:
    """Somebody is told, once in each period, when so much was spent."""

    id: str
    threshold: float
    period: Period
    emails: tuple[str, ...] = ()
    destinations: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What something may cost before somebody is told."""

    id: str
    name: str
    scope: Scope
    alerts: tuple[Alert, ...]
    created_by: str
    created_at: datetime
    updated_at: datetime


class Measure(StrEnum):
    """What a quota bounds."""

    CPU = "cpu_seconds"
    MEMORY = "memory_gib_seconds"
    GPU = "gpu_seconds"
    REQUESTS = "requests"
    COST = "cost"
    TASKS = "running_tasks"
    CORES = "cluster_cores"
    STORAGE = "storage_bytes"

    @property
    def adds_up(self) -> bool:
        """Whether it is of a period, and not of now."""
        return self not in (Measure.TASKS, Measure.CORES, Measure.STORAGE)


MEASURED = {
    Resource.CPU: Measure.CPU,
    Resource.MEMORY: Measure.MEMORY,
    Resource.GPU: Measure.GPU,
    Resource.REQUEST: Measure.REQUESTS,
}


class Holder(StrEnum):
    """Whose usage a quota bounds."""

    USER = "user"
    GROUP = "group"
    """Its members together."""
    MEMBER = "member"
    """Each member of a group for itself."""
    TAG = "tag"
    """`key=value`: all that carries it."""


@dataclass(frozen=True, kw_only=True)
class Quota:
    """So much, and no more."""

    id: str
    holder: Holder
    name: str
    """Of the user or group; a tag as `key=value`."""
    measure: Measure
    limit: float
    period: Period | None
    """None for what is of now."""
    created_by: str
    created_at: datetime

    @property
    def words(self) -> str:
        """It in a message."""
        whose = f"each member of {self.name}" if self.holder is Holder.MEMBER else f"{self.holder} {self.name}"
        return f"{self.measure}{f' per {self.period.lower()}' if self.period else ''} of {whose}"

    @property
    def tag(self) -> tuple[str, str]:
        """Key and value."""
        key, _, value = self.name.partition("=")
        return key, value
