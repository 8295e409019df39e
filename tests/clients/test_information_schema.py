"""`information_schema` in SQL: each catalog tells what it holds, to each what they may see."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.service import catalog as uc

from tests.servers import Server

pytestmark = pytest.mark.filterwarnings("ignore")  # the client leaves its connections to the garbage collector


@dataclass(frozen=True)
class Shop:
    """A catalog with one of each kind of object, its owner and a stranger."""

    name: str
    owner: WorkspaceClient
    stranger: WorkspaceClient

    def rows(self, text: str, w: WorkspaceClient | None = None) -> list[list[str]]:
        found = (w or self.owner).statement_execution.execute_statement(text, "starter", catalog=self.name)
        assert found.status.error is None, found.status.error
        return found.result.data_array or []


@pytest.fixture(scope="module")
def shop(any_server: Server) -> Iterator[Shop]:
    def user(name: str) -> WorkspaceClient:
        token = any_server.new_user(f"{name}-{uuid.uuid4().hex[:6]}@shop")
        return WorkspaceClient(host=any_server.url, token=token, auth_type="pat", config_file="/nowhere")

    name = f"shop_{uuid.uuid4().hex[:8]}"
    made = Shop(name, user("owner"), user("stranger"))
    made.owner.catalogs.create(name)
    for text in (
        f"CREATE TABLE {name}.default.customers (id BIGINT NOT NULL, born DATE COMMENT 'birthday') COMMENT 'who buys'",
        f"CREATE TABLE {name}.default.orders (id BIGINT NOT NULL, customer BIGINT, price DECIMAL(10,2), day DATE) "
        "PARTITIONED BY (day)",
        f"ALTER TABLE {name}.default.customers ADD CONSTRAINT customers_pk PRIMARY KEY (id)",
        f"ALTER TABLE {name}.default.orders ADD CONSTRAINT orders_fk FOREIGN KEY (customer) "
        f"REFERENCES {name}.default.customers (id)",
        f"CREATE VIEW {name}.default.spent AS SELECT sum(price) AS total FROM {name}.default.orders",
        f"CREATE VIEW {name}.default.listed AS SELECT table_name FROM {name}.information_schema.tables",
        f"CREATE VOLUME {name}.default.files",
        f"SET TAG ON TABLE {name}.default.orders pii = `no`",
        f"ALTER TABLE {name}.default.customers ALTER COLUMN born SET TAGS ('pii' = 'yes')",
    ):
        made.rows(text)
    made.owner.functions.create(
        uc.CreateFunction(
            name="twice", catalog_name=name, schema_name="default", data_type=uc.ColumnTypeName.LONG,
            full_data_type="bigint", input_params=uc.FunctionParameterInfos(parameters=[]),
            routine_body=uc.CreateFunctionRoutineBody.SQL, routine_definition="2", is_deterministic=True,
            parameter_style=uc.CreateFunctionParameterStyle.S, sql_data_access=uc.CreateFunctionSqlDataAccess.NO_SQL,
            security_type=uc.CreateFunctionSecurityType.DEFINER, specific_name="twice", is_null_call=False,
        )
    )  # fmt: skip
    yield made
    made.owner.catalogs.delete(name, force=True)


def test_each_relation_tells_what_there_is(shop: Shop) -> None:
    """One query for each, as tools write them."""
    tables = "SELECT table_name, table_type, comment FROM information_schema.tables ORDER BY table_name"
    assert shop.rows(tables) == [
        ["customers", "MANAGED", "who buys"], ["listed", "VIEW", None], ["orders", "MANAGED", None],
        ["spent", "VIEW", None],
    ]  # fmt: skip
    columns = """SELECT column_name, ordinal_position, is_nullable, full_data_type, data_type, partition_index, comment
        FROM information_schema.columns WHERE table_name = 'orders' OR comment IS NOT NULL ORDER BY table_name, 2"""
    assert shop.rows(columns) == [
        ["born", "1", "YES", "date", "DATE", None, "birthday"],
        ["id", "0", "NO", "bigint", "BIGINT", None, None],
        ["customer", "1", "YES", "bigint", "BIGINT", None, None],
        ["price", "2", "YES", "decimal(10,2)", "DECIMAL", None, None],
        ["day", "3", "YES", "date", "DATE", "0", None],
    ]
    assert shop.rows("SELECT schema_name FROM information_schema.schemata") == [["default"], ["information_schema"]]
    assert shop.rows("SELECT catalog_name FROM information_schema.catalogs") == [[shop.name]]
    views = "SELECT view_definition FROM information_schema.views WHERE table_name = 'spent'"
    assert shop.rows(views) == [[f"SELECT sum(price) AS total FROM {shop.name}.default.orders"]]
    assert shop.rows("SELECT volume_name, volume_type FROM information_schema.volumes") == [["files", "MANAGED"]]
    routines = "SELECT routine_name, routine_body, full_data_type FROM information_schema.routines"
    assert shop.rows(routines) == [["twice", "SQL", "bigint"]]
    keys = """SELECT u.table_name, u.column_name, c.constraint_type FROM information_schema.table_constraints c
        JOIN information_schema.key_column_usage u USING (constraint_name) ORDER BY 1"""
    assert shop.rows(keys) == [["customers", "id", "PRIMARY KEY"], ["orders", "customer", "FOREIGN KEY"]]
    parents = """SELECT r.constraint_name, u.table_name, u.constraint_name
        FROM information_schema.referential_constraints r
        JOIN information_schema.key_column_usage u ON r.unique_constraint_schema = u.constraint_schema
        AND r.unique_constraint_name = u.constraint_name WHERE r.unique_constraint_table = u.table_name"""
    assert shop.rows(parents) == [["orders_fk", "customers", "customers_pk"]]
    tags = """SELECT table_name, column_name, tag_value FROM information_schema.column_tags UNION ALL
        SELECT table_name, schema_name, tag_value FROM information_schema.table_tags ORDER BY 1"""
    assert shop.rows(tags) == [["customers", "born", "yes"], ["orders", "default", "no"]]


def test_it_can_be_described_and_shown(shop: Shop) -> None:
    """SHOW and DESCRIBE treat the relations as the views that they look like."""
    assert ["information_schema"] in shop.rows("SHOW SCHEMAS")
    assert "columns" in [row[1] for row in shop.rows("SHOW TABLES IN information_schema")]
    assert shop.rows("DESCRIBE information_schema.catalogs")[0] == ["catalog_name", "string", None]
    assert shop.owner.tables.get(f"{shop.name}.information_schema.tables").columns[0].name == "table_catalog"


def test_everybody_sees_what_they_may_see(shop: Shop) -> None:
    """A stranger: not the catalog, nor in `system` anything of it; nor through somebody's view more than is theirs."""
    refused = shop.stranger.statement_execution.execute_statement(
        f"SELECT * FROM {shop.name}.information_schema.tables", "starter"
    )
    assert refused.status.sql_state == "42P01"
    everywhere = f"SELECT count(*) FROM system.information_schema.tables WHERE table_catalog = '{shop.name}'"
    lawful = lambda w: w.statement_execution.execute_statement(everywhere, "starter").result.data_array  # noqa: E731
    assert (lawful(shop.owner), lawful(shop.stranger)) == ([["4"]], [["0"]])
    tagged = f"SELECT count(*) FROM system.information_schema.table_tags WHERE catalog_name = '{shop.name}'"
    lawful = lambda w: w.statement_execution.execute_statement(tagged, "starter").result.data_array  # noqa: E731
    assert (lawful(shop.owner), lawful(shop.stranger)) == ([["1"]], [["0"]])
    assert len(shop.rows("SELECT * FROM default.listed")) == 4


@pytest.mark.parametrize(
    ("text", "sql_state"),
    [
        ("CREATE TABLE information_schema.mine (a INT)", "42704"),
        ("INSERT INTO information_schema.tables SELECT * FROM information_schema.tables", None),
        ("DROP VIEW information_schema.tables", None),
        ("DELETE FROM information_schema.tables", None),
        ("SELECT * FROM information_schema.nothing", "42P01"),
    ],
)
def test_nobody_writes_to_it(shop: Shop, text: str, sql_state: str | None) -> None:
    found = shop.owner.statement_execution.execute_statement(text, "starter", catalog=shop.name).status
    assert found.error is not None
    assert sql_state in (None, found.sql_state), found
    assert shop.rows("SELECT count(*) FROM information_schema.tables") == [["4"]]
