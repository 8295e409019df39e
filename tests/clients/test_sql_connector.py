"""The official databricks-sql-connector, over the Statement Execution API (`use_sea=True`)."""

import datetime
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import pytest
from databricks import sql
from databricks.sql.exc import Error, RequestError, ServerOperationError

from tests.servers import Server, wait_until

pytestmark = pytest.mark.filterwarnings("ignore")  # the client leaves its connections to the garbage collector
SLOW = "SELECT count(*) FROM range(100000) a CROSS JOIN range(1000000) b WHERE (a.id * b.id) % 7 = 3"


def connect(server: Server, token: str | None = None, **options: Any) -> Any:
    address = urlsplit(server.url)
    return sql.connect(
        server_hostname=f"http://{address.hostname}",
        _port=address.port,
        http_path="/sql/1.0/warehouses/starter",
        access_token=token or server.token,
        use_sea=True,
        enable_telemetry=False,  # it would ask for feature flags at the host's port 80
        **options,
    )


@pytest.fixture(scope="module")
def schema(any_server: Server) -> Iterator[str]:
    """A schema of the administrator's with the table `people` and the view `adults`."""
    name = f"connector_{uuid.uuid4().hex[:8]}"
    with connect(any_server) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE SCHEMA main.{name}")
        cursor.execute(f"CREATE TABLE main.{name}.people (name STRING COMMENT 'called', age INT NOT NULL)")
        cursor.execute(f"INSERT INTO main.{name}.people VALUES ('Ann', 40), ('Bob', 7)")
        cursor.execute(f"CREATE VIEW main.{name}.adults AS SELECT * FROM main.{name}.people WHERE age > 17")
        yield name
        cursor.execute(f"DROP SCHEMA main.{name} CASCADE")


@pytest.fixture
def cursor(any_server: Server, schema: str) -> Iterator[Any]:
    with connect(any_server, catalog="main", schema=schema) as connection, connection.cursor() as cursor:
        yield cursor


def test_a_query_with_parameters(cursor: Any) -> None:
    """Values arrive as they are, with their types, and the description says what comes back."""
    cursor.execute(
        "SELECT name, age, CAST(:price AS DECIMAL(10,2)) AS price, :day AS day FROM people WHERE name = :name",
        {"name": "Ann", "price": Decimal("1.50"), "day": datetime.date(2024, 2, 29)},
    )
    assert [(column[0], column[1]) for column in cursor.description] == [
        ("name", "string"), ("age", "int"), ("price", "decimal"), ("day", "date"),
    ]  # fmt: skip
    assert [tuple(row) for row in cursor.fetchall()] == [("Ann", 40, Decimal("1.50"), datetime.date(2024, 2, 29))]
    cursor.execute("SELECT count(*) FROM people WHERE name = :name", {"name": "x' OR '1'='1"})
    assert cursor.fetchone()[0] == 0


def test_a_large_result_in_pieces(cursor: Any) -> None:
    """Several chunks, fetched as rows and then as Arrow."""
    cursor.execute("SELECT id, repeat(CAST(id AS STRING), 10) AS text FROM range(300000)")
    first = [row[0] for row in cursor.fetchmany(1000)]
    rest = cursor.fetchall_arrow().column("id").to_pylist()
    assert sorted(first + rest) == list(range(300000))


@pytest.mark.parametrize("options", [{"use_cloud_fetch": False}, {"use_hybrid_disposition": True}])
def test_a_result_inside_the_answer(any_server: Server, options: dict[str, Any]) -> None:
    """As text, which the client converts, and as attached Arrow."""
    with connect(any_server, **options) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1L AS a, 2.5D AS b, DATE'2024-02-29' AS c, X'00ff' AS d, TRUE AS e, NULL AS f, 1.5 AS g")
        row = cursor.fetchall()[0]
        expected = (1, 2.5, datetime.date(2024, 2, 29), b"\x00\xff", True, None, Decimal("1.5"))
        assert tuple(row) == expected
        cursor.execute("SELECT 1 AS one WHERE FALSE")
        assert cursor.fetchall() == []
        assert cursor.description[0][0] == "one"


def test_a_session_keeps_what_its_statements_do(any_server: Server, cursor: Any) -> None:
    """Temporary views and the current schema; another session has none of it."""
    cursor.execute("CREATE TEMPORARY VIEW mine AS SELECT 42 AS answer")
    cursor.execute("USE main.default")
    cursor.execute("SELECT current_schema(), answer FROM mine")
    assert tuple(cursor.fetchone()) == ("default", 42)
    with connect(any_server) as other, other.cursor() as elsewhere:  # noqa: SIM117 - only the last may fail
        with pytest.raises(ServerOperationError, match="TABLE_OR_VIEW_NOT_FOUND"):
            elsewhere.execute("SELECT * FROM mine")


def test_a_session_has_the_time_zone_that_it_asked_for(any_server: Server) -> None:
    zone = {"TIMEZONE": "Asia/Tokyo"}
    with connect(any_server, session_configuration=zone) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT CAST(TIMESTAMP'2024-01-01 00:00:00Z' AS STRING)")
        assert cursor.fetchone()[0] == "2024-01-01 09:00:00"


def test_an_error_is_the_engines(cursor: Any) -> None:
    with pytest.raises(ServerOperationError, match=r"BAD_REQUEST - \[UNRESOLVED_COLUMN"):
        cursor.execute("SELECT nothing FROM people")


def test_a_running_statement_can_be_cancelled(cursor: Any) -> None:
    cursor.execute_async(SLOW)
    cursor.cancel()
    wait_until(lambda: not cursor.is_query_pending(), what="the end of the statement")
    with pytest.raises(Error):
        cursor.get_async_execution_result().fetchall()


def test_metadata_of_catalogs_schemas_tables_and_columns(cursor: Any, schema: str) -> None:
    """What BI tools ask for first."""
    assert ("main",) in [tuple(row) for row in cursor.catalogs().fetchall()]
    schemas = [row[0] for row in cursor.schemas(catalog_name="main", schema_name="connector_*").fetchall()]
    assert schema in schemas
    tables = cursor.tables(catalog_name="main", schema_name=schema).fetchall_arrow().to_pylist()
    assert [(row["tableName"], row["tableType"]) for row in tables] == [("adults", "VIEW"), ("people", "TABLE")]
    views = cursor.tables(catalog_name="main", schema_name=schema, table_types=["VIEW"]).fetchall_arrow().to_pylist()
    assert [row["tableName"] for row in views] == ["adults"]
    found = cursor.columns(catalog_name="main", schema_name=schema, table_name="people", column_name="na%")
    assert [(row["col_name"], row["columnType"], row["isNullable"], row["remarks"]) for row in
            found.fetchall_arrow().to_pylist()] == [("name", "string", "true", "called")]  # fmt: skip


def test_metadata_shows_only_what_one_may_see(any_server: Server, schema: str) -> None:
    token = any_server.new_user(f"reader-{uuid.uuid4().hex[:6]}@sql")
    with connect(any_server, token) as connection, connection.cursor() as cursor:
        assert schema not in [row[0] for row in cursor.schemas(catalog_name="main").fetchall()]
        assert cursor.tables(catalog_name="main", schema_name=schema).fetchall_arrow().num_rows == 0
        assert cursor.columns(catalog_name="main", schema_name=schema).fetchall_arrow().num_rows == 0


def test_anothers_session_is_not_there(any_server: Server) -> None:
    """Not to run in, not to end; and it is gone when its owner has closed it."""
    token = any_server.new_user(f"thief-{uuid.uuid4().hex[:6]}@sql")
    body = {"warehouse_id": "starter"}
    session = any_server.call("POST", "/api/2.0/sql/sessions", body)[1]["session_id"]
    stolen = {"warehouse_id": "starter", "session_id": session, "statement": "SELECT 1"}
    assert any_server.call("POST", "/api/2.0/sql/statements", stolen, token=token)[0] == 404
    assert any_server.call("DELETE", f"/api/2.0/sql/sessions/{session}", token=token)[0] == 404
    assert any_server.call("POST", "/api/2.0/sql/statements", stolen)[1]["status"]["state"] == "SUCCEEDED"
    assert any_server.call("DELETE", f"/api/2.0/sql/sessions/{session}")[0] == 200
    assert any_server.call("POST", "/api/2.0/sql/statements", stolen)[0] == 404


def test_a_wrong_token_is_refused(any_server: Server) -> None:
    with pytest.raises(RequestError):
        connect(any_server, "dapi" + "0" * 64, _retry_stop_after_attempts_count=1)
