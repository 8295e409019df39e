"""The official databricks-sdk runs SQL: warehouses, statements and their results, saved queries, history."""

import csv
import io
import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import (
    BadRequest,
    InvalidParameterValue,
    NotFound,
    NotImplemented,
    PermissionDenied,
    ResourceAlreadyExists,
)
from databricks.sdk.service import iam
from databricks.sdk.service import sql as api
from databricks.sdk.service.sql import StatementParameterListItem as Parameter

from tests.servers import Server, wait_until

pytestmark = pytest.mark.filterwarnings("ignore")  # the client leaves its connections to the garbage collector
STARTER = "starter"
SLOW = "SELECT count(*) FROM range(100000) a CROSS JOIN range(1000000) b WHERE (a.id * b.id) % 7 = 3"
EXTERNAL = api.Disposition.EXTERNAL_LINKS
PATIENCE = timedelta(minutes=2)


def client(server: Server, token: str | None = None) -> WorkspaceClient:
    return WorkspaceClient(host=server.url, token=token or server.token, auth_type="pat", config_file="/nowhere")


@pytest.fixture(scope="module")
def admin(any_server: Server) -> WorkspaceClient:
    return client(any_server)


@pytest.fixture(scope="module")
def alice(any_server: Server) -> WorkspaceClient:
    return client(any_server, any_server.new_user(f"alice-{uuid.uuid4().hex[:6]}@sql"))


@pytest.fixture(scope="module")
def mallory(any_server: Server) -> WorkspaceClient:
    """A user who may nothing but what everybody may."""
    return client(any_server, any_server.new_user(f"mallory-{uuid.uuid4().hex[:6]}@sql"))


@pytest.fixture(scope="module")
def schema(admin: WorkspaceClient) -> Iterator[str]:
    """A schema of the administrator's in `main`."""
    name = f"sql_{uuid.uuid4().hex[:8]}"
    admin.schemas.create(name, "main")
    yield name
    admin.schemas.delete(f"main.{name}", force=True)


def run(w: WorkspaceClient, text: str, **options: Any) -> api.StatementResponse:
    options.setdefault("wait_timeout", "50s")
    return w.statement_execution.execute_statement(text, options.pop("warehouse_id", STARTER), **options)


def rows(w: WorkspaceClient, text: str, **options: Any) -> list[list[str]]:
    found = run(w, text, **options)
    assert found.status.state is api.StatementState.SUCCEEDED, found.status
    return found.result.data_array or []


def ended(w: WorkspaceClient, statement_id: str) -> api.StatementStatus:
    def status() -> api.StatementStatus | None:
        found = w.statement_execution.get_statement(statement_id).status
        return None if found.state in {api.StatementState.PENDING, api.StatementState.RUNNING} else found

    return wait_until(status, timeout_s=60, what=f"the end of {statement_id}")


def fetch(link: api.ExternalLink) -> bytes:
    """What whoever has the link gets, without a credential."""
    with urllib.request.urlopen(link.external_link, timeout=30) as answer:
        return answer.read()


# Warehouses


def test_a_warehouse_from_creation_to_deletion(admin: WorkspaceClient) -> None:
    """All calls with their waiters, as a deployment script makes them."""
    name = f"w-{uuid.uuid4().hex[:6]}"
    made = admin.warehouses.create_and_wait(
        name=name, cluster_size="X-Small", auto_stop_mins=10, max_num_clusters=2, timeout=PATIENCE,
        tags=api.EndpointTags(custom_tags=[api.EndpointTagPair(key="team", value="ml")]),
    )  # fmt: skip
    assert (made.state, made.cluster_size, made.auto_stop_mins) == (api.State.RUNNING, "X-Small", 10)
    assert made.odbc_params.path == f"/sql/1.0/warehouses/{made.id}"
    edited = admin.warehouses.edit_and_wait(made.id, name=f"{name}-2", cluster_size="Small", timeout=PATIENCE)
    assert (edited.name, edited.cluster_size, edited.auto_stop_mins) == (f"{name}-2", "Small", 10)
    assert edited.tags.custom_tags[0].value == "ml"
    assert admin.warehouses.stop_and_wait(made.id, timeout=PATIENCE).num_clusters == 0
    assert rows(admin, "SELECT 1", warehouse_id=made.id) == [["1"]]  # a statement starts it
    assert admin.warehouses.get(made.id).state is api.State.RUNNING
    assert made.id in {one.id for one in admin.warehouses.list()}
    assert made.id in {one.warehouse_id for one in admin.data_sources.list()}
    admin.warehouses.delete(made.id)
    with pytest.raises(NotFound):
        admin.warehouses.get(made.id)
    with pytest.raises(NotFound):
        run(admin, "SELECT 1", warehouse_id=made.id)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"cluster_size": "Huge"}, "Huge"),
        ({"auto_stop_mins": 5}, "auto_stop_mins is 5"),
        ({"max_num_clusters": 41}, "max_num_clusters is 41"),
        ({"name": ""}, "name"),
    ],
)
def test_a_wrong_warehouse_is_refused(admin: WorkspaceClient, wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidParameterValue, match=says):
        admin.warehouses.create(**{"name": "wrong", **wrong})


def test_two_warehouses_cannot_share_a_name(admin: WorkspaceClient) -> None:
    with pytest.raises(ResourceAlreadyExists, match="Starter Warehouse"):
        admin.warehouses.create(name="Starter Warehouse")


def test_who_may_do_what_with_a_warehouse(admin: WorkspaceClient, mallory: WorkspaceClient) -> None:
    """The starter is for all to use and for none to stop; another's warehouse is not there at all."""
    assert rows(mallory, "SELECT current_user()")[0][0].startswith("mallory-")
    for forbidden in (mallory.warehouses.stop, mallory.warehouses.delete):
        with pytest.raises(PermissionDenied):
            forbidden(STARTER)
    private = admin.warehouses.create(name=f"secret-{uuid.uuid4().hex[:6]}").result(timeout=PATIENCE)
    assert private.id not in {one.id for one in mallory.warehouses.list()}
    for hidden in (mallory.warehouses.get, mallory.warehouses.start, mallory.warehouses.delete):
        with pytest.raises(NotFound) as refused:
            hidden(private.id)
        assert "secret" not in str(refused.value)
    with pytest.raises(NotFound):
        run(mallory, "SELECT 1", warehouse_id=private.id)
    admin.warehouses.delete(private.id)


def test_the_workspace_configuration_is_read_only(admin: WorkspaceClient) -> None:
    assert admin.warehouses.get_workspace_warehouse_config().enabled_warehouse_types
    with pytest.raises(NotImplemented):
        admin.warehouses.set_workspace_warehouse_config(enable_serverless_compute=True)


# Statements


def test_values_of_every_type_and_their_manifest(alice: WorkspaceClient) -> None:
    """Text as the API writes it, NULL as null, and what a client needs to read it back."""
    text = """SELECT CAST(1 AS TINYINT) AS a, 2 AS b, 3L AS c, 1.50 AS d, 0.1D AS e, TRUE AS f, 'x' AS g, X'00ff' AS h,
        DATE'2024-02-29' AS i, TIMESTAMP'2024-02-29 12:30:00.25' AS j, ARRAY(1, NULL) AS k, MAP('a', 1) AS l,
        NAMED_STRUCT('x', 'y') AS m, CAST(NULL AS STRING) AS n, INTERVAL '1 02:03:04' DAY TO SECOND AS o"""
    found = run(alice, text)
    assert found.status.state is api.StatementState.SUCCEEDED, found.status
    columns = found.manifest.schema.columns
    assert [column.type_name.value for column in columns] == [
        "BYTE", "INT", "LONG", "DECIMAL", "DOUBLE", "BOOLEAN", "STRING", "BINARY", "DATE", "TIMESTAMP", "ARRAY", "MAP",
        "STRUCT", "STRING", "INTERVAL",
    ]  # fmt: skip
    assert [column.position for column in columns] == list(range(15))
    assert (columns[3].type_text, columns[3].type_precision, columns[3].type_scale) == ("DECIMAL(3,2)", 3, 2)
    assert columns[12].type_text == "STRUCT<x: STRING>"
    assert found.result.data_array == [[
        "1", "2", "3", "1.50", "0.1", "true", "x", "00ff", "2024-02-29", "2024-02-29T12:30:00.250Z", "[1,null]",
        '{"a":1}', '{"x":"y"}', None, "1 02:03:04",
    ]]  # fmt: skip
    assert (found.manifest.total_row_count, found.manifest.total_chunk_count) == (1, 1)


def test_parameters_are_values_and_never_text(admin: WorkspaceClient, schema: str) -> None:
    """What would be an injection arrives as the value that it is; types are those asked for."""
    evil = "x'; DROP TABLE victim; --"
    at = {"catalog": "main", "schema": schema}
    run(admin, "CREATE TABLE victim (name STRING, age INT)", **at)
    given = [Parameter(name="name", value=evil), Parameter(name="age", value="7", type="INT")]
    assert run(admin, "INSERT INTO victim VALUES (:name, :age)", parameters=given, **at).status.error is None
    found = rows(admin, "SELECT * FROM victim WHERE name = :name AND age = :age", parameters=given, **at)
    assert found == [[evil, "7"]]
    null = rows(admin, "SELECT :n IS NULL, :t + INTERVAL 1 DAY", parameters=[
        Parameter(name="n", type="INT"), Parameter(name="t", value="2024-02-28", type="DATE"),
    ])  # fmt: skip
    assert null[0] == ["true", "2024-02-29"]
    assert rows(admin, "SELECT count(*) FROM victim", **at) == [["1"]]


@pytest.mark.parametrize(
    ("parameter", "says"),
    [
        (Parameter(name="a", value="1", type="INT) OR (1=1"), "no type of a parameter"),
        (Parameter(name="a b", value="1"), "no name of a parameter"),
    ],
)
def test_a_parameter_that_is_none_is_refused(alice: WorkspaceClient, parameter: Parameter, says: str) -> None:
    with pytest.raises(InvalidParameterValue, match=says):
        run(alice, "SELECT :a", parameters=[parameter])


@pytest.mark.parametrize(
    ("text", "sql_state", "says"),
    [
        ("SELEC 1", "42601", "PARSE_SYNTAX_ERROR"),
        ("SELECT * FROM main.default.never_made", "42P01", "never_made"),
        ("SELECT CAST(:a AS INT)", "22018", "abc"),
        ("SELECT 1; SELECT 2", "42601", "one statement"),
        ("SELECT * FROM read_files('/etc/passwd')", "42883", "read_files"),
    ],
)
def test_a_failing_statement_says_why(alice: WorkspaceClient, text: str, sql_state: str, says: str) -> None:
    """As a state, not as an HTTP error; the history has the same."""
    found = run(alice, text, parameters=[Parameter(name="a", value="abc")])
    assert found.status.state is api.StatementState.FAILED
    assert found.status.error.error_code is api.ServiceErrorCode.BAD_REQUEST
    assert (found.status.sql_state, says in found.status.error.message) == (sql_state, True), found.status
    again = alice.statement_execution.get_statement(found.statement_id).status
    assert again.error.message == found.status.error.message


def test_each_statement_has_a_session_of_its_own(alice: WorkspaceClient) -> None:
    """Neither USE nor SET nor a temporary view reaches the next statement."""
    assert run(alice, "CREATE TEMPORARY VIEW mine AS SELECT 1").status.error is None
    assert run(alice, "SELECT * FROM mine").status.sql_state == "42P01"
    assert run(alice, "USE CATALOG system").status.error is None
    assert rows(alice, "SELECT current_catalog(), current_schema()") == [["main", "default"]]
    assert rows(alice, "SELECT current_catalog()", catalog="system") == [["system"]]
    assert run(alice, "SELECT 1", catalog="never_made").status.sql_state == "42P08"


def test_limits_of_rows_and_bytes_truncate(alice: WorkspaceClient) -> None:
    few = run(alice, "SELECT * FROM range(1000)", row_limit=3)
    assert (few.result.data_array, few.manifest.truncated) == ([["0"], ["1"], ["2"]], True)
    exact = run(alice, "SELECT * FROM range(3)", row_limit=3)
    assert (exact.manifest.total_row_count, exact.manifest.truncated) == (3, False)
    bytes_ = run(alice, "SELECT * FROM range(1000)", byte_limit=80)
    assert (bytes_.manifest.total_row_count, bytes_.manifest.truncated) == (10, True)
    shown = run(alice, "SHOW CATALOGS", row_limit=1)
    assert (shown.manifest.total_row_count, shown.manifest.truncated) == (1, True)


def test_an_inline_result_that_is_too_large_fails_and_says_what_to_do(alice: WorkspaceClient) -> None:
    found = run(alice, "SELECT id, repeat('x', 1000) FROM range(40000)")
    assert found.status.state is api.StatementState.FAILED
    assert "disposition=EXTERNAL_LINKS" in found.status.error.message


def test_a_large_result_through_links(alice: WorkspaceClient) -> None:
    """Chunks as Arrow, each behind a link that needs no credential, following one another."""
    text = "SELECT id, repeat(CAST(id AS STRING), 10) AS text FROM range(400000)"
    found = run(alice, text, disposition=EXTERNAL, format=api.Format.ARROW_STREAM)
    assert found.status.state is api.StatementState.SUCCEEDED, found.status
    assert found.manifest.total_chunk_count > 1
    ids: list[int] = []
    chunk: int | None = 0
    while chunk is not None:
        link = alice.statement_execution.get_statement_result_chunk_n(found.statement_id, chunk).external_links[0]
        table = pa.ipc.open_stream(fetch(link)).read_all()
        assert (link.row_offset, link.row_count) == (len(ids), table.num_rows)
        ids += table.column("id").to_pylist()
        chunk = link.next_chunk_index
    assert sorted(ids) == list(range(400000))
    assert sum(info.row_count for info in found.manifest.chunks) == found.manifest.total_row_count == 400000


def test_links_to_json_and_csv(alice: WorkspaceClient) -> None:
    text = "SELECT concat('id-', id) AS strCol, id AS intCol, NULL AS nullCol FROM range(2)"
    as_json = run(alice, text, disposition=EXTERNAL)
    assert json.loads(fetch(as_json.result.external_links[0])) == [["id-0", "0", None], ["id-1", "1", None]]
    as_csv = run(alice, text, disposition=EXTERNAL, format=api.Format.CSV)
    lines = list(csv.reader(io.StringIO(fetch(as_csv.result.external_links[0]).decode())))
    assert lines == [["strCol", "intCol", "nullCol"], ["id-0", "0", "null"], ["id-1", "1", "null"]]


def test_a_link_is_good_for_its_own_chunk_alone(any_server: Server, alice: WorkspaceClient) -> None:
    """Not for another chunk or call, not altered, and a user's token is no link."""
    one, two = (run(alice, f"SELECT {n}", disposition=EXTERNAL) for n in (1, 2))
    link, other = one.result.external_links[0].external_link, two.result.external_links[0].external_link
    path, _, signature = link.partition("?")
    signature = signature.partition("millpond-signature=")[2]
    tried = [
        other.partition("?")[0] + "?millpond-signature=" + signature,
        f"{path}?millpond-signature={signature[:-4]}AAAA",
        f"{path}?millpond-signature={any_server.token}",
        path,
        f"{any_server.url}/api/2.0/sql/statements/{one.statement_id}?millpond-signature={signature}",
        f"{any_server.url}/api/2.0/preview/scim/v2/Me?millpond-signature={signature}",
    ]
    for address in tried:
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(address, timeout=30)
        with refused.value as error:
            assert error.code in {401, 403}, address


def test_an_arrow_result_cannot_be_inline(alice: WorkspaceClient) -> None:
    with pytest.raises(InvalidParameterValue, match="EXTERNAL_LINKS"):
        run(alice, "SELECT 1", format=api.Format.ARROW_STREAM)


@pytest.mark.parametrize("wait", ["51s", "3s", "x", "-1s"])
def test_a_wrong_wait_timeout_is_refused(alice: WorkspaceClient, wait: str) -> None:
    with pytest.raises(InvalidParameterValue, match="wait_timeout"):
        run(alice, "SELECT 1", wait_timeout=wait)


def test_cancelling_reaches_the_engine(admin: WorkspaceClient, schema: str) -> None:
    """A cancelled statement ends soon, and what it would have written is not there."""
    run(admin, "CREATE TABLE target (n BIGINT)", catalog="main", schema=schema)
    began = run(admin, f"INSERT INTO target {SLOW}", catalog="main", schema=schema, wait_timeout="0s")
    assert began.status.state in {api.StatementState.PENDING, api.StatementState.RUNNING}
    wait_until(lambda: _state(admin, began) is api.StatementState.RUNNING, what="the statement to run")
    admin.statement_execution.cancel_execution(began.statement_id)
    assert ended(admin, began.statement_id).state is api.StatementState.CANCELED
    assert rows(admin, "SELECT count(*) FROM target", catalog="main", schema=schema) == [["0"]]


def _state(w: WorkspaceClient, statement: api.StatementResponse) -> api.StatementState:
    return w.statement_execution.get_statement(statement.statement_id).status.state


def test_what_takes_longer_than_its_wait_is_cancelled_on_demand(alice: WorkspaceClient) -> None:
    cancel = api.ExecuteStatementRequestOnWaitTimeout.CANCEL
    found = run(alice, SLOW, wait_timeout="5s", on_wait_timeout=cancel)
    assert found.status.state is api.StatementState.CANCELED


def test_a_warehouse_queues_what_it_has_no_room_for(admin: WorkspaceClient) -> None:
    """Two run, one waits and can be cancelled there; stopping the warehouse ends the others, and says so."""
    small = admin.warehouses.create(name=f"two-{uuid.uuid4().hex[:6]}", cluster_size="2X-Small").result(PATIENCE)
    sent = [run(admin, SLOW, warehouse_id=small.id, wait_timeout="0s") for _ in range(3)]
    wait_until(lambda: all(_state(admin, one) is api.StatementState.RUNNING for one in sent[:2]), what="two to run")
    assert _state(admin, sent[2]) is api.StatementState.PENDING
    admin.statement_execution.cancel_execution(sent[2].statement_id)
    assert ended(admin, sent[2].statement_id).state is api.StatementState.CANCELED
    admin.warehouses.stop(small.id)
    for one in sent[:2]:
        status = ended(admin, one.statement_id)
        assert (status.state, status.error.error_code) == (api.StatementState.FAILED, api.ServiceErrorCode.ABORTED)
        assert "warehouse was stopped" in status.error.message
    admin.warehouses.delete(small.id)


def test_a_statement_that_takes_longer_than_its_warehouse_allows_fails(admin: WorkspaceClient) -> None:
    quick = admin.warehouses.create(name=f"q-{uuid.uuid4().hex[:6]}", statement_timeout=1).result(PATIENCE)
    status = run(admin, SLOW, warehouse_id=quick.id).status
    assert (status.state, status.error.error_code) == (
        api.StatementState.FAILED, api.ServiceErrorCode.DEADLINE_EXCEEDED,
    )  # fmt: skip
    admin.warehouses.delete(quick.id)


def test_anothers_statement_is_not_there(
    any_server: Server, alice: WorkspaceClient, mallory: WorkspaceClient, admin: WorkspaceClient
) -> None:
    """Its id opens nothing: not the rows, not the text, not its end. An administrator may look."""
    done = run(alice, "SELECT 'secret' AS s")
    link = run(alice, "SELECT 'secret' AS s", disposition=EXTERNAL)
    running = run(alice, SLOW, wait_timeout="0s")
    execution = mallory.statement_execution
    for attempt in (
        lambda: execution.get_statement(done.statement_id),
        lambda: execution.get_statement_result_chunk_n(done.statement_id, 0),
        lambda: execution.get_statement_result_chunk_n(link.statement_id, 0),
        lambda: execution.cancel_execution(running.statement_id),
        lambda: mallory.api_client.do("DELETE", f"/api/2.0/sql/statements/{done.statement_id}"),
        lambda: mallory.api_client.do("GET", f"/api/2.0/sql/statements/{link.statement_id}/result/chunks/0/data"),
    ):
        with pytest.raises(NotFound):
            attempt()
    assert _state(alice, running) in {api.StatementState.PENDING, api.StatementState.RUNNING}
    assert alice.statement_execution.get_statement(done.statement_id).result.data_array == [["secret"]]
    assert admin.statement_execution.get_statement(done.statement_id).status.state is api.StatementState.SUCCEEDED
    alice.statement_execution.cancel_execution(running.statement_id)


def test_a_statement_sees_what_its_sender_may_see(
    admin: WorkspaceClient, mallory: WorkspaceClient, schema: str
) -> None:
    run(admin, "CREATE TABLE hidden AS SELECT 42 AS answer", catalog="main", schema=schema)
    refused = run(mallory, f"SELECT * FROM main.{schema}.hidden").status
    assert (refused.state, refused.sql_state) == (api.StatementState.FAILED, "42P01")


def test_a_closed_result_is_gone(alice: WorkspaceClient) -> None:
    found = run(alice, "SELECT 1", disposition=EXTERNAL)
    alice.api_client.do("DELETE", f"/api/2.0/sql/statements/{found.statement_id}")
    assert _state(alice, found) is api.StatementState.CLOSED
    with pytest.raises(NotFound):
        alice.statement_execution.get_statement_result_chunk_n(found.statement_id, 0)
    with pytest.raises(urllib.error.HTTPError):
        fetch(found.result.external_links[0])


def test_a_chunk_that_the_result_does_not_have(alice: WorkspaceClient) -> None:
    found = run(alice, "SELECT 1")
    for index in (1, -1):
        with pytest.raises(BadRequest, match="chunks 0 to 0"):
            alice.statement_execution.get_statement_result_chunk_n(found.statement_id, index)


# Saved queries and history


def test_a_saved_query_from_creation_to_the_trash(alice: WorkspaceClient, mallory: WorkspaceClient) -> None:
    draft = api.CreateQueryRequestQuery(
        display_name="Churn by month", query_text="SELECT 1", warehouse_id=STARTER, catalog="main", schema="default",
        tags=["churn"], run_as_mode=api.RunAsMode.VIEWER,
        parameters=[api.QueryParameter(name="n", text_value=api.TextValue(value="7"))],
    )  # fmt: skip
    made = alice.queries.create(query=draft)
    assert made.as_dict() == alice.queries.get(made.id).as_dict()
    assert (made.tags, made.schema, made.parameters[0].text_value.value) == (["churn"], "default", "7")
    changed = alice.queries.update(
        made.id, "query_text,description",
        query=api.UpdateQueryRequestQuery(query_text="SELECT 2", description="d", display_name="not in the mask"),
    )  # fmt: skip
    assert (changed.query_text, changed.description, changed.display_name) == ("SELECT 2", "d", "Churn by month")
    with pytest.raises(InvalidParameterValue, match="colour"):
        alice.queries.update(made.id, "colour", query=api.UpdateQueryRequestQuery())
    for attempt in (
        lambda: mallory.queries.get(made.id),
        lambda: mallory.queries.delete(made.id),
        lambda: mallory.queries.update(made.id, "query_text", query=api.UpdateQueryRequestQuery(query_text="x")),
    ):
        with pytest.raises(NotFound) as refused:
            attempt()
        assert "Churn" not in str(refused.value)
    assert made.id not in {one.id for one in mallory.queries.list()}
    alice.queries.delete(made.id)
    assert made.id not in {one.id for one in alice.queries.list()}
    assert alice.queries.get(made.id).lifecycle_state is api.LifecycleState.TRASHED


def test_saved_queries_are_listed_in_pages_and_can_be_given_away(
    alice: WorkspaceClient, mallory: WorkspaceClient
) -> None:
    made = [alice.queries.create(query=api.CreateQueryRequestQuery(display_name=f"q{n}")) for n in range(5)]
    listed = [one.id for one in alice.queries.list(page_size=2)]
    assert listed[-5:] == [one.id for one in made]
    heir = mallory.current_user.me().user_name
    alice.queries.update(made[0].id, "owner_user_name", query=api.UpdateQueryRequestQuery(owner_user_name=heir))
    assert mallory.queries.get(made[0].id).owner_user_name == heir
    with pytest.raises(NotFound):
        alice.queries.get(made[0].id)


def test_a_renamed_group_keeps_its_queries(admin: WorkspaceClient, alice: WorkspaceClient) -> None:
    """Else they would be those of whichever group gets the old name next."""
    old, new = (f"{name}-{uuid.uuid4().hex[:6]}" for name in ("team", "crew"))
    member = iam.ComplexValue(value=alice.current_user.me().id)
    group = admin.groups.create(display_name=old, members=[member])
    made = admin.queries.create(query=api.CreateQueryRequestQuery(display_name="ours"))
    admin.queries.update(made.id, "owner_user_name", query=api.UpdateQueryRequestQuery(owner_user_name=old))
    rename = iam.Patch(op=iam.PatchOp.REPLACE, path="displayName", value=new)
    admin.groups.patch(
        group.id or "", operations=[rename], schemas=[iam.PatchSchema.URN_IETF_PARAMS_SCIM_API_MESSAGES_2_0_PATCH_OP]
    )
    assert alice.queries.get(made.id).owner_user_name == new


def test_the_history_tells_who_ran_what_and_how_it_went(
    admin: WorkspaceClient, alice: WorkspaceClient, mallory: WorkspaceClient
) -> None:
    """Filters, pages and metrics; text for its sender and administrators only."""
    began = int(time.time() * 1000)
    sent = [run(alice, text) for text in ("SELECT * FROM range(7)", "SELEC", "SHOW CATALOGS")]
    window = api.TimeRange(start_time_ms=began)
    mine = alice.query_history.list(filter_by=api.QueryFilter(query_start_time_range=window), include_metrics=True).res
    assert [one.query_id for one in mine] == [one.statement_id for one in reversed(sent)]
    first = mine[-1]
    assert (first.query_text, first.status, first.rows_produced) == (
        "SELECT * FROM range(7)", api.QueryStatus.FINISHED, 7,
    )  # fmt: skip
    assert first.metrics.total_time_ms == first.duration >= 0
    assert first.user_name == alice.current_user.me().user_name
    assert "PARSE_SYNTAX_ERROR" in mine[1].error_message
    assert [one.statement_type for one in mine] == [
        api.QueryStatementType.SHOW, api.QueryStatementType.OTHER, api.QueryStatementType.SELECT,
    ]  # fmt: skip
    failed = api.QueryFilter(query_start_time_range=window, statuses=[api.QueryStatus.FAILED])
    assert [one.query_id for one in alice.query_history.list(filter_by=failed).res] == [sent[1].statement_id]
    page = alice.query_history.list(filter_by=api.QueryFilter(query_start_time_range=window), max_results=2)
    assert page.has_next_page
    rest = alice.query_history.list(
        filter_by=api.QueryFilter(query_start_time_range=window), page_token=page.next_page_token
    )
    assert [one.query_id for one in rest.res] == [sent[0].statement_id]

    alice_id = int(alice.current_user.me().id)
    theirs = api.QueryFilter(query_start_time_range=window, user_ids=[alice_id])
    assert len(admin.query_history.list(filter_by=theirs).res) == 3
    by_id = api.QueryFilter(statement_ids=[sent[0].statement_id])
    assert not mallory.query_history.list(filter_by=by_id).res
    with pytest.raises(PermissionDenied):
        mallory.query_history.list(filter_by=theirs)


def test_a_running_statement_is_in_the_history(alice: WorkspaceClient) -> None:
    began = run(alice, SLOW, wait_timeout="0s")
    wait_until(lambda: _state(alice, began) is api.StatementState.RUNNING, what="the statement to run")
    running = api.QueryFilter(statuses=[api.QueryStatus.RUNNING])
    found = [one for one in alice.query_history.list(filter_by=running).res if one.query_id == began.statement_id]
    assert (found[0].status, found[0].is_final) == (api.QueryStatus.RUNNING, False)
    alice.statement_execution.cancel_execution(began.statement_id)
    assert ended(alice, began.statement_id).state is api.StatementState.CANCELED
