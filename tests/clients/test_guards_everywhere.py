"""A row filter and a mask hold for the statement API, the page's preview and files, on both databases."""

import uuid
from typing import Any

import polars as pl
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import PermissionDenied
from pyspark.sql import SparkSession

from tests.servers import Server

pytestmark = pytest.mark.filterwarnings("ignore::polars.exceptions.UnstableWarning")


def test_a_restricted_user_sees_the_same_through_every_door(any_server: Server) -> None:
    """What is hidden is hidden; what cannot hide it is refused."""
    run = uuid.uuid4().hex[:8]
    catalog, name = f"veiled_{run}", f"vera-{run}@example.com"
    token = any_server.new_user(name)
    spark = SparkSession.builder.remote(any_server.spark_remote).create()
    for statement in (
        f"CREATE CATALOG {catalog}",
        f"USE {catalog}.default",
        "CREATE FUNCTION mine(who STRING) RETURNS BOOLEAN RETURN who = current_user()",
        "CREATE FUNCTION veil(v STRING) RETURNS STRING RETURN '***'",
        "CREATE TABLE t (who STRING, ssn STRING MASK veil) WITH ROW FILTER mine ON (who)",
        f"INSERT INTO t VALUES ('{name}', '111-22'), ('other', '333-44')",
        "CREATE VIEW v AS SELECT ssn FROM t",
        f"GRANT USE CATALOG, USE SCHEMA, SELECT ON CATALOG {catalog} TO `{name}`",
    ):
        spark.sql(statement).collect()
    assert spark.table("t").collect() == []  # the administrator's own rows: none
    spark.stop()
    w = WorkspaceClient(host=any_server.url, token=token, auth_type="pat", config_file="/nowhere")
    table = f"{catalog}.default.t"
    assert told(w, f"SELECT * FROM {table}") == [[name, "***"]]
    assert told(w, f"SELECT * FROM {catalog}.default.v") == [["***"]]
    info = w.tables.get(table)
    assert info.row_filter is not None
    assert info.row_filter.function_name == f"{catalog}.default.mine"
    with pytest.raises(PermissionDenied, match="row filter or column masks"):
        w.temporary_table_credentials.generate_temporary_table_credentials(table_id=str(info.table_id))
    polars = pl.Catalog(any_server.url, bearer_token=token, require_https=False)
    with pytest.raises(ValueError, match="storage_location"):
        polars.scan_table(catalog, "default", "t").collect()


def told(w: WorkspaceClient, text: str) -> list[list[Any]]:
    """The rows of a statement."""
    done = w.statement_execution.execute_statement(text, "starter", wait_timeout="50s")
    assert done.result is not None, done.status
    return done.result.data_array or []
