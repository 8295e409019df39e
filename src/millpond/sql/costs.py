"""A statement as usage: a request of whoever sent it, with the statement's own tags."""

from millpond.billing.domain import Product, Resource, Subject, Used
from millpond.sql.domain import Statement


def request_of(statement: Statement, warehouse_name: str = "") -> tuple[Subject, Used]:
    """What a statement that has ended adds to the records."""
    subject = Subject(
        product=Product.SQL, run_as=statement.principal_name, kind="warehouse" if statement.warehouse_id else "",
        object_id=statement.warehouse_id, object_name=warehouse_name, tags=Subject.tagged(statement.tags),
    )  # fmt: skip
    return subject, {Resource.REQUEST: 1.0}
