"""`system.billing.usage` and `system.billing.list_prices`, found when they are read, for who reads them.

Source: Databricks documentation, "Billable usage system table reference" and "Pricing system table reference".
"""

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from millpond.billing.domain import HOUR, PRICED, Price, Record
from millpond.billing.prices import PriceService
from millpond.billing.store.usage import Wanted
from millpond.billing.usage import UsageService
from millpond.catalog.domain import Column
from millpond.identity.domain import Principal

USAGE_NAME = ("system", "billing", "usage")
PRICES_NAME = ("system", "billing", "list_prices")
MAX_ROWS = 50_000
"""Of one reading; the API adds up all."""
_METADATA = (
    "job_id", "job_run_id", "job_name", "cluster_id", "warehouse_id", "endpoint_id", "endpoint_name", "table_id",
    "table_name", "dlt_pipeline_id",
)  # fmt: skip
_DECIMAL = ("decimal(38,18)", '"decimal(38,18)"')
_STRING, _TIME, _DATE = ("string", '"string"'), ("timestamp", '"timestamp"'), ("date", '"date"')
_TAGS = (
    "map<string,string>",
    '{"type":"map","keyType":"string","valueType":"string","valueContainsNull":true}',
)


def _struct(**fields: tuple[str, str]) -> tuple[str, str]:
    told = [
        {"name": name, "type": json.loads(kind), "nullable": True, "metadata": {}} for name, (_, kind) in fields.items()
    ]
    text = ",".join(f"{name}:{kind}" for name, (kind, _) in fields.items())
    return f"struct<{text}>", json.dumps({"type": "struct", "fields": told}, separators=(",", ":"))


def _columns(told: Sequence[tuple[str, tuple[str, str], str]]) -> tuple[Column, ...]:
    return tuple(
        Column(name=name, type_text=text, type_json=kind, comment=comment or None, position=position)
        for position, (name, (text, kind), comment) in enumerate(told)
    )


class UsageTable:
    """Usage records: all of them for an administrator, else those that ran as who reads."""

    comment = f"What was used in each hour, by whom and for what, the newest {MAX_ROWS:,} records that you may see."
    columns = _columns((
        ("record_id", _STRING, "Stays while the hour's quantity grows."),
        ("account_id", _STRING, "This installation is one account."),
        ("workspace_id", _STRING, ""),
        ("sku_name", _STRING, "Under which it has a price; what ends in _INCLUDED has none."),
        ("cloud", _STRING, "LOCAL"),
        ("usage_start_time", _TIME, "The hour's beginning."),
        ("usage_end_time", _TIME, "Its end, also while it lasts."),
        ("usage_date", _DATE, "Its day, in UTC."),
        ("custom_tags", _TAGS, "Of the job, cluster, endpoint or statement."),
        ("usage_unit", _STRING, "CPU_SECOND, GIB_SECOND, GPU_SECOND, GIB_HOUR or REQUEST."),
        ("usage_quantity", _DECIMAL, ""),
        ("usage_metadata", _struct(**dict.fromkeys(_METADATA, _STRING)), "For what it was used."),
        ("identity_metadata", _struct(run_as=_STRING), "Who used it, or owns what did."),
        ("record_type", _STRING, "ORIGINAL: nothing is corrected later."),
        ("ingestion_date", _DATE, "The same as usage_date."),
        ("billing_origin_product", _STRING, "JOBS, ALL_PURPOSE, MODEL_SERVING, SQL or DEFAULT_STORAGE."),
        ("usage_type", _STRING, "COMPUTE_TIME, MEMORY_TIME, GPU_TIME, STORAGE_SPACE or API_OPERATION."),
    ))  # fmt: skip

    def __init__(self, usage: UsageService, *, workspace_id: int) -> None:
        self._usage = usage
        self._workspace_id = str(workspace_id)

    def rows(self, principal: Principal) -> list[tuple[Any, ...]]:
        """The newest that the principal may see."""
        return [self._row(each) for each in self._usage.records(principal, Wanted(), MAX_ROWS)]

    def _row(self, record: Record) -> tuple[Any, ...]:
        subject, day = record.subject, record.hour.date()
        return (
            record.id, self._workspace_id, self._workspace_id, record.sku, "LOCAL", record.hour, record.hour + HOUR,
            day, list(subject.tags), record.resource.unit, Decimal(f"{record.quantity:.9f}"), _metadata(record),
            {"run_as": subject.run_as}, "ORIGINAL", day, subject.product.value, record.resource.usage_type,
        )  # fmt: skip


def _metadata(record: Record) -> dict[str, str | None]:
    subject = record.subject
    of_kind = {f"{subject.kind}_id": subject.object_id, f"{subject.kind}_name": subject.object_name}
    known = {
        "cluster_id": subject.cluster_id,
        **of_kind,
        "dlt_pipeline_id": of_kind.get("pipeline_id", ""),
        "job_run_id": "" if subject.run_id is None else str(subject.run_id),
    }
    return {name: known.get(name) or None for name in _METADATA}


class PricesTable:
    """The price list, everybody's to read."""

    comment = "What a unit of each SKU costs, and when it did."
    columns = _columns((
        ("price_start_time", _TIME, ""),
        ("price_end_time", _TIME, "NULL for the price in force."),
        ("account_id", _STRING, ""),
        ("sku_name", _STRING, ""),
        ("cloud", _STRING, "LOCAL"),
        ("currency_code", _STRING, ""),
        ("usage_unit", _STRING, ""),
        ("pricing", _struct(default=_DECIMAL, effective_list=_struct(default=_DECIMAL)), "Both are the same."),
    ))  # fmt: skip

    def __init__(self, prices: PriceService, *, workspace_id: int) -> None:
        self._prices = prices
        self._workspace_id = str(workspace_id)

    def rows(self, _principal: Principal) -> list[tuple[Any, ...]]:
        """All prices that ever were."""
        return [self._row(each) for each in self._prices.list_all()]

    def _row(self, price: Price) -> tuple[Any, ...]:
        amount = Decimal(f"{price.amount:.12f}")
        return (
            price.start, price.end, self._workspace_id, price.sku, "LOCAL", self._prices.currency,
            PRICED[price.sku].unit, {"default": amount, "effective_list": {"default": amount}},
        )  # fmt: skip
