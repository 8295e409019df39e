"""Reads of online tables as usage of whoever made them."""

from collections.abc import Iterator

from millpond.billing.domain import Product, Resource, Subject, Used
from millpond.online.reading import OnlineTables

KIND = "online_table"


def reads_of(tables: OnlineTables) -> Iterator[tuple[Subject, Used]]:
    """Reads since the last time."""
    for (table_id, name, creator), number in tables.reads.taken().items():
        subject = Subject(product=Product.ONLINE, run_as=creator, kind=KIND, object_id=table_id, object_name=name)
        yield subject, {Resource.REQUEST: float(number)}
