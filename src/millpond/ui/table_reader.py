"""Rows, history and size of tables for pages.

A Delta table is read at its place, after the catalog has said that the principal may read it: that starts no engine. A
view, or a table of another format, is read through the gateway as the principal's own query.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from millpond.catalog.domain import ObjectName, Table, TableType
from millpond.catalog.service import CatalogService
from millpond.engine.delta import describe
from millpond.engine.delta.table import Storage, delta_errors, open_table
from millpond.identity.access import Act, require
from millpond.identity.domain import Principal
from millpond.kernel.errors import MillpondError, Unavailable
from millpond.kernel.settings import S3Settings
from millpond.ui.ports import Commit, Detail

if TYPE_CHECKING:
    import pyarrow as pa


def delta_options(s3: S3Settings) -> dict[str, str]:
    """What delta-rs needs for tables on S3; on local storage it looks at none of it."""
    options = {
        "AWS_REGION": s3.region,
        "AWS_ENDPOINT_URL": s3.endpoint_url,
        "AWS_ACCESS_KEY_ID": s3.access_key_id,
        "AWS_SECRET_ACCESS_KEY": s3.secret_access_key,
        "AWS_ALLOW_HTTP": "true" if s3.allow_http else None,
    }
    return {name: value for name, value in options.items() if value}


Query = Callable[[Principal, str], "pa.Table"]
"""Runs a statement as somebody."""


class CatalogTables:
    """The `TableReader` of a Millpond."""

    def __init__(self, catalog: CatalogService, *, storage_options: Mapping[str, str], query: Query) -> None:
        self._catalog = catalog
        self._storage_options = storage_options
        self._query = query

    def preview(self, principal: Principal, name: ObjectName, *, limit: int) -> "pa.Table":
        """The first rows of a table or view. Raises NotFound, PermissionDenied, and what reading raises."""
        table = self._readable(principal, name)
        if table.table_type is TableType.VIEW or table.data_source_format != "DELTA":
            return self._query(principal, f"SELECT * FROM {name.quoted} LIMIT {int(limit)}")  # noqa: S608 - quoted
        storage = self._storage(table)
        delta = open_table(storage)
        with delta_errors(storage.url):
            return delta.to_pyarrow_dataset().head(limit, batch_size=limit)

    def history(self, principal: Principal, name: ObjectName, *, limit: int) -> Sequence[Commit]:
        """A table's commits, newest first."""
        entries = describe.history(self._storage(self._readable(principal, name)), limit)
        return [
            Commit(
                version=entry["version"],
                timestamp_ms=entry["timestamp"] or 0,
                user=entry["userName"] or "",
                operation=entry["operation"] or "",
                parameters=entry["operationParameters"],
                metrics=entry["operationMetrics"],
            )
            for entry in entries
        ]

    def detail(self, principal: Principal, name: ObjectName) -> Detail:
        """A table's size and protocol."""
        storage = self._storage(self._readable(principal, name))
        found = describe.detail(storage)
        return Detail(
            version=open_table(storage).version(),
            size_bytes=found.size_bytes,
            files=found.files,
            partition_columns=tuple(found.partition_columns),
            reader_version=found.reader_version,
            writer_version=found.writer_version,
        )

    def _readable(self, principal: Principal, name: ObjectName) -> Table:
        table = self._catalog.get_table(principal, name)
        require(principal, Act.READ, table.securable)
        return table

    def _storage(self, table: Table) -> Storage:
        return Storage(url=table.storage_location, options=self._storage_options)


class GatewayQuery:
    """Runs statements through our own gateway, with a token that lives as long as one needs."""

    def __init__(self, *, spark_url: str, mint: Callable[[Principal, float], str], timeout_s: float = 60) -> None:
        self._spark_url = spark_url
        self._mint = mint
        self._timeout_s = timeout_s

    def __call__(self, principal: Principal, statement: str) -> "pa.Table":
        """The rows of a statement. Raises Unavailable, or InvalidArgument with the engine's words."""
        from pyspark.errors import PySparkException  # here: half a second of imports that only views need
        from pyspark.sql.connect.session import SparkSession

        token = self._mint(principal, self._timeout_s * 2)
        session = SparkSession.builder.remote(f"{self._spark_url}/;token={token}").create()
        try:
            return session.sql(statement).toArrow()
        except PySparkException as error:
            raise _ViewFailed(str(error)) from error
        except Exception as error:  # gRPC's own errors: the gateway is not there
            raise Unavailable(f"The query engine did not answer: {type(error).__name__}; try again.") from error
        finally:
            session.stop()


class _ViewFailed(MillpondError):
    """The engine refused the statement."""

    code = "INVALID_PARAMETER_VALUE"
